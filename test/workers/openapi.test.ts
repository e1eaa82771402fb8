import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { type Api, newFlag, newProject, newToken, openContract } from "../support/admin.ts";
import { Contract } from "../support/contract.ts";

type Parameter = { name?: string; in?: string; example?: string; $ref?: string; schema?: object };
type Operation = {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { example?: unknown }> };
  responses: Record<string, unknown>;
};

const contract = await openContract();
const operations = Object.entries(contract.document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, ...(operation as Operation) })),
);
const byId = new Map(operations.map((operation) => [operation.operationId, operation]));

/** A token of its own for each request: this is not about how often one may ask. */
const tokens = await Promise.all(Array.from({ length: 12 }, () => newToken()));
let asked = 0;
const api: Api = (...request) => tokens[asked++ % tokens.length]!(...request);

describe("the document", () => {
  test("is OpenAPI 3.1, and each operation has a name of its own, a summary, headers and problems", () => {
    expect((contract.document as unknown as { openapi: string }).openapi).toBe("3.1.0");
    expect(byId.size).toBe(operations.length);
    for (const operation of operations) {
      expect(operation.operationId).toMatch(/^[a-z]+([A-Z][a-z]+)+$/);
      expect(operation).toMatchObject({ summary: expect.any(String), tags: [expect.any(String)] });
      expect(Object.keys(operation.responses)).toEqual(expect.arrayContaining(["400", "401", "403", "500", "503"]));
      const headers = operation.parameters?.flatMap(({ $ref }) => $ref?.split("/").at(-1) ?? []);
      expect(headers).toContain("X-Correlation-Id");
      if (operation.method !== "get" && operation.operationId !== "evaluateFlag") {
        expect(headers).toEqual(expect.arrayContaining(["Idempotency-Key", "X-Bunting-Reason"]));
      }
      // Text, as it is in a URL, is never null.
      expect(JSON.stringify(operation.parameters?.map(({ schema }) => schema))).not.toContain('"null"');
      // A parameter for each name in the path, and no other.
      const named = operation.parameters?.filter((one) => one.in === "path").map(({ name }) => `{${name}}`);
      expect(named).toEqual(operation.path.match(/\{[^}]+\}/g) ?? []);
    }
    expect(JSON.stringify(contract.document)).not.toContain("undefined");
  });

  test("every reference in it leads somewhere", () => {
    const text = JSON.stringify(contract.document);
    const references = new Set(
      [...text.matchAll(/"\$ref":"#\/components\/(\w+)\/([^"]+)"/g)].map(([, a, b]) => `${a}/${b}`),
    );
    expect(references.size).toBeGreaterThan(10);
    const { components } = contract.document as { components: Record<string, Record<string, unknown>> };
    for (const reference of references) {
      const [kind = "", name = ""] = reference.split("/");
      expect([reference, components[kind]?.[name]]).not.toEqual([reference, undefined]);
    }
  });

  test("what it does not say is noticed by every test", () => {
    const headers = new Headers({ "content-type": "application/json", "x-correlation-id": "c" });
    const project = { key: "a", name: "a", description: "", createdAt: 1, updatedAt: 1 };
    const check =
      (status: number, body: object, more: Record<string, string> = {}, path = "/projects/a") =>
      () =>
        new Contract(contract.document).check("GET", path, {
          status,
          headers: new Headers({ ...Object.fromEntries(headers), etag: '"v1"', ...more }),
          text: JSON.stringify(body),
        });
    expect(check(200, project)).not.toThrow();
    expect(check(200, { ...project, surprise: 1 })).toThrow("surprise");
    expect(check(200, { ...project, key: 1 })).toThrow("/key");
    expect(check(200, { key: "a" })).toThrow("required");
    expect(check(200, project, { etag: "" })).toThrow("No ETag");
    expect(check(202, project)).toThrow("Undocumented status");
    expect(check(200, project, { "content-type": "text/plain" })).toThrow("content type");
    const problem = { type: "t", title: "t", status: 404, code: "not-found", detail: "d", correlationId: "c" };
    const type = { "content-type": "application/problem+json" };
    expect(check(404, problem, type)).not.toThrow();
    expect(check(404, { ...problem, code: "nowhere" }, type)).toThrow("code");
    expect(check(404, { ...problem, status: 400 }, type)).toThrow("status");
    expect(check(503, { ...problem, status: 503, code: "unavailable" }, type)).toThrow("When?");
    expect(check(200, project, {}, "/nowhere")).toThrow("Undocumented");
  });
});

