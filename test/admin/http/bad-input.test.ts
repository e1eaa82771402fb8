import { env } from "cloudflare:workers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { as, BOOLEAN, newFlag, newProject, newToken, root } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const flag = await newFlag(api, project, "solid");
const there = `${flag}/environments/production`;

const everything = async () => {
  const tables = [
    "projects",
    "environments",
    "flags",
    "flag_configurations",
    "segments",
    "changes",
    "audit",
    "sdk_keys",
  ];
  const rows = await env.DB.batch(tables.map((table) => env.DB.prepare(`SELECT * FROM ${table}`)));
  // What a hub reports back is no change of ours.
  return JSON.stringify(rows.map(({ results }) => results)).replace(/"published_\w+":\d+,?/g, "");
};
let before = "";
beforeAll(async () => {
  before = await everything();
});
afterAll(async () => {
  expect(await everything()).toBe(before);
});

test.each([
  ["no token", null],
  ["a token that nobody has", "bnt_api_0123456789"],
  ["a server key", "bnt_srv_env_secret"],
])("%s is a 401", async (_, token) => {
  const { status, headers, body } = await as(token)("PATCH", there, { on: true });
  expect(status).toBe(401);
  expect(headers.get("www-authenticate")).toContain("Bearer");
  expect(headers.get("content-type")).toBe("application/problem+json");
  expect(body).toMatchObject({ code: "unauthenticated", type: "urn:bunting:problem:unauthenticated", status: 401 });
});

test.each([
  ["a trailing comma", '{"on":true,}'],
  ["a comment", '{"on":true /* yes */}'],
  ["single quotes", "{'on':true}"],
  ["two documents", "{}{}"],
  ["an array", "[]"],
  ["a string", '"on"'],
  ["null", "null"],
  ["nothing", ""],
  ["NaN", '{"on":NaN}'],
  ["a number beyond doubles", '{"fallthrough":{"split":{"weights":{"on":1e999}}}}'],
  ["half a character", '{"offVariation":"\\ud800"}'],
  ["a byte order mark", '\ufeff{"on":true}'],
  ["a body too deep", `{"rules":${"[".repeat(70)}${"]".repeat(70)}}`],
  ["a body that never closes", "[".repeat(100_000)],
  ["a prototype", '{"__proto__":{"on":true}}'],
  ["a prototype further down", '{"fallthrough":{"split":{"weights":{"__proto__":5}}}}'],
  ["a constructor", '{"constructor":{"prototype":{"isAdmin":true}}}'],
])("%s as a body is a 400", async (_, text) => {
  const { status, body } = await api("PATCH", there, text);
  expect(status).toBe(400);
  expect(body.code).toBe("invalid-request");
  expect(({} as { isAdmin?: boolean }).isAdmin).toBeUndefined();
});

test("malformed JSON is told with its position", async () => {
  expect((await api("PATCH", there, '{"on":true,}')).body.detail).toMatch(/position 11/);
});

test("a body that is not UTF-8 is a 400", async () => {
  const { exports } = await import("cloudflare:workers");
  const me = await newTokenText();
  const response = await exports.default.fetch(
    new Request(`https://bunting.test/api/v1${there}`, {
      method: "PATCH",
      headers: { authorization: `Bearer ${me}`, "content-type": "application/json" },
      body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]),
    }),
  );
  expect(response.status).toBe(400);
  before = await everything();
});

async function newTokenText(): Promise<string> {
  const { body } = await root("POST", "/tokens", { name: "raw", role: "admin" });
  return body.token;
}

test("a body over 1 MB is a 413, whatever length it claims", async () => {
  const { status, body } = await api("PATCH", there, `{"on":"${"x".repeat(1_100_000)}"}`);
  expect(status).toBe(413);
  expect(body.code).toBe("body-too-large");
});

test("another content type is a 415", async () => {
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"]) {
    expect((await api("PATCH", there, '{"on":true}', { "content-type": type })).status).toBe(415);
  }
});

