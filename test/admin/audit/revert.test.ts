import { describe, expect, test } from "vitest";
import { BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const project = await newProject(api);
const latest = async (query: string) => (await api("GET", `/audit?project=${project}&limit=1&${query}`)).body.items[0];
const revert = (id: number, query = "", body: object = {}, headers = {}, as = api) =>
  as("POST", `/audit/${id}/revert${query}`, body, headers);
const rule = (id: string, plan: string, serve: object = { variation: "on" }) => ({
  id,
  conditions: [{ attribute: "plan", op: "in", values: [plan] }],
  serve,
});
let count = 0;

async function flag() {
  const key = `reverted-${++count}`;
  const path = await newFlag(api, project, key);
  const there = `${path}/environments/production`;
  /** An edit, and the entry that tells of it. */
  const edit = async (fields: object) => {
    expect((await api("PATCH", there, fields)).status).toBe(200);
    return latest(`key=${key}`);
  };
  return { key, path, there, edit, now: async () => (await api("GET", there)).body };
}

/** All but what counts edits. */
const { stringify } = JSON;
const same = (one: { version: number }, other: { version: number }) =>
  expect(stringify({ ...one, version: 0 })).toBe(stringify({ ...other, version: 0 }));

describe("an entry is reverted (R11)", () => {
  test("exactly: with the ranges, the seed and the order there were", async () => {
    const { there, edit, now, key } = await flag();
    const split = (on: number) => ({ split: { weights: { on, off: 100_000 - on } } });
    await edit({ on: true, rules: [rule("a", "free", split(10_000)), rule("b", "pro")], fallthrough: split(33_333) });
    await edit({ fallthrough: split(70_000) });
    await edit({ fallthrough: split(20_000) });
    const before = await now();
    const bad = await edit({
      rules: [rule("b", "team"), rule("c", "new")],
      fallthrough: { split: { weights: { on: 50_000, off: 50_000 }, reshuffle: true } },
      targets: [{ variation: "on", values: ["u1"] }],
    });
    const done = await revert(bad.id, "", { reason: "a bad rule" });
    expect(done.status).toBe(200);
    expect(done.body).toMatchObject({
      reverted: bad.id,
      environments: { production: { revision: expect.any(Number) } },
    });
    same(await now(), before);
    expect(await latest(`key=${key}`)).toMatchObject({
      action: "flag.revert",
      reverts: bad.id,
      reason: "a bad rule",
      actor: "Ada",
      changes: { "targets[0]": { from: { variation: "on", values: ["u1"] } } },
    });
    expect((await api("GET", there)).headers.get("etag")).toBe('"v6"');
  });

  test("on top of what others have changed elsewhere", async () => {
    const { edit, now } = await flag();
    await edit({ rules: [rule("a", "free")] });
    const bad = await edit({ rules: [rule("bad", "x"), rule("a", "free")] });
    await edit({ on: true, rules: [rule("bad", "x"), rule("a", "free"), rule("later", "y")] });
    expect((await revert(bad.id)).status).toBe(200);
    const { on, rules } = await now();
    expect([on, rules.map(({ id }: { id: string }) => id)]).toEqual([true, ["a", "later"]]);
  });

  test("and where they have written there since, it is a conflict with both versions, until it is forced", async () => {
    const { edit, now } = await flag();
    const entry = await edit({ offVariation: "on" });
    await edit({ offVariation: null, on: true });
    const refused = await revert(entry.id);
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({
      code: "changed-since",
      conflicts: [{ at: "offVariation", written: "on", now: null }],
      current: { offVariation: null, on: true },
      proposed: { offVariation: "off", on: true },
    });
    expect((await now()).offVariation).toBeNull();
    expect((await revert(entry.id, "?force=true")).status).toBe(200);
    expect(await now()).toMatchObject({ offVariation: "off", on: true });
  });

  test("and reverted again, and the revert too", async () => {
    const { edit, now, key } = await flag();
    const entry = await edit({ on: true });
    await revert(entry.id);
    expect((await revert(entry.id)).body.changes).toEqual({});
    const back = await latest(`key=${key}`);
    expect(back).toMatchObject({ action: "flag.revert", reverts: entry.id });
    await revert(back.id);
    expect((await now()).on).toBe(true);
  });

  test("dry: it says what would change, and nothing is written", async () => {
    const { edit, now } = await flag();
    const entry = await edit({ on: true });
    const { body } = await revert(entry.id, "?dryRun=true");
    expect(body).toMatchObject({ changes: { on: { from: true, to: false } }, environments: {} });
    expect(await now()).toMatchObject({ on: true, version: 2 });
  });

  test("once for an Idempotency-Key", async () => {
    const { edit, now } = await flag();
    const entry = await edit({ on: true });
    const once = { "idempotency-key": `revert-${entry.id}` };
    const first = await revert(entry.id, "", {}, once);
    await edit({ on: true });
    const again = await revert(entry.id, "", {}, once);
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
    expect(again.body).toEqual(first.body);
    expect((await now()).on).toBe(true);
  });

  test("while ten others edit: nothing of theirs is lost", async () => {
    const { edit, there, now } = await flag();
    const entry = await edit({ trackExposures: true });
    const answers = await Promise.all([
      revert(entry.id),
      ...Array.from({ length: 10 }, (_, index) =>
        api("POST", `${there}/instructions`, {
          instructions: [{ kind: "addTargets", variation: "on", values: [`user-${index}`] }],
        }),
      ),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(Array(11).fill(200));
    const { targets, trackExposures, version } = await now();
    expect([targets[0].values.length, trackExposures, version]).toEqual([10, false, 13]);
  });

  test("but not into what would not work any more", async () => {
    const { edit, path } = await flag();
    await api("PATCH", path, { variations: [...BOOLEAN, { key: "maybe", value: true }] });
    await edit({ offVariation: "maybe" });
    const entry = await edit({ offVariation: "off" });
    await api("PATCH", path, { variations: BOOLEAN });
    const { status, body } = await revert(entry.id);
    expect([status, body.code, body.errors[0].pointer]).toEqual([
      409,
      "would-not-work",
      expect.stringMatching(/offVariation$/),
    ]);
  });
});

describe("of what belongs to the project", () => {
  test("names, tags and variations come back", async () => {
    const { path, key } = await flag();
    await api("PATCH", path, { name: "Old", tags: ["a"], owner: "team" });
    await api("PATCH", path, { name: "New", tags: ["b"], owner: null });
    const entry = await latest(`key=${key}`);
    await api("PATCH", path, { description: "later" });
    expect((await revert(entry.id)).status).toBe(200);
    expect((await api("GET", path)).body).toMatchObject({
      name: "Old",
      tags: ["a"],
      owner: "team",
      description: "later",
    });
    await api("PATCH", path, { name: "Newest" });
    expect((await revert(entry.id)).body.conflicts).toEqual([{ at: "name", written: "New", now: "Newest" }]);
  });

  test("an archived flag comes back, and what was brought back is archived", async () => {
    const { path, key, now } = await flag();
    await api("POST", `${path}/archive`);
    const entry = await latest(`key=${key}`);
    const done = await revert(entry.id);
    expect(Object.keys(done.body.environments)).toEqual(["development", "production"]);
    expect((await now()).flag).toBe(key);
    await revert((await latest(`key=${key}`)).id);
    expect((await api("GET", path)).body.archivedAt).toEqual(expect.any(Number));
  });

  test("a deleted flag is made again as it was: archived, and with what each environment had of it", async () => {
    const { path, key, edit, now } = await flag();
    await edit({ on: true, rules: [rule("a", "free", { split: { weights: { on: 30_000, off: 70_000 } } })] });
    await api("PATCH", path, { tags: ["kept"] });
    const before = await now();
    await api("POST", `${path}/archive`);
    expect((await api("DELETE", path)).status).toBe(204);
    const entry = await latest(`key=${key}`);
    expect((await revert(entry.id)).status).toBe(200);
    expect((await api("GET", path)).body).toMatchObject({ tags: ["kept"], archivedAt: expect.any(Number) });
    expect((await revert(entry.id)).body.code).toBe("already-exists");
    expect((await api("POST", `${path}/unarchive`)).status).toBe(200);
    same(await now(), before);
  });

  test("segments change back, go and come back", async () => {
    const segments = `/projects/${project}/environments/production/segments`;
    await api("POST", segments, { key: "beta", included: ["u1"] });
    const made = await latest("key=beta");
    await api("PATCH", `${segments}/beta`, { included: ["u2"], name: "Beta" });
    const changed = await latest("key=beta");
    expect((await revert(made.id)).body).toMatchObject({
      code: "changed-since",
      current: { name: "Beta" },
      proposed: null,
    });
    expect((await revert(changed.id)).status).toBe(200);
    expect((await api("GET", `${segments}/beta`)).body).toMatchObject({ included: ["u1"], name: "beta" });

    const { edit } = await flag();
    await edit({ rules: [{ id: "s", conditions: [{ segment: ["beta"] }], serve: { variation: "on" } }] });
    const used = await revert(made.id);
    expect([used.status, used.body.code, used.body.dependents.length]).toEqual([409, "in-use", 1]);
    await edit({ rules: [] });
    expect((await revert(made.id)).status).toBe(200);
    expect((await api("GET", `${segments}/beta`)).status).toBe(404);
    const gone = await latest("key=beta");
    expect((await revert(gone.id)).status).toBe(200);
    expect((await api("GET", `${segments}/beta`)).body.included).toEqual(["u1"]);
    await api("DELETE", `${segments}/beta`);
    await revert((await latest("key=beta")).id);
    expect((await api("GET", `${segments}/beta`)).body.included).toEqual(["u1"]);
  });
});

describe("what cannot be reverted says what to do", () => {
  test("kills, credentials and creations", async () => {
    const { there, key } = await flag();
    const created = await latest(`key=${key}`);
    await api("POST", `${there}/kill`, { reason: "fire" });
    const killed = await latest(`key=${key}&action=flag.kill`);
    await api("POST", `/projects/${project}/environments/production/keys`, { kind: "server" });
    const key1 = await latest("type=key");
    for (const [entry, words] of [
      [created, /archive the flag/],
      [killed, /restore/],
      [key1, /make another/],
    ] as const) {
      const { status, body } = await revert(entry.id);
      expect([status, body.code, body.detail]).toEqual([409, "not-revertible", expect.stringMatching(words)]);
      expect((await api("GET", `/audit/${entry.id}`)).body.revertible).toBe(false);
    }
  });

  test("and a kill outlives every revert", async () => {
    const { there, edit, now } = await flag();
    const entry = await edit({ on: true });
    await api("POST", `${there}/kill`, { reason: "fire" });
    await revert(entry.id);
    expect(await now()).toMatchObject({ on: false, killed: { reason: "fire" } });
  });
});

test("a revert needs an editor whose scope has what the entry changed", async () => {
  const { edit, path, key } = await flag();
  const entry = await edit({ on: true });
  const only = { projects: [], environments: [`${project}/production`] };
  const status = async (token: object, id = entry.id) => (await revert(id, "", {}, {}, await newToken(token))).status;
  expect(await status({ role: "viewer" })).toBe(403);
  expect(await status({ role: "editor", scope: { projects: ["other"], environments: [] } })).toBe(404);
  expect(await status({ role: "editor", scope: { projects: [], environments: [`${project}/development`] } })).toBe(404);
  expect(await status({ role: "editor", scope: only })).toBe(200);
  await api("PATCH", path, { name: "New" });
  expect(await status({ role: "editor", scope: only }, (await latest(`key=${key}`)).id)).toBe(404);
  expect((await revert(entry.id, "?force=maybe")).status).toBe(400);
  expect((await revert(entry.id, "", { reson: "typo" })).body.errors[0].pointer).toBe("/reson");
});