/** A story in which each operation can be done; what it makes is known by the names in the examples, or by id. */
const first = [
  ...["createProject", "updateProject", "createEnvironment", "updateEnvironment", "createFlag", "updateFlag"],
  ...["changeFlags", "updateTargeting", "replaceTargeting", "editTargeting", "turnFlagOff", "turnFlagOn"],
  ...["evaluateFlag", "killFlag", "restoreFlag", "createSegment", "updateSegment", "changeMembers", "uploadMembers"],
  ...["createKey", "updateKey", "createToken", "updateToken", "replaceCodeReferences"],
  ...["createRamp", "pauseRamp", "resumeRamp", "jumpRamp", "abortRamp", "createSchedule", "updateSchedule"],
  ...["createPolicy", "updatePolicy", "createChangeRequest", "requestChanges", "updateChangeRequest"],
  ...["rebaseChangeRequest", "submitChangeRequest", "withdrawChangeRequest", "createChangeRequest"],
  ...["commentOnChangeRequest", "approveChangeRequest", "publishChangeRequest", "promoteChanges", "closeKillReview"],
];
/** What only its author does with a change request. */
const own = new Set(["updateChangeRequest", "rebaseChangeRequest", "submitChangeRequest"]);
const last = [
  ...["revertAuditEntry", "archiveFlag", "unarchiveFlag", "archiveFlag", "deleteKey", "deletePolicy", "deleteToken"],
  ...["deleteFlag", "deleteSegment", "deleteEnvironment", "deleteProject"],
];

test("every example is sent, in one story, and answered as it says", async () => {
  // What is found by an id that this story does not make is read in tests of its own.
  const made = /\/(keys\/\{key\}|tokens\/\{token\}|audit\/\{id\})/;
  const findable =
    (path: string) =>
    ({ in: place, example }: Parameter) =>
      place !== "path" || example !== undefined || made.test(path);
  const reads = operations
    .filter(({ method, path, parameters = [] }) => method === "get" && parameters.every(findable(path)))
    .map(({ operationId }) => operationId)
    .filter((id) => id !== "compareEnvironments");
  expect(reads.length).toBeGreaterThan(20);
  const known = new Set([...first, ...reads, ...last]);
  const examples = operations.filter(({ requestBody }) =>
    Object.values(requestBody?.content ?? {}).some(({ example }) => example !== undefined),
  );
  expect(examples.map(({ operationId }) => operationId).filter((id) => !known.has(id))).toEqual([]);
  expect(examples.length).toBeGreaterThan(25);
  const without = operations.filter((one) => one.requestBody !== undefined && !examples.includes(one));
  expect(without.map(({ operationId }) => operationId)).toEqual([]);

  const ids: Record<string, string> = {};
  let revision = 0;
  const author = await newToken();
  const example = (id: string) => Object.values(byId.get(id)!.requestBody?.content ?? {})[0]?.example as object;
  for (const id of [...first, ...reads, ...last]) {
    if (id === "submitChangeRequest") {
      const draft = { ...example("createChangeRequest"), draft: true };
      ids.changeRequest = (await author("POST", "/projects/demo/change-requests", draft)).body.id;
    }
    if (id === "closeKillReview") {
      const policy = { key: "all", approvers: { role: "admin" }, approvals: 1 };
      await author("POST", "/projects/demo/policies", policy);
      const killed = "/projects/demo/flags/new-checkout/environments/production";
      await author("POST", `${killed}/kill`, { reason: "Orders fail" });
      await author("POST", `${killed}/restore`, {});
      await author("DELETE", "/projects/demo/policies/all");
      ids.killReview = (await author("GET", "/projects/demo/kill-reviews")).body.items[0].id;
    }
    const { path, method, parameters = [], requestBody } = byId.get(id)!;
    const place = path.replace(/\{(\w+)\}/g, (_, name: string) => {
      return ids[name] ?? parameters.find((one) => one.name === name)?.example ?? "";
    });
    if (id === "deleteProject") await api("DELETE", "/projects/demo/environments/staging");
    const query = { readReceipt: `?revision=${revision}`, listDependents: "?flag=new-checkout" }[id] ?? "";
    const [type, content] = Object.entries(requestBody?.content ?? {})[0] ?? [];
    const headers: Record<string, string> = type === undefined ? {} : { "content-type": type };
    const by = id === "createChangeRequest" || own.has(id) ? author : api;
    const { status, body } = await by(method.toUpperCase(), `${place}${query}`, content?.example, headers);
    expect([id, status, status < 300 ? "" : body]).toEqual([id, expect.toSatisfy((code) => code < 300), ""]);
    if (id === "createEnvironment") await api("POST", "/projects/demo/environments", { key: "staging" });
    if (id === "createKey") ids.key = body.id;
    if (id === "createRamp" || id === "createSchedule") ids.id = body.id;
    if (id === "createChangeRequest") ids.changeRequest = body.id;
    if (id === "createToken") ids.token = body.id;
    if (body?.propagation !== undefined) revision = body.revision;
    if (id === "listAudit") {
      ids.id = body.items.find(({ action }: { action: string }) => action === "flag.update").id;
    }
  }
});

