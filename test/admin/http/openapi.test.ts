import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { newFlag, newProject } from "../../support/admin.ts";
import { Contract } from "../../support/contract.ts";
import { api, contract, operations, playStory, reads, written } from "../../support/story.ts";

const byId = new Map(operations.map((operation) => [operation.operationId, operation]));

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

  test("an answer that it does not describe fails every test", () => {
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
    expect(check(503, { ...problem, status: 503, code: "unavailable" }, type)).toThrow("No Retry-After");
    expect(check(200, project, {}, "/nowhere")).toThrow("Undocumented");
  });
});

test("every example is sent, in one story, and answered as it says", async () => {
  const known = new Set(written.concat(reads).map(({ operationId }) => operationId));
  expect(reads.length).toBeGreaterThan(20);
  const examples = operations.filter(({ requestBody }) =>
    Object.values(requestBody?.content ?? {}).some(({ example }) => example !== undefined),
  );
  expect(examples.map(({ operationId }) => operationId).filter((id) => !known.has(id))).toEqual([]);
  expect(examples.length).toBeGreaterThan(25);
  const without = operations.filter((one) => one.requestBody !== undefined && !examples.includes(one));
  expect(without.map(({ operationId }) => operationId)).toEqual([]);
  await playStory(async ({ by, method, place, query, body, headers }) => by(method, `${place}${query}`, body, headers));
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
