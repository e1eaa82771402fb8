import { expect, test } from "vitest";
import { BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });

test("a flag is created off in every environment, rolled out by halves, and the audit log tells how", async () => {
  const project = await newProject(api);
  const created = await api("POST", `/projects/${project}/flags`, {
    key: "new-checkout",
    name: "New checkout",
    type: "boolean",
    variations: BOOLEAN,
    tags: ["payment"],
  });
  expect(created.status).toBe(201);
  expect(created.headers.get("etag")).toBe('"v1"');
  expect(created.body).toMatchObject({ key: "new-checkout", project, tags: ["payment"], version: 1, archivedAt: null });
  expect(created.body.environments.production.revision).toBeGreaterThan(0);
  expect(created.body.environments.development.receiptPath).toContain("/receipts/");

  const production = `/projects/${project}/flags/new-checkout/environments/production`;
  const fresh = await api("GET", production);
  expect(fresh.body).toMatchObject({ on: false, offVariation: "off", fallthrough: { variation: "on" }, killed: null });

  const half = await api("PATCH", production, {
    on: true,
    fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } },
  });
  expect(half.status).toBe(200);
  expect(half.headers.get("etag")).toBe('"v2"');
  expect(half.body.fallthrough.split).toEqual({
    by: "key",
    seed: "new-checkout",
    hash: "xxh32",
    ranges: [
      { variation: "on", from: 0, to: 50_000 },
      { variation: "off", from: 50_000, to: 100_000 },
    ],
    weights: { on: 50_000, off: 50_000 },
  });
  expect(half.body.revision).toBeGreaterThan(created.body.environments.production.revision);

  const all = await api("PATCH", production, {
    fallthrough: { split: { weights: { on: 100_000 } } },
    reason: "it works",
  });
  expect(all.body.fallthrough.split.ranges).toEqual([{ variation: "on", from: 0, to: 100_000 }]);
  const { body: decision } = await api("POST", `${production}/evaluate`, { context: { targetingKey: "user-1" } });
  expect(decision).toMatchObject({ value: true, variation: "on", reason: "SPLIT" });

  const { body: log } = await api("GET", `/audit?project=${project}&type=flag&key=new-checkout`);
  expect(log.items.map((entry: { action: string }) => entry.action)).toEqual([
    "flag.update",
    "flag.update",
    "flag.create",
  ]);
  expect(log.items[0]).toMatchObject({
    actor: "Ada",
    action: "flag.update",
    resource: { type: "flag", project, environment: "production", key: "new-checkout" },
    flag_key: "new-checkout",
    reason: "it works",
  });
  expect(log.items[0].changes).toEqual({
    "fallthrough.split.weights.on": { from: 50_000, to: 100_000 },
    "fallthrough.split.weights.off": { from: 50_000 },
  });
  expect(log.items[1].changes.on).toEqual({ from: false, to: true });
});

test("a split keeps its seed and moves nobody it need not; reshuffling is asked for", async () => {
  const project = await newProject(api);
  const flag = await newFlag(api, project, "rollout");
  const there = `${flag}/environments/production`;
  const set = async (split: object) => (await api("PATCH", there, { fallthrough: { split } })).body.fallthrough.split;
  const half = await set({ weights: { on: 50_000, off: 50_000 } });
  await set({ weights: { on: 5_000, off: 95_000 } });
  expect(await set({ weights: { on: 50_000, off: 50_000 } })).toEqual(half);
  const other = await set({ weights: { on: 50_000, off: 50_000 }, by: "company", reshuffle: true });
  expect(other.by).toBe("company");
  expect(other.seed).not.toBe(half.seed);
  expect((await set({ weights: { on: 1_000 } })).seed).toBe(other.seed);

  const rule = { conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] };
  const first = await api("PATCH", there, { rules: [{ ...rule, serve: { split: { weights: { on: 10_000 } } } }] });
  const { id } = first.body.rules[0];
  expect(id).toMatch(/^r_/);
  const front = { conditions: [], serve: { variation: "off" } };
  const serve = { split: { weights: { on: 5_000, off: 5_000 } } };
  const moved = await api("PATCH", there, { rules: [front, { ...rule, id, serve }] });
  expect(moved.body.rules[1].serve.split.ranges).toEqual([
    { variation: "on", from: 0, to: 5_000 },
    { variation: "off", from: 5_000, to: 10_000 },
  ]);
});

