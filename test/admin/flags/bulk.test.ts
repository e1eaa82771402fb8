import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { leaving } from "../../../workers/admin/flags/bulk-archive.ts";
import { BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });

async function newFlags(keys: string[], fields: object = {}) {
  const project = await newProject(api);
  for (const key of keys) await newFlag(api, project, key, fields);
  const flags = `/projects/${project}/flags`;
  const bulk = (body: object, headers: Record<string, string> = {}) => api("POST", `${flags}/bulk`, body, headers);
  const needs = (key: string, other: string, environment = "production") =>
    api("PATCH", `${flags}/${key}/environments/${environment}`, {
      prerequisites: [{ flag: other, variations: ["on"] }],
    });
  return { project, flags, bulk, needs };
}
type Item = { key: string; outcome: string; problem?: { code: string; dependents?: unknown[] } };
const outcomes = ({ body }: { body: { items: Item[] } }) =>
  Object.fromEntries(body.items.map(({ key, outcome, problem }) => [key, problem?.code ?? outcome]));
const versions = async () =>
  (await env.DB.prepare("SELECT project_id, key, version FROM environments ORDER BY id").all()).results;

test("tags are added to many flags in one request, each audited for itself with the same correlation id", async () => {
  const { project, flags, bulk } = await newFlags(["a", "b", "c"], { tags: ["old"] });
  await api("PATCH", `${flags}/b`, { tags: ["new", "old"] });
  const before = await versions();
  const answer = await bulk(
    { action: "addTags", keys: ["c", "b", "none", "a"], tags: ["new"], reason: "spring" },
    { "x-correlation-id": "bulk-1" },
  );
  expect(answer.status).toBe(200);
  expect(answer.body.items.map(({ key }: Item) => key)).toEqual(["c", "b", "none", "a"]);
  expect(outcomes(answer)).toEqual({ a: "changed", b: "unchanged", c: "changed", none: "not-found" });
  // No client sees a tag: nothing is published.
  expect(await versions()).toEqual(before);
  const found = await api("GET", `${flags}?tag=new&tag=old`);
  expect(found.body.items.map(({ key }: Item) => key)).toEqual(["a", "b", "c"]);
  const { headers, body } = await api("GET", `${flags}/a`);
  expect([body.tags, body.version, headers.get("etag")]).toEqual([["old", "new"], 2, answer.body.items[3].etag]);
  const { body: log } = await api("GET", `/audit?project=${project}&action=flag.update`);
  const entries = log.items.filter(({ correlation_id }: { correlation_id: string }) => correlation_id === "bulk-1");
  expect(entries.map(({ flag_key }: { flag_key: string }) => flag_key).sort()).toEqual(["a", "c"]);
  for (const entry of entries) {
    expect(entry).toMatchObject({ actor: "Ada", reason: "spring", token: expect.any(String) });
    expect(entry.changes).toEqual({ tags: { from: ["old"], to: ["old", "new"] } });
  }
});

test("tags go, owners and temporariness are set, and twice changes nothing", async () => {
  const { flags, bulk } = await newFlags(["a", "b"], { tags: ["x", "y"], owner: "ada" });
  const keys = ["a", "b"];
  for (const [action, fields, expected] of [
    ["removeTags", { tags: ["x", "z"] }, { tags: ["y"] }],
    ["setOwner", { owner: "bob" }, { owner: "bob" }],
    ["setOwner", { owner: null }, { owner: null }],
    ["setTemporary", { temporary: true }, { temporary: true }],
  ] as const) {
    expect(outcomes(await bulk({ action, keys, ...fields }))).toEqual({ a: "changed", b: "changed" });
    for (const key of keys) expect((await api("GET", `${flags}/${key}`)).body).toMatchObject(expected);
    expect(outcomes(await bulk({ action, keys, ...fields }))).toEqual({ a: "unchanged", b: "unchanged" });
  }
  expect((await api("GET", `${flags}/a`)).body.version).toBe(5);
});

