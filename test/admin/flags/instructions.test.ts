import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const project = await newProject(api);
let count = 0;

/** A flag of its own, and instructions for it in production. */
async function flag() {
  const there = `${await newFlag(api, project, `instructed-${++count}`)}/environments/production`;
  const send = (instructions: unknown[], query = "", headers: Record<string, string> = {}) =>
    api("POST", `${there}/instructions${query}`, { instructions }, headers);
  const rule = (id: string, plan: string, serve: object = { variation: "on" }) => ({
    id,
    conditions: [{ attribute: "plan", op: "in", values: [plan] }],
    serve,
  });
  const ids = async () => (await api("GET", there)).body.rules.map(({ id }: { id: string }) => id);
  return { there, send, rule, ids };
}

describe("instructions", () => {
  test("change what they name and nothing else, one after the other", async () => {
    const { there, send, rule, ids } = await flag();
    const done = await send([
      { kind: "turnOn" },
      { kind: "addRule", rule: rule("b", "pro") },
      { kind: "addRule", rule: rule("a", "team"), before: "b" },
      { kind: "addRule", rule: rule("c", "free") },
      { kind: "moveRule", rule: "c", before: "a" },
      { kind: "setServe", rule: "b", serve: { split: { weights: { on: 20_000, off: 80_000 } } } },
      { kind: "setServe", serve: { variation: "off" } },
      { kind: "updateRule", rule: "c", description: "free users" },
      { kind: "removeRule", rule: "a" },
      { kind: "setOffVariation", variation: null },
      { kind: "setTrackExposures", trackExposures: true },
    ]);
    expect(done.status).toBe(200);
    expect(await ids()).toEqual(["c", "b"]);
    expect((await api("GET", there)).body).toMatchObject({
      on: true,
      offVariation: null,
      trackExposures: true,
      fallthrough: { variation: "off" },
      rules: [{ description: "free users" }, { serve: { split: { weights: { on: 20_000, off: 80_000 } } } }],
    });
  });

  test("keep a value in one list of targets", async () => {
    const { there, send } = await flag();
    await send([{ kind: "addTargets", variation: "on", values: ["u1", "u2"] }]);
    await send([{ kind: "addTargets", variation: "off", values: ["u2", "u3", "u3"] }]);
    await send([{ kind: "addTargets", variation: "on", values: ["acme"], attribute: "company" }]);
    expect((await api("GET", there)).body.targets).toEqual([
      { variation: "on", values: ["u1"] },
      { variation: "off", values: ["u2", "u3"] },
      { variation: "on", values: ["acme"], attribute: "company" },
    ]);
    await send([{ kind: "removeTargets", variation: "on", values: ["u1", "unknown"] }]);
    expect((await api("GET", there)).body.targets).toHaveLength(2);
  });

  test("of people who edit different things at once never undo each other", async () => {
    const { there, send, rule, ids } = await flag();
    await send([{ kind: "addRule", rule: rule("first", "x") }]);
    const answers = await Promise.all([
      ...Array.from({ length: 8 }, (_, index) =>
        send([{ kind: "addTargets", variation: "on", values: [`user-${index}`] }]),
      ),
      ...Array.from({ length: 4 }, (_, index) =>
        send([{ kind: "addRule", rule: rule(`r${index}`, `plan-${index}`), before: "first" }]),
      ),
      send([{ kind: "turnOn" }]),
      send([{ kind: "setServe", serve: { split: { weights: { on: 50_000, off: 50_000 } } } }]),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(Array(14).fill(200));
    const { body } = await api("GET", there);
    expect(body.targets[0].values.toSorted()).toEqual(Array.from({ length: 8 }, (_, index) => `user-${index}`));
    expect((await ids()).toSorted()).toEqual(["first", "r0", "r1", "r2", "r3"]);
    expect(body).toMatchObject({ on: true, fallthrough: { split: { weights: { on: 50_000 } } } });
  });

  test("that have lost their object are a conflict with a pointer, and nothing of the request is done", async () => {
    const { there, send, rule } = await flag();
    for (const [instruction, pointer] of [
      [{ kind: "removeRule", rule: "gone" }, "/instructions/1/rule"],
      [{ kind: "moveRule", rule: "gone" }, "/instructions/1/rule"],
      [{ kind: "setServe", rule: "gone", serve: { variation: "on" } }, "/instructions/1/rule"],
      [{ kind: "addRule", rule: rule("new", "x"), before: "gone" }, "/instructions/1/before"],
    ] as const) {
      const { status, body } = await send([{ kind: "turnOn" }, instruction]);
      expect([status, body.code, body.errors[0].pointer]).toEqual([409, "rule-gone", pointer]);
    }
    const twice = await send([
      { kind: "addRule", rule: rule("a", "x") },
      { kind: "addRule", rule: rule("a", "y") },
    ]);
    expect([twice.status, twice.body.code]).toEqual([409, "rule-exists"]);
    expect((await api("GET", there)).body.version).toBe(1);
  });

  test("with mistakes are refused, each mistake with its place", async () => {
    const { send } = await flag();
    const pointers = async (instructions: unknown[]) => {
      const { status, body } = await send(instructions);
      return [status, ...(body.errors ?? []).map((one: { pointer: string }) => one.pointer)];
    };
    expect(await pointers([])).toEqual([400, "/instructions"]);
    expect(await pointers([{ kind: "explode" }])).toEqual([400, "/instructions/0/kind"]);
    expect(await pointers([{ kind: "turnOn", now: true }])).toEqual([400, "/instructions/0/now"]);
    const weights = { split: { weights: { on: 60_000, blue: 60_000 } } };
    expect(await pointers([{ kind: "setServe", serve: weights }])).toEqual([
      400,
      "/instructions/0/serve/split/weights/blue",
      "/instructions/0/serve/split/weights",
    ]);
    expect(await pointers([{ kind: "setOffVariation", variation: "blue" }])).toEqual([400, "/offVariation"]);
  });
});

describe("a dry run", () => {
  test("says what would change and who would be moved, and writes nothing", async () => {
    const { there, send } = await flag();
    await send([{ kind: "turnOn" }, { kind: "setServe", serve: { split: { weights: { on: 5_000, off: 95_000 } } } }]);
    const edit = [{ kind: "setServe", serve: { split: { weights: { on: 25_000, off: 75_000 } } } }];
    const { status, body } = await send(edit, "?dryRun=true", { "idempotency-key": "dry" });
    expect(status).toBe(200);
    expect(body.preview).toEqual({
      changes: {
        "fallthrough.split.weights.on": { from: 5_000, to: 25_000 },
        "fallthrough.split.weights.off": { from: 95_000, to: 75_000 },
      },
      moved: [
        {
          environment: "production",
          kind: "flag",
          key: expect.any(String),
          rule: null,
          movements: [{ from: "off", to: "on", weight: 20_000 }],
        },
      ],
      share: 20_000,
      policies: [],
    });
    expect(body.fallthrough.split.weights.on).toBe(25_000);
    expect((await api("GET", there)).body).toMatchObject({
      version: 2,
      fallthrough: { split: { weights: { on: 5_000 } } },
    });
    const real = await send(edit, "", { "idempotency-key": "dry" });
    expect([real.status, real.body.version, real.body.preview]).toEqual([200, 3, undefined]);
    expect((await api("PATCH", `${there}?dryRun=true`, { on: false })).body.preview.changes).toEqual({
      on: { from: true, to: false },
    });
    expect((await api("PATCH", `${there}?dryRun=true`, { offVariation: "blue" })).status).toBe(400);
  });
});

test("If-Match that no longer holds is answered with both versions", async () => {
  const { there, send } = await flag();
  await send([{ kind: "addTargets", variation: "on", values: ["mine"] }]);
  const stale = await api("PATCH", there, { on: true }, { "if-match": '"v1"' });
  expect([stale.status, stale.body.etag]).toEqual([412, '"v2"']);
  expect(stale.body.current).toMatchObject({ on: false, version: 2, targets: [{ values: ["mine"] }] });
  expect(stale.body.proposed).toMatchObject({ on: true, targets: [{ values: ["mine"] }] });
  const gone = await send([{ kind: "removeRule", rule: "gone" }], "", { "if-match": '"v1"' });
  expect(gone.status).toBe(412);
});