test("a patch merges, a put replaces, on and off are edits, and an edit that changes nothing writes nothing", async () => {
  const project = await newProject(api);
  const there = `${await newFlag(api, project, "plain")}/environments/production`;
  await api("PATCH", there, { targets: [{ variation: "on", values: ["qa-1"] }], trackExposures: true });
  expect((await api("POST", `${there}/on`)).body).toMatchObject({
    on: true,
    targets: [{ values: ["qa-1"] }],
    version: 3,
  });
  const again = await api("POST", `${there}/on`, { reason: "to be sure" });
  expect(again.body).toMatchObject({ on: true, version: 3 });
  expect(again.body.revision).toBeGreaterThan(0);
  expect((await api("POST", `${there}/off`)).body).toMatchObject({ on: false, version: 4 });
  const whole = { on: true, offVariation: null, fallthrough: { variation: "off" } };
  const replaced = await api("PUT", there, whole);
  expect(replaced.body).toMatchObject({ ...whole, targets: [], trackExposures: false, version: 5 });
  expect((await api("PUT", there, { on: true })).status).toBe(400);
  const { body: log } = await api("GET", `/audit?project=${project}&action=flag.update`);
  expect(log.items).toHaveLength(4);
});

test("a kill holds against edits until it is restored, and says who has it", async () => {
  const project = await newProject(api);
  const there = `${await newFlag(api, project, "kill-me")}/environments/production`;
  await api("POST", `${there}/on`);
  const killed = await api("POST", `${there}/kill`, { reason: "on fire" });
  expect(killed.status).toBe(200);
  expect(killed.body).toMatchObject({
    flag: "kill-me",
    environment: "production",
    killed: { by: "Ada", reason: "on fire" },
  });
  expect(killed.body.receipt).toMatchObject({ revision: killed.body.revision, connected: 0 });
  expect((await api("GET", killed.body.receiptPath.slice("/api/v1".length))).body).toEqual(killed.body.receipt);
  await api("PATCH", there, { fallthrough: { variation: "on" } });
  const decision = async () => (await api("POST", `${there}/evaluate`, { context: { targetingKey: "u" } })).body;
  expect(await decision()).toMatchObject({ variation: "off", reason: "KILLED" });
  expect((await api("GET", there)).body.killed).toMatchObject({ by: "Ada" });
  const restored = await api("POST", `${there}/restore`);
  expect(restored.body).toMatchObject({ killed: null });
  expect(await decision()).toMatchObject({ variation: "on" });
  expect(
    (await api("POST", `/projects/${project}/flags/none/environments/production/kill`, { reason: "x" })).body,
  ).toMatchObject({
    status: 404,
    code: "unknown-flag",
  });
});

test("a repeated kill is the same kill, and lifts nothing and kills nothing that came after", async () => {
  const project = await newProject(api);
  const there = `${await newFlag(api, project, "once")}/environments/production`;
  const once = { "idempotency-key": "kill-1" };
  await api("POST", `${there}/kill`, { reason: "fire" }, once);
  await api("POST", `${there}/restore`);
  const again = await api("POST", `${there}/kill`, { reason: "fire" }, once);
  expect([again.status, again.body.code, again.body.killed]).toEqual([409, "restored-since", null]);
  expect((await api("GET", there)).body.killed).toBeNull();
  const { body: log } = await api("GET", `/audit?project=${project}&key=once`);
  expect(log.items.map((entry: { action: string }) => entry.action)).toEqual([
    "flag.restore",
    "flag.kill",
    "flag.create",
  ]);
  expect(log.items[1]).toMatchObject({ actor: "Ada", reason: "fire", resource: { environment: "production" } });
});