test("what is archived together leaves each environment in one change; what something else needs stays", async () => {
  const { project, flags, bulk, needs } = await newFlags(["a", "b", "c", "d", "outside"]);
  await needs("a", "b");
  await needs("b", "c");
  await needs("outside", "d", "development");
  const before = (await api("PATCH", `${flags}/outside/environments/production`, { on: true })).body.revision;
  const answer = await bulk({ action: "archive", keys: ["a", "b", "c", "d"] });
  expect(outcomes(answer)).toEqual({ a: "changed", b: "changed", c: "changed", d: "in-use" });
  expect(answer.body.items[3].problem.dependents).toEqual([
    { environment: "development", kind: "flag", key: "outside" },
  ]);
  expect(answer.body.environments.production.revision).toBe(before + 1);
  expect(Object.keys(answer.body.environments).sort()).toEqual(["development", "production"]);
  expect((await api("GET", `${flags}?archived=true`)).body.items.map(({ key }: Item) => key)).toEqual(["a", "b", "c"]);
  expect((await api("POST", `${flags}/a/environments/production/evaluate`, { context: {} })).status).toBe(404);
  const { body: log } = await api("GET", `/audit?project=${project}&action=flag.archive`);
  expect(log.items).toHaveLength(3);
  expect(outcomes(await bulk({ action: "addTags", tags: ["t"], keys: ["a", "d"] }))).toEqual({
    a: "archived",
    d: "changed",
  });

  // Each can be put back alone, as after an archive of its own.
  const entryOf = log.items.find(({ flag_key }: { flag_key: string }) => flag_key === "c");
  expect((await api("POST", `/audit/${entryOf.id}/revert`, {})).status).toBe(200);
  expect((await api("GET", `${flags}/c`)).body.archivedAt).toBeNull();
  expect((await api("POST", `${flags}/c/archive`, {})).status).toBe(200);

  // They come back together, each as it was, and only together.
  expect(outcomes(await bulk({ action: "unarchive", keys: ["a", "b"] }))).toEqual({
    a: "would-not-work",
    b: "would-not-work",
  });
  const back = await bulk({ action: "unarchive", keys: ["a", "b", "c", "d"] });
  expect(outcomes(back)).toEqual({ a: "changed", b: "changed", c: "changed", d: "unchanged" });
  expect(back.body.environments.production.revision).toBe(before + 4);
  expect((await api("GET", `${flags}/a/environments/production`)).body).toMatchObject({
    prerequisites: [{ flag: "b", variations: ["on"] }],
    version: 3,
  });
  expect((await api("POST", `${flags}/c/archive`, {})).body).toMatchObject({
    code: "in-use",
    dependents: [{ environment: "production", kind: "flag", key: "b" }],
  });
  expect((await api("POST", `${flags}/a/environments/production/evaluate`, { context: {} })).status).toBe(200);
});

test("a flag whose variation has gone meanwhile does not come back, nor does what needs it", async () => {
  const { flags, bulk, needs } = await newFlags(["base", "middle", "top", "free"]);
  await api("PATCH", `${flags}/middle/environments/production`, {
    prerequisites: [{ flag: "base", variations: ["off"] }],
  });
  await needs("top", "middle");
  expect(new Set(Object.values(outcomes(await bulk({ action: "archive", keys: ["middle", "top", "free"] }))))).toEqual(
    new Set(["changed"]),
  );
  for (const environment of ["production", "development"])
    await api("PATCH", `${flags}/base/environments/${environment}`, { offVariation: "on" });
  expect((await api("PATCH", `${flags}/base`, { variations: [{ key: "on", value: true }] })).status).toBe(200);
  const answer = await bulk({ action: "unarchive", keys: ["top", "middle", "free"] });
  expect(outcomes(answer)).toEqual({ top: "would-not-work", middle: "would-not-work", free: "changed" });
});