const HOSTILE: [string, string | Uint8Array][] = [
  ["a trailing comma", '{"name":"x",}'],
  ["a comment", '{"name":"x" /* yes */}'],
  ["single quotes", "{'name':'x'}"],
  ["two documents", "{}{}"],
  ["an array", "[]"],
  ["a string", '"x"'],
  ["null", "null"],
  ["NaN", '{"name":NaN}'],
  ["infinity", '{"name":Infinity}'],
  ["what never closes", '{"a":'.repeat(5_000)],
  ["a depth of 10,000", `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`],
  ["a prototype", '{"__proto__":{"isAdmin":true}}'],
  ["a constructor", '{"constructor":{"prototype":{"isAdmin":true}}}'],
  ["half a character", '{"reason":"\\ud800"}'],
  ["a number beyond doubles", '{"name":1e999}'],
  ["UTF-16", new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0])],
  ["bytes that are no UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d])],
];

describe("every write that takes JSON refuses", async () => {
  const project = await newProject(api);
  await newFlag(api, project, "solid");
  const there: Record<string, string> = { project, environment: "production", flag: "solid" };
  const writes = operations.filter(
    ({ requestBody, operationId }) =>
      requestBody?.content["application/json"] !== undefined && operationId !== "evaluateFlag",
  );

  test.each(HOSTILE)("%s", async (_, body) => {
    expect(writes.length).toBeGreaterThan(25);
    for (const { path, method, operationId } of writes) {
      const place = path.replace(/\{(\w+)\}/g, (_, name: string) => there[name] ?? "x");
      const answer = await api(method.toUpperCase(), place, body);
      expect([operationId, answer.status, answer.body.code]).toEqual([operationId, 400, "invalid-request"]);
    }
    expect(({} as { isAdmin?: boolean }).isAdmin).toBeUndefined();
  });
});

describe("the page at /docs", () => {
  const read = () => exports.default.fetch(new Request("https://bunting.test/api/v1/docs"));

  test("tells every operation and shape, to anybody", async () => {
    const response = await read();
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    const page = await response.text();
    const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
    for (const { operationId, path, method } of operations) {
      expect(page).toContain(`id="${operationId}"`);
      expect(page).toContain(escaped(`${method.toUpperCase()} /api/v1${path}`));
    }
    expect(page).toContain("not-archived");
    const links = [...page.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id);
    expect(links.filter((id) => !page.includes(`id="${id}"`))).toEqual([]);
    expect(page).not.toMatch(/undefined|\[object Object\]/);
  });

  test("needs nothing from elsewhere, and could not load or run it", async () => {
    const response = await read();
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/script|https?:|\*/);
    const page = await response.text();
    expect(page).not.toMatch(/<(script|link|img|iframe|object|base|form)\b|@import|url\(|\son\w+=/i);
    expect([...page.matchAll(/(?:href|src)="([^"#][^"]*)"/g)].map(([, to]) => to)).toEqual(["/api/v1/openapi.json"]);
  });
});
