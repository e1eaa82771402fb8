import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { runDue } from "../../../workers/admin/due.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";
import { setFaults, withFaults } from "../../support/faults.ts";

const MINUTE = 60_000;
const ada = await newToken({ name: "Ada" });
const project = await newProject(ada);
const path = `/projects/${project}/ramps`;
const STEPS = [5_000, 25_000, 50_000].map((weight) => ({ weight, forMs: 10 * MINUTE }));
const steps = [...STEPS, { weight: 100_000 }];
const rule = { id: "beta", conditions: [{ attribute: "plan", op: "in", values: ["x"] }], serve: { variation: "off" } };
let count = 0;

/** A flag of its own that serves `off` to everybody in production. */
async function served(fields: object = {}, variations?: { key: string; value: unknown }[]) {
  const key = `ramped-${++count}`;
  const flag = await newFlag(ada, project, key, variations && { type: "string", variations });
  const there = `${flag}/environments/production`;
  await ada("PATCH", there, { on: true, fallthrough: { variation: variations?.[0]?.key ?? "off" }, ...fields });
  const serve = async () => (await ada("GET", there)).body.fallthrough;
  const weights = async () => (await serve()).split?.weights ?? (await serve());
  return { key, flag, there, serve, weights };
}

/** A ramp from 5 to 100 % that has just begun. */
async function ramped(fields: object = {}) {
  const flag = await served();
  const body = { environment: "production", flag: flag.key, variation: "on", steps, reason: "Launch", ...fields };
  const made = await ada("POST", path, body);
  const read = async () => (await ada("GET", `${path}/${made.body.id}`)).body;
  const say = (verb: string, body: object = {}, headers?: Record<string, string>) =>
    ada("POST", `${path}/${made.body.id}/${verb}`, body, headers);
  return { ...flag, made, read, say, id: made.body.id as string, next: made.body.nextAt as number };
}

const run = (at: number) => runDue(env, () => at);
const log = async (query: string) => (await ada("GET", `/audit?project=${project}&${query}&limit=100`)).body.items;
const actions = async (id: string) =>
  (await log(`type=ramp&key=${id}`)).map(({ action }: { action: string }) => action);

