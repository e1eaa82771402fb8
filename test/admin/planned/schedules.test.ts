import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { runDue } from "../../../workers/admin/due.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const HOUR = 3_600_000;
const ada = await newToken({ name: "Ada" });
const project = await newProject(ada);
const path = `/projects/${project}/schedules`;
let count = 0;

/** A flag of its own, and a schedule for it in production, an hour from now unless told. */
async function planned(fields: object = {}) {
  const key = `scheduled-${++count}`;
  const there = `${await newFlag(ada, project, key)}/environments/production`;
  const at = Date.now() + HOUR;
  const instructions = [{ kind: "turnOn" }];
  const body = { environment: "production", flag: key, at, instructions, reason: "Launch", ...fields };
  const made = await ada("POST", path, "fields" in fields ? { ...body, instructions: undefined } : body);
  const read = async () => (await ada("GET", `${path}/${made.body.id}`)).body;
  const on = async () => (await ada("GET", there)).body.on as boolean;
  return { key, there, at, made, read, on, id: made.body.id as string };
}

const run = (at: number) => runDue(env, () => at);
const log = async (query: string) => (await ada("GET", `/audit?project=${project}&${query}&limit=100`)).body.items;

describe("a schedule", () => {
  test("is told what it would do now, and changes nothing before its time", async () => {
    const { made, on, at, key, id } = await planned();
    expect([made.status, made.headers.get("etag")]).toEqual([201, '"v1"']);
    expect(made.body).toMatchObject({
      environment: "production",
      flag: key,
      at,
      status: "pending",
      failure: null,
      instructions: [{ kind: "turnOn" }],
      author: { actor: "Ada" },
      warnings: [],
      preview: {
        changes: { on: { from: false, to: true } },
        moved: [{ environment: "production", rule: null, movements: [{ from: "off", to: "on", weight: 100_000 }] }],
        share: 100_000,
      },
    });
    await run(at - 1);
    expect(await on()).toBe(false);
    expect((await log(`type=schedule&key=${id}`)).map(({ action }: { action: string }) => action)).toEqual([
      "schedule.create",
    ]);
  });

  test("makes its change at its time, as its author, and the audit log names it (R9)", async () => {
    const { at, on, read, key, id } = await planned();
    await run(at);
    expect(await on()).toBe(true);
    expect(await read()).toMatchObject({ status: "done", endedAt: at, version: 2 });
    const [entry] = await log(`type=flag&key=${key}&action=flag.update`);
    expect(entry).toMatchObject({
      actor: "Ada",
      schedule: id,
      ramp: null,
      reason: "Launch",
      timestamp: at,
      changes: { on: { from: false, to: true } },
    });
    expect((await log(`type=schedule&key=${id}`))[0]).toMatchObject({ action: "schedule.run", schedule: id });
  });

  test("runs once, however many ask at once and however often (Q8)", async () => {
    const { at, there, key, id } = await planned({ fields: { fallthrough: { variation: "off" } } });
    await Promise.all(Array.from({ length: 6 }, () => run(at)));
    await run(at + HOUR);
    expect((await ada("GET", there)).body).toMatchObject({ version: 2, fallthrough: { variation: "off" } });
    expect(await log(`type=flag&key=${key}&action=flag.update`)).toHaveLength(1);
    expect(await log(`type=schedule&key=${id}&action=schedule.run`)).toHaveLength(1);
  });

  test("that missed its time runs late, and after those that were due before it", async () => {
    const first = await planned({ at: Date.now() + HOUR });
    const later = { at: first.at + 60_000, environment: "production", flag: first.key };
    const off = await ada("POST", path, { ...later, fields: { on: false } });
    await run(first.at + 12 * HOUR);
    expect(await first.read()).toMatchObject({ status: "done", endedAt: first.at + 12 * HOUR });
    expect((await ada("GET", `${path}/${off.body.id}`)).body.status).toBe("done");
    expect((await ada("GET", first.there)).body).toMatchObject({ on: false, version: 3 });
  });

  test("whose change is there already is done, and changes nothing", async () => {
    const { at, there, read } = await planned();
    await ada("PATCH", there, { on: true });
    await run(at);
    expect(await read()).toMatchObject({ status: "done" });
    expect((await ada("GET", there)).body.version).toBe(2);
  });

  test("that cannot run any more fails visibly, with its problem, and is not tried again", async () => {
    const rule = {
      id: "beta",
      conditions: [{ attribute: "plan", op: "in", values: ["x"] }],
      serve: { variation: "on" },
    };
    const { there, key } = await planned();
    await ada("PATCH", there, { rules: [rule] });
    const instructions = [{ kind: "turnOn" }, { kind: "removeRule", rule: "beta" }];
    const at = Date.now() + 2 * HOUR;
    const made = await ada("POST", path, { environment: "production", flag: key, at, instructions });
    await ada("PATCH", there, { rules: [] });
    const archived = await planned();
    await ada("POST", `/projects/${project}/flags/${archived.key}/archive`, {});
    await run(at);
    await run(at + HOUR);
    const failed = (await ada("GET", `${path}/${made.body.id}`)).body;
    expect(failed).toMatchObject({
      status: "failed",
      endedAt: at,
      failure: { code: "rule-gone", errors: [{ pointer: "/instructions/1/rule" }] },
    });
    expect(await archived.read()).toMatchObject({ status: "failed", failure: { code: "archived" } });
    const entries = await log(`type=schedule&key=${archived.id}`);
    expect(entries.map(({ action }: { action: string }) => action)).toEqual(["schedule.fail", "schedule.create"]);
  });

  test("is not for another flag of the same key", async () => {
    const { at, key, read } = await planned();
    const flag = `/projects/${project}/flags/${key}`;
    await ada("POST", `${flag}/archive`, {});
    await ada("DELETE", flag);
    await newFlag(ada, project, key);
    await run(at);
    expect(await read()).toMatchObject({ status: "failed", failure: { code: "flag-replaced" } });
  });

  test("can be moved, changed and cancelled before its time, and not after it", async () => {
    const { at, id, on, read } = await planned();
    const moved = await ada("PATCH", `${path}/${id}`, { at: at + HOUR, reason: "later" }, { "if-match": '"v1"' });
    expect([moved.status, moved.headers.get("etag")]).toEqual([200, '"v2"']);
    expect((await ada("PATCH", `${path}/${id}`, { at }, { "if-match": '"v1"' })).status).toBe(412);
    await run(at);
    expect(await on()).toBe(false);
    const changed = await ada("PATCH", `${path}/${id}`, { fields: { on: true, offVariation: null } });
    expect(changed.body).toMatchObject({ fields: { on: true }, preview: { changes: { offVariation: { to: null } } } });
    expect(changed.body).not.toHaveProperty("instructions");
    expect((await ada("DELETE", `${path}/${id}`)).status).toBe(204);
    expect((await ada("DELETE", `${path}/${id}`)).status).toBe(204);
    await run(at + 2 * HOUR);
    expect([await on(), (await read()).status]).toEqual([false, "cancelled"]);
    const late = await ada("PATCH", `${path}/${id}`, { at: at + 9 * HOUR });
    expect([late.status, late.body.code]).toEqual([409, "schedule-ended"]);
    expect((await log(`type=schedule&key=${id}`)).map(({ action }: { action: string }) => action)).toEqual([
      "schedule.cancel",
      "schedule.update",
      "schedule.update",
      "schedule.create",
    ]);
  });

  test("either runs or is cancelled, never both", async () => {
    const { at, id, on } = await planned();
    const [cancelled] = await Promise.all([ada("DELETE", `${path}/${id}`), run(at)]);
    expect(await on()).toBe(cancelled.status === 409);
    expect([204, 409]).toContain(cancelled.status);
  });

  test("is made once by a request that is repeated", async () => {
    const { key, at } = await planned();
    const body = { environment: "production", flag: key, at, fields: { on: true } };
    const make = () => ada("POST", path, body, { "idempotency-key": `again-${key}` });
    const [one, other] = [await make(), await make()];
    expect([one.status, other.status, other.body.id]).toEqual([201, 201, one.body.id]);
  });

  test("with mistakes is refused, each with its place", async () => {
    const { key } = await planned();
    const at = Date.now() + HOUR;
    const refused = async (body: object) => {
      const { status, body: answer } = await ada("POST", path, { environment: "production", flag: key, at, ...body });
      return [status, answer.code, ...(answer.errors ?? []).map(({ pointer }: { pointer: string }) => pointer)];
    };
    const edit = { fields: { on: true } };
    expect(await refused({})).toEqual([400, "invalid-request", "/fields", "/instructions"]);
    expect((await refused({ ...edit, instructions: [{ kind: "turnOn" }] }))[0]).toBe(400);
    expect(await refused({ ...edit, at: 1_760_000_000 })).toEqual([400, "invalid-request", "/at"]);
    expect(await refused({ ...edit, at: at + 400 * 24 * HOUR })).toEqual([400, "invalid-request", "/at"]);
    expect(await refused({ fields: { on: "yes" } })).toEqual([400, "invalid-request", "/fields/on"]);
    expect(await refused({ fields: { offVariation: "blue" } })).toEqual([400, "invalid-request", "/offVariation"]);
    expect(await refused({ instructions: [{ kind: "removeRule", rule: "gone" }] })).toEqual([
      409,
      "rule-gone",
      "/instructions/0/rule",
    ]);
    expect(await refused({ ...edit, flag: "nothing" })).toEqual([404, "not-found"]);
    expect(await refused({ ...edit, environment: "nowhere" })).toEqual([404, "not-found"]);
    const values = Array.from({ length: 10_000 }, (_, index) => `user-${index}`);
    expect(await refused({ fields: { targets: [{ variation: "on", values }] } })).toEqual([
      400,
      "invalid-request",
      "/fields",
    ]);
  });

  test("is found by environment, flag and status, page by page, in the order of times", async () => {
    const listed = await newProject(ada);
    await newFlag(ada, listed, "a");
    await newFlag(ada, listed, "b");
    const start = Date.now() + HOUR;
    for (let index = 0; index < 5; index++) {
      const environment = index % 2 === 0 ? "production" : "development";
      const body = {
        environment,
        flag: index === 4 ? "b" : "a",
        at: start + (4 - index) * 1_000,
        fields: { on: true },
      };
      await ada("POST", `/projects/${listed}/schedules`, body);
    }
    const page = async (query: string) => (await ada("GET", `/projects/${listed}/schedules?${query}`)).body;
    const flags = (items: { at: number }[]) => items.map(({ at }) => (at - start) / 1_000);
    const first = await page("limit=2");
    expect(flags(first.items)).toEqual([0, 1]);
    const second = await page(`limit=2&cursor=${first.nextCursor}`);
    expect(flags(second.items)).toEqual([2, 3]);
    expect(flags((await page("sort=-at")).items)).toEqual([4, 3, 2, 1, 0]);
    expect(flags((await page("environment=development")).items)).toEqual([1, 3]);
    expect(flags((await page("flag=b")).items)).toEqual([0]);
    expect((await page("status=done")).items).toEqual([]);
  });

  test("is only for those whose scope holds its environment", async () => {
    const { key, id, at } = await planned();
    const scope = { projects: [], environments: [`${project}/development`] };
    const dev = await newToken({ role: "editor", scope });
    const body = { environment: "production", flag: key, at, fields: { on: true } };
    expect((await dev("POST", path, body)).status).toBe(403);
    expect((await dev("POST", path, { ...body, environment: "development" })).status).toBe(201);
    for (const [method, to] of [
      ["GET", `${path}/${id}`],
      ["PATCH", `${path}/${id}`],
      ["DELETE", `${path}/${id}`],
    ] as const) {
      expect([method, (await dev(method, to, method === "PATCH" ? { at } : undefined)).status]).toEqual([method, 404]);
    }
    const { items } = (await dev("GET", path)).body;
    expect(new Set(items.map(({ environment }: { environment: string }) => environment))).toEqual(
      new Set(["development"]),
    );
    const viewer = await newToken({ role: "viewer" });
    expect((await viewer("POST", path, body)).status).toBe(403);
    expect((await viewer("GET", `${path}/${id}`)).status).toBe(200);
    const elsewhere = await newToken({ scope: { projects: ["elsewhere"], environments: [] } });
    expect((await elsewhere("GET", `${path}/${id}`)).status).toBe(403);
  });

  test("goes with its environment", async () => {
    const gone = await newProject(ada);
    await newFlag(ada, gone, "a");
    const body = { environment: "development", flag: "a", at: Date.now() + HOUR, fields: { on: true } };
    const { body: made } = await ada("POST", `/projects/${gone}/schedules`, body);
    expect((await ada("DELETE", `/projects/${gone}/environments/development`)).status).toBe(204);
    expect((await ada("GET", `/projects/${gone}/schedules/${made.id}`)).status).toBe(404);
    await run(body.at);
    expect(await log(`type=schedule&key=${made.id}`)).toEqual([]);
  });

  test("of the next second runs in real time: the timer wakes the Worker", async () => {
    const { on, read } = await planned({ at: Date.now() + 1_500 });
    expect(await on()).toBe(false);
    await vi.waitFor(async () => expect(await read()).toMatchObject({ status: "done" }), 20_000);
    expect(await on()).toBe(true);
  });
});