test("five hundred flags are one change, and the next request is answered like the first", async () => {
  const { project, flags, bulk } = await newFlags([]);
  const keys = Array.from({ length: 500 }, (_, index) => `f${index}`);
  for (const key of keys.slice(0, 3)) await newFlag(api, project, key);
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO flags SELECT f.id || value, f.project_id, value, value, '', f.type, f.variations, f.tags, NULL, 0, 0, f.bytes, 1, f.created_at, f.updated_at, NULL
       FROM json_each(?), flags f JOIN projects p ON p.id = f.project_id WHERE p.key = ? AND f.key = 'f0'`,
    ).bind(JSON.stringify(keys.slice(3)), project),
    env.DB.prepare(
      `INSERT INTO flag_configurations SELECT e.id, f.id, 1, 0, 'off', 0, 0, 0, '[]', '[]', '[]', '{"variation":"on"}'
       FROM flags f JOIN projects p ON p.id = f.project_id JOIN environments e ON e.project_id = p.id
       WHERE p.key = ? AND f.key NOT IN ('f0', 'f1', 'f2')`,
    ).bind(project),
  ]);
  const once = { "idempotency-key": "bulk" };
  const first = await bulk({ action: "addTags", tags: ["all"], keys }, once);
  expect(new Set(Object.values(outcomes(first)))).toEqual(new Set(["changed"]));
  const again = await bulk({ action: "addTags", tags: ["all"], keys }, once);
  expect([again.headers.get("idempotency-replayed"), again.body]).toEqual(["true", first.body]);
  const count = (sql: string) => env.DB.prepare(sql).bind(project).first<number>("n");
  expect(await count("SELECT count(*) n FROM audit WHERE project = ? AND action = 'flag.update'")).toBe(500);
  expect(await count("SELECT count(*) n FROM flag_tags t JOIN projects p ON p.id = t.project_id WHERE p.key = ?")).toBe(
    500,
  );
  for (const action of ["archive", "unarchive"]) {
    expect(new Set(Object.values(outcomes(await bulk({ action, keys }))))).toEqual(new Set(["changed"]));
  }
  expect((await api("GET", `${flags}/f499/environments/production`)).body).toMatchObject({ version: 2 });
});

test("writers of single flags and of many lose nothing to each other", async () => {
  const keys = ["a", "b", "c", "d"];
  const { flags, bulk } = await newFlags(keys);
  const answers = await Promise.all([
    ...keys.map((tag) => bulk({ action: "addTags", keys, tags: [tag] })),
    ...keys.map((key) => api("PATCH", `${flags}/${key}`, { owner: key })),
  ]);
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
  for (const key of keys) {
    const { body } = await api("GET", `${flags}/${key}`);
    expect([[...body.tags].sort(), body.owner, body.version]).toEqual([keys, key, 6]);
  }
});

test.each([
  ["no keys", { action: "archive", keys: [] }, "/keys"],
  ["too many keys", { action: "archive", keys: Array.from({ length: 501 }, (_, n) => `f${n}`) }, "/keys"],
  ["a key twice", { action: "archive", keys: ["a", "a"] }, "/keys"],
  ["a key that is not one", { action: "archive", keys: ["a b"] }, "/keys/0"],
  ["an action that there is not", { action: "delete", keys: ["a"] }, "/action"],
  ["no action", { keys: ["a"] }, "/action"],
  ["what belongs to another action", { action: "archive", keys: ["a"], tags: ["x"] }, "/tags"],
  ["no tags", { action: "addTags", keys: ["a"], tags: [] }, "/tags"],
  ["a tag too long", { action: "addTags", keys: ["a"], tags: ["x".repeat(65)] }, "/tags/0"],
])("%s is a 400 with its place", async (_, body, pointer) => {
  const { bulk } = await newFlags([]);
  const answer = await bulk(body);
  expect([answer.status, answer.body.errors[0].pointer]).toEqual([400, pointer]);
});

test("no flag can have the address at which many are changed", async () => {
  const { flags } = await newFlags([]);
  const { status, body } = await api("POST", flags, { key: "bulk", type: "boolean", variations: BOOLEAN });
  expect([status, body.errors[0].pointer]).toEqual([400, "/key"]);
  const read = await api("GET", `${flags}/bulk`);
  expect([read.status, read.headers.get("allow")]).toEqual([405, "POST"]);
});

test("a viewer may not, nor who may change some environments only", async () => {
  const { project, flags } = await newFlags(["a"]);
  const body = { action: "archive", keys: ["a"] };
  for (const fields of [{ role: "viewer" }, { role: "editor", scope: { environments: [`${project}/production`] } }]) {
    expect((await (await newToken(fields))("POST", `${flags}/bulk`, body)).status).toBe(403);
  }
});

test.each([
  ["free ones", ["a", "b"], [], ["a", "b"]],
  ["a chain that leaves whole", ["a", "b"], [["a", "b"]], ["a", "b"]],
  [
    "a cycle that leaves whole",
    ["a", "b"],
    [
      ["a", "b"],
      ["b", "a"],
    ],
    ["a", "b"],
  ],
  ["what somebody else uses", ["a", "b"], [["x", "b"]], ["a"]],
  [
    "all that what stays needs",
    ["a", "b", "c"],
    [
      ["x", "a"],
      ["a", "b"],
      ["b", "c"],
    ],
    [],
  ],
] as const)("what can leave: %s", (_, keys, uses, expected) => {
  const { leave } = leaving(
    [...keys],
    uses.map(([key, used]) => ({ kind: "flag", key, used })),
  );
  expect([...leave]).toEqual(expected);
  expect(leaving(["a"], [{ kind: "segment", key: "a", used: "a" }]).leave.size).toBe(0);
});