describe("a ramp", () => {
  test("begins with its first step, and shows what its last one would do", async () => {
    const { made, weights, key, id } = await ramped();
    expect([made.status, made.headers.get("etag")]).toEqual([201, '"v1"']);
    expect(made.body).toMatchObject({
      flag: key,
      rule: null,
      status: "running",
      step: 0,
      pause: null,
      began: { variation: "off" },
      steps: [...STEPS, { weight: 100_000, forMs: 0 }],
      author: { actor: "Ada" },
      preview: { moved: [{ rule: null, movements: [{ from: "off", to: "on", weight: 100_000 }] }] },
      revision: expect.any(Number),
      receiptPath: expect.any(String),
    });
    expect(await weights()).toEqual({ on: 5_000, off: 95_000 });
    const [entry] = await log(`type=flag&key=${key}&action=flag.update`);
    expect(entry).toMatchObject({ ramp: id, schedule: null, actor: "Ada", reason: "Launch" });
    expect(await actions(id)).toEqual(["ramp.create"]);
  });

  test("takes each step in its time, moves nobody back, and is finished (R6, X3)", async () => {
    const { weights, serve, read, id, next, key } = await ramped();
    const held = async () =>
      (await serve()).split.ranges.filter(({ variation }: { variation: string }) => variation === "on");
    let before = await held();
    await run(next - 1);
    expect(await weights()).toMatchObject({ on: 5_000 });
    for (const [index, weight] of [25_000, 50_000, 100_000].entries()) {
      await run(next + index * 10 * MINUTE);
      expect(await weights()).toMatchObject({ on: weight });
      const now = await held();
      for (const { from, to } of before) {
        expect(now.some((range: { from: number; to: number }) => range.from <= from && range.to >= to)).toBe(true);
      }
      before = now;
    }
    expect(await read()).toMatchObject({ status: "finished", step: 3, nextAt: null, endedAt: next + 20 * MINUTE });
    await run(next + 90 * MINUTE);
    const entries = await log(`type=flag&key=${key}&action=flag.update`);
    expect(entries.filter(({ ramp }: { ramp: string }) => ramp === id)).toHaveLength(4);
    expect(await actions(id)).toEqual(["ramp.finish", "ramp.step", "ramp.step", "ramp.create"]);
  });

  test("takes a step once, however many ask at once (Q8)", async () => {
    const { weights, read, next } = await ramped();
    await Promise.all(Array.from({ length: 6 }, () => run(next)));
    expect([await weights(), (await read()).version]).toEqual([{ on: 25_000, off: 75_000 }, 2]);
  });

  test("does not hurry after an outage: a late step has its whole time", async () => {
    const { weights, read, next } = await ramped();
    const late = next + 300 * MINUTE;
    await run(late);
    await run(late + MINUTE);
    expect(await weights()).toMatchObject({ on: 25_000 });
    expect(await read()).toMatchObject({ step: 1, nextAt: late + 10 * MINUTE });
  });

  test("is paused, resumed and moved by people, and goes back to exactly where it began (X3)", async () => {
    const { say, serve, weights, next, read, id } = await ramped();
    expect((await say("pause", { reason: "lunch" })).body).toMatchObject({
      status: "paused",
      pause: { code: "requested", detail: "lunch", by: "Ada" },
    });
    await run(next + MINUTE);
    expect(await weights()).toMatchObject({ on: 5_000 });
    expect((await say("resume")).body).toMatchObject({ status: "running", pause: null, remainingMs: null });
    expect((await say("jump", { step: 2 })).body).toMatchObject({ step: 2, revision: expect.any(Number) });
    expect(await weights()).toMatchObject({ on: 50_000 });
    const half = await serve();
    await say("jump", { step: 0 });
    expect(await weights()).toMatchObject({ on: 5_000 });
    await say("jump", { step: 2 });
    expect(await serve()).toEqual(half);
    expect((await say("jump", { step: 4 })).body.errors).toMatchObject([{ pointer: "/step", code: "no-such-step" }]);
    expect((await say("abort", { reason: "enough" })).body).toMatchObject({ status: "aborted", restored: true });
    expect(await serve()).toEqual({ variation: "off" });
    expect((await say("abort")).status).toBe(200);
    expect((await say("resume")).body.code).toBe("ramp-ended");
    await run(next + 90 * MINUTE);
    expect(await read()).toMatchObject({ status: "aborted" });
    const said = ["abort", "jump", "jump", "jump", "resume", "pause", "create"];
    expect(await actions(id)).toEqual(said.map((verb) => `ramp.${verb}`));
  });

  test("gives a split of many back to the same users", async () => {
    const many = ["a", "b", "c"].map((key) => ({ key, value: key }));
    const { key, serve, there } = await served({}, many);
    await ada("PATCH", there, { fallthrough: { split: { weights: { a: 40_000, b: 50_000, c: 10_000 } } } });
    await ada("PATCH", there, { fallthrough: { split: { weights: { a: 55_000, b: 35_000, c: 10_000 } } } });
    const began = await serve();
    const body = {
      environment: "production",
      flag: key,
      variation: "c",
      steps: [{ weight: 37_000, forMs: 1_000 }, { weight: 81_000 }],
    };
    const { body: made } = await ada("POST", path, body);
    await run(made.nextAt);
    expect((await serve()).split.weights.c).toBe(81_000);
    // Finished: who goes back then edits. A second one, paused at once, is aborted.
    await ada("PATCH", there, { fallthrough: { split: { weights: began.split.weights } } });
    const again = await serve();
    const { body: second } = await ada("POST", path, body);
    await ada("POST", `${path}/${second.id}/abort`, {});
    expect(await serve()).toEqual(again);
  });

  test("pauses with the edit of whoever changes the split by hand, which says so, and never fights", async () => {
    const { id, there, weights, read, say, next } = await ramped();
    const edit = { fallthrough: { split: { weights: { on: 30_000, off: 70_000 } } } };
    const warning = { pointer: "/fallthrough", code: "ramp-held", message: expect.stringContaining(id) };
    expect((await ada("PATCH", `${there}?dryRun=true`, edit)).body.warnings).toMatchObject([warning]);
    expect((await read()).status).toBe("running");
    expect((await ada("PATCH", there, edit)).body.warnings).toMatchObject([warning]);
    expect(await read()).toMatchObject({ status: "paused", pause: { code: "edited", by: null }, nextAt: null });
    expect(await actions(id)).toContain("ramp.pause");
    await run(next);
    expect(await weights()).toMatchObject({ on: 30_000 });
    for (const [verb, body] of [
      ["resume", {}],
      ["jump", { step: 2 }],
    ] as const) {
      const { status, body: answer } = await say(verb, body);
      expect([verb, status, answer.code]).toEqual([verb, 409, "edited"]);
    }
    expect((await say("abort")).body).toMatchObject({ status: "aborted", restored: false });
    expect(await weights()).toMatchObject({ on: 30_000 });
  });

  test("lets others edit everything else", async () => {
    const { there, weights, next } = await ramped();
    await ada("PATCH", there, { targets: [{ variation: "on", values: ["me"] }], rules: [rule] });
    await run(next);
    expect(await weights()).toMatchObject({ on: 25_000 });
  });

  test("and edits of the split at the same moment: the edit stays, whoever is first", async () => {
    const { there, weights, read, next } = await ramped();
    const edit = { fallthrough: { split: { weights: { on: 30_000, off: 70_000 } } } };
    const [, edited] = await Promise.all([run(next), ada("PATCH", there, edit)]);
    expect([edited.status, await weights()]).toEqual([200, { on: 30_000, off: 70_000 }]);
    await run(next + 20 * MINUTE);
    expect([await weights(), (await read()).pause.code]).toEqual([{ on: 30_000, off: 70_000 }, "edited"]);
  });

  test("pauses when its flag is killed, also if that was lifted before anybody looked (R7)", async () => {
    const { there, weights, read, say, next, id } = await ramped();
    await ada("POST", `${there}/kill`, { reason: "fire" });
    await run(Date.now());
    expect(await read()).toMatchObject({ status: "paused", pause: { code: "killed" }, remainingMs: 10 * MINUTE });
    expect((await say("resume")).body.code).toBe("killed");
    await ada("POST", `${there}/restore`, {});
    expect((await say("resume")).status).toBe(200);
    await ada("POST", `${there}/kill`, { reason: "again" });
    await ada("POST", `${there}/restore`, {});
    await run(next);
    expect([await weights(), (await read()).pause.code]).toEqual([{ on: 5_000, off: 95_000 }, "killed"]);
    expect((await log(`type=ramp&key=${id}`))[0]).toMatchObject({ action: "ramp.pause", actor: "Ada" });
    expect((await say("abort")).body.restored).toBe(true);
  });

  test("takes no step of a killed flag that D1 has not heard of yet, nor while the hub does not say (R7)", async () => {
    const { there, weights, read, say, next } = await ramped();
    await env.DB.exec("CREATE TRIGGER unheard BEFORE INSERT ON kills BEGIN SELECT RAISE(ABORT, 'later'); END");
    try {
      expect((await ada("POST", `${there}/kill`, { reason: "fire" })).body.pending).toBe(true);
      setFaults({ HUB: { mode: "fail" } });
      await runDue(withFaults(env), () => next);
      expect([await weights(), (await read()).status]).toEqual([{ on: 5_000, off: 95_000 }, "running"]);
      setFaults({});
      await run(next);
      expect([await weights(), (await read()).pause?.code]).toEqual([{ on: 5_000, off: 95_000 }, "killed"]);
      expect((await say("resume")).body.code).toBe("killed");
      await ada("POST", `${there}/restore`, {});
      expect((await say("resume")).body.status).toBe("running");
    } finally {
      setFaults({});
      await env.DB.exec("DROP TRIGGER unheard");
    }
    // What was looked at before going on is no obstacle once D1 hears of it.
    const { nextAt } = await read();
    await run(nextAt);
    expect([(await read()).step, await weights()]).toEqual([1, { on: 25_000, off: 75_000 }]);
  });

  test.each([
    ["flag-off", async ({ there }: { there: string }) => ada("PATCH", there, { on: false })],
    ["archived", async ({ flag }: { flag: string }) => ada("POST", `${flag}/archive`, {})],
    [
      "flag-gone",
      async ({ flag }: { flag: string }) => {
        await ada("POST", `${flag}/archive`, {});
        await ada("DELETE", flag);
      },
    ],
  ])("that cannot go on says why: %s", async (code, happens) => {
    const one = await ramped();
    await happens(one);
    await run(one.next);
    expect(await one.read()).toMatchObject({ status: "paused", pause: { code } });
    expect((await one.say("resume")).body.code).toBe(code);
    expect((await one.say("abort")).body).toMatchObject({ status: "aborted", restored: code === "flag-off" });
  });

  test("of a rule moves that rule alone, and pauses once it is gone", async () => {
    const { there, key, weights } = await served({ rules: [rule] });
    const { body } = await ada("POST", path, {
      environment: "production",
      flag: key,
      rule: "beta",
      variation: "on",
      steps,
    });
    await run(body.nextAt);
    const [first] = (await ada("GET", there)).body.rules;
    expect([first.serve.split.weights, await weights()]).toEqual([{ on: 25_000, off: 75_000 }, { variation: "off" }]);
    await ada("PATCH", there, { rules: [] });
    await run(body.nextAt + 10 * MINUTE);
    expect((await ada("GET", `${path}/${body.id}`)).body.pause.code).toBe("rule-gone");
  });

  test("cannot go back to a variation that is gone, and says so; whoever edits by hand can end it", async () => {
    const many = ["a", "b", "c"].map((key) => ({ key, value: key }));
    const { flag, key, there } = await served({}, many);
    await ada("PATCH", `${flag}/environments/development`, { fallthrough: { variation: "b" } });
    const whole = [...STEPS, { weight: 100_000, forMs: MINUTE }];
    const { body } = await ada("POST", path, { environment: "production", flag: key, variation: "b", steps: whole });
    await ada("POST", `${path}/${body.id}/jump`, { step: 3 });
    expect((await ada("PATCH", flag, { variations: many.slice(1) })).status).toBe(200);
    for (const [verb, sent] of [
      ["jump", { step: 1 }],
      ["abort", {}],
    ] as const) {
      const { status, body: answer } = await ada("POST", `${path}/${body.id}/${verb}`, sent);
      expect([verb, status, answer.errors.length > 0]).toEqual([verb, 400, true]);
    }
    expect((await ada("GET", `${path}/${body.id}`)).body).toMatchObject({ status: "running", step: 3 });
    await ada("PATCH", there, { fallthrough: { variation: "c" } });
    expect((await ada("POST", `${path}/${body.id}/abort`, {})).body).toMatchObject({ restored: false });
  });

  test("has its place alone: a second one is told which", async () => {
    const { key, id, say } = await ramped();
    const body = { environment: "production", flag: key, variation: "off", steps: [{ weight: 100_000 }] };
    const second = await ada("POST", path, body);
    expect([second.status, second.body.code, second.body.ramp]).toEqual([409, "ramp-at-work", id]);
    await say("abort");
    const { key: other } = await served();
    const at = { ...body, flag: other, variation: "on" };
    const both = await Promise.all([1, 2, 3].map(() => ada("POST", path, { ...at, steps })));
    expect(both.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
  });

  test("is made once by a request that is repeated, and refuses an old version", async () => {
    const { key } = await served();
    const body = { environment: "production", flag: key, variation: "on", steps };
    const make = () => ada("POST", path, body, { "idempotency-key": `ramp-${key}` });
    const [one, other] = [await make(), await make()];
    expect([other.status, other.body.id]).toEqual([201, one.body.id]);
    const say = (verb: string, version: number) =>
      ada("POST", `${path}/${one.body.id}/${verb}`, {}, { "if-match": `"v${version}"` });
    expect([(await say("pause", 1)).status, (await say("resume", 1)).status]).toEqual([200, 412]);
  });

  test("with mistakes is refused, each with its place", async () => {
    const { key, there } = await served();
    const refused = async (fields: object) => {
      const body = { environment: "production", flag: key, variation: "on", steps, ...fields };
      const { status, body: answer } = await ada("POST", path, body);
      return [
        status,
        ...(answer.errors ?? [answer]).map((one: { pointer?: string; code: string }) => one.pointer ?? one.code),
      ];
    };
    expect(await refused({ steps: [] })).toEqual([400, "/steps"]);
    expect(await refused({ steps: [{ weight: 5_000 }, { weight: 5_000 }] })).toEqual([
      400,
      "/steps/0/forMs",
      "/steps/1/weight",
    ]);
    expect(await refused({ steps: [{ weight: 5, forMs: 5_000 }, { weight: 100 }] })).toEqual([400, "/steps/1/weight"]);
    expect(await refused({ steps: [{ weight: 100_001, forMs: 1 }] })).toEqual([
      400,
      "/steps/0/weight",
      "/steps/0/forMs",
    ]);
    expect(await refused({ variation: "blue", others: ["red"] })).toEqual([400, "/variation", "/others/0", "/others"]);
    expect(await refused({ variation: "off" })).toEqual([400, "/steps/0/weight"]);
    expect(await refused({ guards: [{ metric: "errors" }] })).toEqual([
      400,
      "/guards/0/worse",
      "/guards/0/tolerance",
      "/guards/0/action",
    ]);
    expect(await refused({ rule: "none" })).toEqual([409, "rule-gone"]);
    expect(await refused({ flag: "none" })).toEqual([404, "not-found"]);
    await ada("PATCH", there, { on: false });
    expect(await refused({})).toEqual([409, "flag-off"]);
    await ada("PATCH", there, { on: true });
    await ada("POST", `${there}/kill`, { reason: "x" });
    await vi.waitFor(async () => expect(await refused({})).toEqual([409, "killed"]));
  });

  test("carries its guards, and is found by flag and status within the caller's scope", async () => {
    const guards = [{ metric: "errors", worse: "higher", tolerance: 0.1, action: "abort" }];
    const { key, id, made, say } = await ramped({ guards });
    expect(made.body.guards).toEqual(guards);
    const ids = async (api: typeof ada, query: string) =>
      (await api("GET", `${path}?${query}`)).body.items.map((one: { id: string }) => one.id);
    expect(await ids(ada, `flag=${key}&status=running`)).toEqual([id]);
    await say("pause");
    expect(await ids(ada, `flag=${key}&status=running`)).toEqual([]);
    const dev = await newToken({ role: "editor", scope: { projects: [], environments: [`${project}/development`] } });
    expect(await ids(dev, `flag=${key}`)).toEqual([]);
    expect((await dev("GET", `${path}/${id}`)).status).toBe(404);
    expect((await dev("POST", `${path}/${id}/resume`, {})).status).toBe(404);
    const viewer = await newToken({ role: "viewer" });
    expect([(await viewer("POST", `${path}/${id}/resume`, {})).status, await ids(viewer, `flag=${key}`)]).toEqual([
      403,
      [id],
    ]);
  });

  test("of short steps goes up in real time by itself (R6)", async () => {
    const quick = [10_000, 40_000].map((weight) => ({ weight, forMs: 1_000 }));
    const { weights, read } = await ramped({ steps: [...quick, { weight: 100_000 }] });
    expect(await weights()).toMatchObject({ on: 10_000 });
    await vi.waitFor(async () => expect((await read()).status).toBe("finished"), 25_000);
    expect(await weights()).toEqual({ on: 100_000 });
  });
});