test.each([
  ["an unknown field", { onn: true }, "/onn", "unknown-field"],
  [
    "an unknown field further down",
    { rules: [{ conditions: [], serve: { variation: "on" }, if: 1 }] },
    "/rules/0/if",
    "unknown-field",
  ],
  ["a wrong type", { on: "yes" }, "/on", "invalid-type"],
  ["a variation that does not exist", { fallthrough: { variation: "maybe" } }, "/fallthrough/variation"],
  [
    "a weight for a variation that does not exist",
    { fallthrough: { split: { weights: { maybe: 5 } } } },
    "/fallthrough/split/weights/maybe",
  ],
  [
    "weights over the whole",
    { fallthrough: { split: { weights: { on: 60_000, off: 60_000 } } } },
    "/fallthrough/split/weights",
  ],
  ["ranges", { fallthrough: { split: { ranges: [], weights: {} } } }, "/fallthrough/split/ranges", "unknown-field"],
  ["a seed", { fallthrough: { split: { seed: "x", weights: {} } } }, "/fallthrough/split/seed", "unknown-field"],
  ["a kill", { killed: true }, "/killed", "unknown-field"],
  ["an off variation that does not exist", { offVariation: "maybe" }, "/offVariation"],
  ["a target for no variation", { targets: [{ variation: "maybe", values: ["u"] }] }, "/targets/0/variation"],
  [
    "an unknown operator",
    { rules: [{ conditions: [{ attribute: "plan", op: "like", values: ["x"] }], serve: { variation: "on" } }] },
    "/rules/0/conditions/0/op",
  ],
  [
    "a condition of no kind",
    { rules: [{ conditions: [{ all: [{ not: {} }] }], serve: { variation: "on" } }] },
    "/rules/0/conditions/0/all/0/not",
  ],
  [
    "a pattern that looks ahead",
    { rules: [{ conditions: [{ attribute: "p", op: "matches", values: ["(?=a)b"] }], serve: { variation: "on" } }] },
    "/rules/0/conditions/0/values/0",
  ],
  [
    "a prerequisite that does not exist",
    { prerequisites: [{ flag: "none", variations: ["on"] }] },
    "/prerequisites/0/flag",
  ],
  ["a cycle of one", { prerequisites: [{ flag: "solid", variations: ["on"] }] }, "/prerequisites/0/flag"],
  [
    "a segment that does not exist",
    { rules: [{ conditions: [{ segment: ["none"] }], serve: { variation: "on" } }] },
    "/rules/0/conditions/0/segment/0",
  ],
  [
    "a rule id twice",
    { rules: [1, 2].map(() => ({ id: "r_1", conditions: [], serve: { variation: "on" } })) },
    "/rules/1/id",
  ],
])("%s is a 400 with its place", async (_, body, pointer, code = undefined) => {
  const answer = await api("PATCH", there, body);
  expect(answer.status).toBe(400);
  expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
  if (code !== undefined) expect(answer.body.errors).toContainEqual(expect.objectContaining({ pointer, code }));
});

test("every error is listed at once", async () => {
  const { body } = await api("PATCH", there, { on: 1, nonsense: 2, targets: [{ variation: "on", values: [3] }] });
  const pointers = body.errors.map((error: { pointer: string }) => error.pointer);
  expect(pointers.sort()).toEqual(["/nonsense", "/on", "/targets/0/values/0"]);
});

test.each([
  ["a key that is not one", { key: "a b" }, "/key"],
  ["a reserved key", { key: "constructor" }, "/key"],
  ["no variations", { variations: [] }, "/variations"],
  ["a variation key twice", { variations: [BOOLEAN[0], BOOLEAN[0]] }, "/variations/1/key"],
  ["a value of another type", { variations: [{ key: "on", value: "true" }] }, "/variations/0/value"],
  ["a variation without a value", { variations: [{ key: "on" }] }, "/variations/0/value"],
  [
    "a value beyond 64 KB",
    { type: "json", variations: [{ key: "a", value: ["x".repeat(70_000)] }] },
    "/variations/0/value",
  ],
  [
    "101 variations",
    { type: "number", variations: Array.from({ length: 101 }, (_, value) => ({ key: `v${value}`, value })) },
    "/variations",
  ],
  ["a name beyond 256", { name: "x".repeat(257) }, "/name"],
  ["a description beyond 4096", { description: "x".repeat(4_097) }, "/description"],
  ["too many tags", { tags: Array(51).fill("t") }, "/tags"],
  ["an unknown type", { type: "date" }, "/type"],
])("a flag with %s is a 400 with its place", async (_, fields, pointer) => {
  const answer = await api("POST", `/projects/${project}/flags`, {
    key: "new",
    type: "boolean",
    variations: BOOLEAN,
    ...fields,
  });
  expect(answer.status).toBe(400);
  expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
});

test("what does not exist is a 404, what exists already a 409, and a wrong method names the right ones", async () => {
  for (const path of ["/projects/none", `/projects/${project}/flags/none`, `${flag}/environments/none`, "/nonsense"]) {
    const { status, body } = await api("GET", path);
    expect([status, body.code]).toEqual([404, "not-found"]);
  }
  expect((await api("PATCH", `${flag}/environments/none`, { on: true })).status).toBe(404);
  expect((await api("POST", "/projects", { key: project })).status).toBe(409);
  expect(
    (await api("POST", `/projects/${project}/flags`, { key: "solid", type: "boolean", variations: BOOLEAN })).status,
  ).toBe(409);
  const wrong = await api("PUT", flag, {});
  expect(wrong.status).toBe(405);
  expect(wrong.headers.get("allow")).toBe("DELETE, GET, PATCH");
});

