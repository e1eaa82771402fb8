/** Write lines with real objects: the order of writes, the loss of an object, full lines, and kills, which wait in no line. */

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { MAX_AHEAD } from "../../../durable-objects/write-line/turns.ts";
import { runDue } from "../../../workers/admin/due.ts";
import { inTurn } from "../../../workers/admin/write/write-line-client.ts";
import { BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "writer" });

const lineOf = (project: string) => env.WRITE_LINE.get(env.WRITE_LINE.idFromName(project));

/** A write that has its turn and does not end. */
async function stuckWriter(project: string, environments: string[] | null = ["production"]) {
  const entered = await lineOf(project).enter(environments);
  expect(entered.isTurn).toBe(true);
  return entered;
}

const addUser = (there: string, user: string) =>
  api("POST", `${there}/instructions`, { instructions: [{ kind: "addTargets", variation: "on", values: [user] }] });

test("a write waits for the one before it, and for no write of another environment or project", async () => {
  const [project, other] = [await newProject(api), await newProject(api)];
  const flag = await newFlag(api, project, "waiting");
  const elsewhere = await newFlag(api, other, "elsewhere");
  const stuck = await stuckWriter(project);
  let isDone = false;
  const waiting = addUser(`${flag}/environments/production`, "u").then((answer) => {
    isDone = true;
    return answer;
  });
  expect((await addUser(`${flag}/environments/development`, "u")).status).toBe(200);
  expect((await addUser(`${elsewhere}/environments/production`, "u")).status).toBe(200);
  expect(isDone).toBe(false);
  stuck[Symbol.dispose]();
  expect((await waiting).status).toBe(200);
});

test("kill and restore pass every line, of the environment and of the whole project (R7)", async () => {
  const project = await newProject(api);
  const flag = await newFlag(api, project, "dangerous");
  const stuck = await stuckWriter(project, null);
  const waiting = [1, 2, 3].map((n) => addUser(`${flag}/environments/production`, `u${n}`));
  for (const action of ["kill", "restore", "kill"]) {
    const { status, body } = await api("POST", `${flag}/environments/production/${action}?wait=0`, { reason: "r" });
    expect([status, body.killed !== null]).toEqual([200, action === "kill"]);
  }
  stuck[Symbol.dispose]();
  for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(200);
  expect((await api("GET", `${flag}/environments/production`)).body.killed).not.toBeNull();
});

test("a write to a full line is 429 with how many wait and Retry-After, and writes nothing (Q9)", async () => {
  const project = await newProject(api);
  const flag = `${await newFlag(api, project, "popular")}/environments/production`;
  const stuck = await stuckWriter(project);
  const line = lineOf(project);
  const entered: Disposable[] = [];
  for (let isFull = false; !isFull; ) {
    const one = await line.enter(["production"]);
    isFull = one.place === null;
    if (!isFull) entered.push(one);
  }
  const ahead = entered.length + 1;
  expect(ahead).toBeLessThanOrEqual(MAX_AHEAD);
  const { status, headers, body } = await addUser(flag, "too-many");
  expect([status, body.code, body.waiting]).toEqual([429, "too-many-requests", ahead]);
  expect(body.detail).toContain(`${ahead} writes to ${project}/production are waiting`);
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
  expect((await api("GET", flag)).body.version).toBe(1);
  for (const one of [...entered, stuck]) one[Symbol.dispose]();
  expect((await addUser(flag, "later")).status).toBe(200);
});

test("writes that wait when the line's object is lost get their turn at the next one", async () => {
  const project = await newProject(api);
  const flag = `${await newFlag(api, project, "abandoned")}/environments/production`;
  await stuckWriter(project);
  const waiting = [1, 2, 3].map((n) => addUser(flag, `u${n}`));
  await vi.waitFor(async () => expect((await lineOf(project).enter(["production"])).ahead).toBeGreaterThanOrEqual(4));
  await runInDurableObject(lineOf(project), async (_, state) => state.abort("its machine is lost")).catch(() => {});
  for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(200);
  expect((await api("GET", flag)).body.targets[0].values.toSorted()).toEqual(["u1", "u2", "u3"]);
});