test("a flag is archived only when nothing needs it, deleted only when archived, and comes back as it was", async () => {
  const project = await newProject(api);
  const base = await newFlag(api, project, "base");
  const user = await newFlag(api, project, "user");
  const prerequisites = [{ flag: "base", variations: ["on"] }];
  await api("PATCH", `${user}/environments/production`, { prerequisites });
  const refused = await api("POST", `${base}/archive`);
  expect(refused.status).toBe(409);
  expect(refused.body.dependents).toEqual([{ environment: "production", kind: "flag", key: "user" }]);
  const taken = await api("PATCH", base, {
    variations: [
      { key: "yes", value: true },
      { key: "off", value: false },
    ],
  });
  expect(taken.status).toBe(409);
  expect(taken.body.dependents.map((use: { key: string }) => use.key)).toContain("user");
  expect((await api("DELETE", user)).body.code).toBe("not-archived");
  expect((await api("POST", `${user}/archive`)).body.archivedAt).toBeGreaterThan(0);
  expect((await api("PATCH", `${user}/environments/production`, { on: true })).body.code).toBe("archived");
  expect((await api("GET", `/projects/${project}/flags`)).body.items).toHaveLength(1);
  expect((await api("GET", `/projects/${project}/flags?archived=true`)).body.items).toMatchObject([{ key: "user" }]);

  expect((await api("POST", `${base}/archive`)).status).toBe(200);
  expect((await api("POST", `${user}/unarchive`)).body.code).toBe("would-not-work");
  expect((await api("POST", `${base}/unarchive`)).status).toBe(200);
  expect((await api("POST", `${user}/unarchive`)).status).toBe(200);
  expect((await api("GET", `${user}/environments/production`)).body.prerequisites).toEqual(prerequisites);

  await api("POST", `${user}/archive`);
  expect((await api("DELETE", user)).status).toBe(204);
  expect((await api("GET", user)).status).toBe(404);
  expect((await newFlag(api, project, "user")) && (await api("GET", user)).status).toBe(200);
});

test("flags are found by text and tag, page by page", async () => {
  const project = await newProject(api);
  for (const key of ["a", "b", "c"])
    await newFlag(api, project, key, { tags: key === "b" ? ["beta"] : [], name: `Name ${key}` });
  const keys = async (query: string) =>
    (await api("GET", `/projects/${project}/flags?${query}`)).body.items.map((flag: { key: string }) => flag.key);
  expect(await keys("q=NAME%20C")).toEqual(["c"]);
  expect(await keys("tag=beta")).toEqual(["b"]);
  const first = await api("GET", `/projects/${project}/flags?limit=2`);
  expect(first.body.items).toHaveLength(2);
  expect(await keys(`limit=2&cursor=${first.body.nextCursor}`)).toEqual(["c"]);
});

test("a changed variation reaches the documents of every environment, and a new environment has every flag", async () => {
  const project = await newProject(api);
  const flag = await newFlag(api, project, "text", {
    type: "string",
    variations: [
      { key: "short", value: "Hi" },
      { key: "long", value: "Good morning" },
    ],
  });
  const third = { key: "longest", value: "A very good morning" };
  const { body } = await api("GET", flag);
  const patched = await api("PATCH", flag, { variations: [...body.variations, third], clientSide: true });
  expect(patched.body).toMatchObject({ version: 2, clientSide: true });
  expect(patched.body.environments.development.revision).toBeGreaterThan(0);
  const there = `${flag}/environments/production`;
  expect((await api("GET", there)).body).toMatchObject({ version: 2, offVariation: "long" });
  const served = await api("PATCH", there, { on: true, fallthrough: { variation: "longest" } });
  expect(served.status).toBe(200);
  await api("POST", `/projects/${project}/environments`, { key: "staging" });
  expect((await api("GET", `${flag}/environments/staging`)).body).toMatchObject({
    on: false,
    offVariation: "longest",
    fallthrough: { variation: "short" },
    version: 1,
  });
});

test("variations are checked in a project without environments too", async () => {
  const bare = "bare-project";
  await api("POST", "/projects", { key: bare });
  const flag = await newFlag(api, bare, "early");
  const { status, body } = await api("PATCH", flag, { variations: [{ key: "on", value: "yes" }] });
  expect([status, body.errors?.[0].pointer]).toEqual([400, "/variations/0/value"]);
});

test("what is legal and surely not meant is saved, and told", async () => {
  const api = await newToken();
  const flag = await newFlag(api, await newProject(api), "warned");
  const rules = [
    { conditions: [], serve: { variation: "on" } },
    { conditions: [{ attribute: "plan", op: "in", values: ["pro"] }], serve: { variation: "off" } },
  ];
  const { status, body } = await api("PATCH", `${flag}/environments/production`, {
    rules,
    fallthrough: { split: { weights: { on: 40_000, off: 50_000 } } },
  });
  expect(status).toBe(200);
  expect(body.warnings).toMatchObject([
    { pointer: "/rules/1", code: "rule-unreachable" },
    { pointer: expect.stringContaining("/fallthrough"), code: "split-incomplete" },
  ]);
  const { body: sound } = await api("PATCH", `${flag}/environments/production`, {
    rules: [],
    fallthrough: { variation: "on" },
  });
  expect(sound.warnings).toBeUndefined();
});