test.each([
  ["neither a variation nor a split", {}, "/fallthrough", /"variation".*"split"/],
  ["a bare variation", "on", "/fallthrough", /"variation".*"split"/],
  ["a split by ranges alone", { split: { ranges: [] } }, "/fallthrough/split/ranges", /weights/],
  ["a variation and a split", { variation: "on", split: { weights: {} } }, "/fallthrough/split", /./],
])("a fallthrough of %s names its remedy", async (_, fallthrough, pointer, message) => {
  const { body } = await api("PATCH", there, { fallthrough });
  expect(body.errors).toContainEqual(
    expect.objectContaining({ pointer, message: expect.stringMatching(message) as string }),
  );
});

test("a condition is judged as the kind that its field says", async () => {
  const conditions = [{}, { all: 1 }, { attribute: "plan", op: "in", value: "x" }];
  const { body } = await api("PATCH", there, { rules: [{ conditions, serve: { variation: "on" } }] });
  expect(body.errors).toMatchObject([
    { pointer: "/rules/0/conditions/0", message: expect.stringContaining('"attribute"') },
    { pointer: "/rules/0/conditions/1/all", code: "invalid-type" },
    { pointer: "/rules/0/conditions/2/value", code: "unknown-field" },
  ]);
});

test("the first hundred mistakes are listed, without trying every kind for each", async () => {
  const conditions = Array(90).fill({ all: Array(90).fill({ any: Array(20).fill({}) }) });
  const start = performance.now();
  const { status, body } = await api("PATCH", there, { rules: [{ conditions, serve: { variation: "on" } }] });
  expect(status).toBe(400);
  expect(body.errors).toHaveLength(100);
  expect(body.detail).toContain("first 100");
  expect(performance.now() - start).toBeLessThan(3_000);
  const targets = Array(10).fill({ variation: "on", values: Array(40_000).fill(1) });
  expect((await api("PATCH", there, { targets })).body.errors).toHaveLength(100);
  const weights = Object.fromEntries(Array.from({ length: 80_000 }, (_, n) => [n.toString(36), 0.5]));
  expect((await api("PATCH", there, { fallthrough: { split: { weights } } })).body.errors).toHaveLength(100);
  const networks = [{ attribute: "ip", op: "cidr", values: Array(10_000).fill("x") }];
  const rules = [{ conditions: networks, serve: { variation: "on" } }];
  expect((await api("PATCH", there, { rules })).body.errors).toHaveLength(100);
});

test("a value of another type is one mistake, however many environments there are", async () => {
  const { status, body } = await api("PATCH", flag, { variations: [{ key: "on", value: "yes" }, BOOLEAN[1]] });
  expect([status, body.errors.length]).toEqual([400, 1]);
  expect(body.errors).toMatchObject([{ pointer: "/variations/0/value" }]);
});

test("parameters are checked like bodies", async () => {
  expect((await api("GET", "/projects?limit=1000")).body.errors).toMatchObject([{ pointer: "query:/limit" }]);
  expect((await api("PATCH", `${there}?wait=99999`, { on: true })).status).toBe(400);
  expect((await api("GET", "/audit?cursor=x")).status).toBe(400);
  expect((await api("GET", "/audit?cursor=")).body.items).not.toEqual([]);
  expect((await api("PATCH", there, { on: true }, { "idempotency-key": "x".repeat(300) })).status).toBe(400);
});

test("a hostile context is evaluated as if those names were absent", async () => {
  const text = '{"context":{"targetingKey":"u","__proto__":{"plan":"pro"},"constructor":{"prototype":{"plan":"pro"}}}}';
  expect((await api("POST", `${there}/evaluate`, text)).status).toBe(200);
  expect((await api("POST", `${there}/evaluate`, {})).status).toBe(400);
  expect((await api("POST", `${there}/evaluate`, { context: [] })).status).toBe(400);
});

test("evaluation takes the contexts that OFREP takes, and refuses those that it refuses", async () => {
  for (const targetingKey of [1, null, "", {}]) {
    const { status, body } = await api("POST", `${there}/evaluate`, { context: { targetingKey } });
    expect([status, body.errors?.[0].pointer]).toEqual([400, "/context/targetingKey"]);
  }
  for (const context of ["{}", '{"n":1e999}', '{"targetingKey":"u\\ud800"}'])
    expect((await api("POST", `${there}/evaluate`, `{"context":${context}}`)).status).toBe(200);
});

test("weights given in percent are told so, before they serve a thousandth of what was meant", async () => {
  const { status, body } = await api("PATCH", there, { fallthrough: { split: { weights: { on: 50, off: 50 } } } });
  expect(status).toBe(400);
  expect(body.errors).toMatchObject([{ pointer: "/fallthrough/split/weights", code: "weights-in-percent" }]);
});

test("a key that would be expired already is not made", async () => {
  const keys = `/projects/${project}/environments/production/keys`;
  const { status, body } = await api("POST", keys, { kind: "server", expiresAt: 1_790_000_000 });
  expect(status).toBe(400);
  expect(body.errors).toMatchObject([{ pointer: "/expiresAt", code: "in-the-past" }]);
});