test("a schedule that is due while the line is full is executed later (R9)", async () => {
  const project = await newProject(api);
  await newFlag(api, project, "planned");
  const at = Date.now() + 60_000;
  const { body: scheduled } = await api("POST", `/projects/${project}/schedules`, {
    flag: "planned",
    environment: "production",
    at,
    instructions: [{ kind: "turnOn" }],
  });
  const places: Disposable[] = [];
  for (let isFull = false; !isFull; ) {
    const one = await lineOf(project).enter(["production"]);
    isFull = one.place === null;
    places.push(one);
  }
  const statusOf = async () => (await api("GET", `/projects/${project}/schedules/${scheduled.id}`)).body.status;
  await runDue(env, () => at + 1);
  expect(await statusOf()).toBe("pending");
  for (const one of places) one[Symbol.dispose]();
  await runDue(env, () => at + 1);
  expect(await statusOf()).toBe("done");
});

test("a write is made without a turn if the line does not respond", async () => {
  const silent = { get: () => ({ enter: () => new Promise(() => {}) }), idFromName: () => null };
  const broken = { get: () => ({ enter: () => Promise.reject(new Error("no such object")) }), idFromName: () => null };
  for (const namespace of [silent, broken]) {
    const bindings = { WRITE_LINE: namespace as unknown as typeof env.WRITE_LINE };
    expect(await inTurn(bindings, { project: "p", environment: "e" }, async () => "written")).toBe("written");
  }
});

test("a write that fails leaves its line", async () => {
  const project = await newProject(api);
  const flag = `${await newFlag(api, project, "dropped")}/environments/production`;
  await expect(
    inTurn(env, { project, environment: "production" }, () => Promise.reject(new Error("the writer failed"))),
  ).rejects.toThrow("the writer failed");
  expect((await addUser(flag, "next")).status).toBe(200);
});

test("edits, a bulk, a promotion, a due schedule and a published change request at once: all succeed", async () => {
  const project = await newProject(api);
  const keys = Array.from({ length: 12 }, (_, n) => `flag-${n}`);
  for (const key of keys) await newFlag(api, project, key);
  const base = `/projects/${project}`;
  const request = await api("POST", `${base}/change-requests`, {
    title: "On",
    change: {
      operation: "editTargeting",
      path: { flag: "flag-1", environment: "production" },
      body: { instructions: [{ kind: "turnOn" }] },
    },
  });
  const at = Date.now() + 60_000;
  const scheduled = await api("POST", `${base}/schedules`, {
    flag: "flag-2",
    environment: "production",
    at,
    instructions: [{ kind: "turnOn" }],
  });
  expect([request.status, scheduled.status]).toEqual([201, 201]);
  const editors = await Promise.all([1, 2, 3].map((n) => newToken({ name: `editor ${n}` })));
  const answers = await Promise.all([
    ...keys
      .slice(3, 9)
      .flatMap((key, index) =>
        ["production", "development"].map((environment) =>
          editors[index % 3]!("POST", `${base}/flags/${key}/environments/${environment}/on`, {}),
        ),
      ),
    api("POST", `${base}/flags/bulk`, { action: "archive", keys: keys.slice(10) }),
    api("POST", `${base}/promote`, { from: "development", to: "production", items: [{ flag: "flag-9" }] }),
    api("POST", `${base}/change-requests/${request.body.id}/publish`, {}),
    api("POST", `${base}/environments`, { key: "staging" }),
    api("POST", `${base}/flags`, { key: "made-meanwhile", type: "boolean", variations: BOOLEAN }),
    runDue(env, () => at + 1).then(() => ({ status: 200, body: null })),
  ]);
  expect(answers.map(({ status }) => status).filter((status) => status >= 300)).toEqual([]);
  for (const key of ["flag-1", "flag-2", "flag-3", "flag-8"])
    expect((await api("GET", `${base}/flags/${key}/environments/production`)).body.on).toBe(true);
});
