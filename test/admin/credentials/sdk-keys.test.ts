import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { as, newProject, newToken, root } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const project = await newProject(api);
const keys = `/projects/${project}/environments/production/keys`;
const DAY_MS = 86_400_000;

async function newKey(fields: object = {}) {
  const { body } = await api("POST", keys, { kind: "client", ...fields });
  return { path: `${keys}/${body.id}`, key: body.key as string, id: body.id as string };
}

describe("SDK keys", () => {
  test("a key is read alone, with its ETag and without what it was made of", async () => {
    const { path, key, id } = await newKey({ kind: "server", name: "Backend" });
    const { status, headers, body } = await api("GET", path);
    expect([status, headers.get("etag"), body.id]).toEqual([200, '"v1"', id]);
    expect(body).toMatchObject({ kind: "server", name: "Backend", version: 1, origins: [], revokedAt: null });
    expect(JSON.stringify(body)).not.toContain(key);
    expect(body).not.toHaveProperty("hash");
    const elsewhere = path.replace("production", "development");
    expect((await api("GET", elsewhere)).status).toBe(404);
    expect((await api("PATCH", elsewhere, { name: "x" })).status).toBe(404);
  });

  test("its origins and its end travel to the clients like a flag, and only there where they change", async () => {
    const { path } = await newKey();
    const origins = ["https://app.example.com"];
    const { status, body } = await api("PATCH", path, { origins, expiresAt: Date.now() + DAY_MS });
    expect(status).toBe(200);
    expect(body).toMatchObject({ origins, version: 2, revision: expect.any(Number) });
    const documents = async () =>
      (await env.DB.prepare("SELECT documents FROM changes ORDER BY rowid DESC LIMIT 1").first<string>("documents"))!;
    expect(Object.values(JSON.parse(await documents()).keys)).toMatchObject([{ origins }]);
    await api("PATCH", path, { name: "Renamed" });
    expect(JSON.parse(await documents()).keys).toEqual({});
    expect((await api("GET", path)).body).toMatchObject({ name: "Renamed", origins, version: 3 });
    const { body: log } = await api("GET", `/audit?project=${project}&type=key&action=key.update`);
    expect(log.items[0]).toMatchObject({ actor: "Ada", changes: { name: { from: "client key", to: "Renamed" } } });
  });

  test("If-Match holds or answers 412, on edits and on the end", async () => {
    const { path } = await newKey();
    expect((await api("PATCH", path, { name: "One" }, { "if-match": '"v1"' })).headers.get("etag")).toBe('"v2"');
    for (const [method, body] of [["PATCH", { name: "Two" }], ["DELETE"]] as const) {
      const { status, headers } = await api(method, path, body, { "if-match": '"v1"' });
      expect([status, headers.get("etag")]).toEqual([412, '"v2"']);
    }
    expect((await api("DELETE", path, undefined, { "if-match": '"v2"' })).status).toBe(204);
    expect((await api("GET", path)).body).toMatchObject({ version: 3, revokedAt: expect.any(Number) });
  });

  test("twenty editors of one key: each edit is of what the one before it left", async () => {
    const { path } = await newKey();
    const names = Array.from({ length: 20 }, (_, index) => `name ${index}`);
    const answers = await Promise.all(names.map((name) => api("PATCH", path, { name })));
    expect(answers.map(({ body }) => body.version).sort((a, b) => a - b)).toEqual(names.map((_, index) => index + 2));
  });

  test.each([
    ["an end that is past", { expiresAt: 1 }, 400, "/expiresAt"],
    ["origins of a server key", { origins: ["https://a.example"] }, 400, "/origins"],
    ["an address for an origin", { origins: ["https://a.example/path"] }, 400, "/origins/0"],
    ["another kind", { kind: "client" }, 400, "/kind"],
    ["another secret", { hash: "x" }, 400, "/hash"],
  ])("%s is refused", async (_, body, status, pointer) => {
    const { path } = await newKey({ kind: "server" });
    const answer = await api("PATCH", path, body);
    expect([answer.status, answer.body.errors[0].pointer]).toEqual([status, pointer]);
  });

  test("a revoked key stays revoked", async () => {
    const { path } = await newKey();
    await api("DELETE", path);
    const { status, body } = await api("PATCH", path, { expiresAt: null, name: "Lazarus" });
    expect([status, body.code]).toEqual([409, "revoked"]);
    expect((await api("DELETE", path)).status).toBe(204);
  });
});

describe("API tokens", () => {
  async function newTokenRow(fields: object = {}) {
    const { body } = await root("POST", "/tokens", { name: "robot", role: "admin", ...fields });
    return { path: `/tokens/${body.id}`, secret: body.token as string, api: as(body.token) };
  }

  test("a token is read alone, with its ETag and without its secret", async () => {
    const { path, secret } = await newTokenRow();
    const { headers, body } = await api("GET", path);
    expect(headers.get("etag")).toBe('"v1"');
    expect(body).toMatchObject({ name: "robot", version: 1 });
    expect(JSON.stringify(body)).not.toContain(secret);
    expect(body).not.toHaveProperty("hash");
    expect((await api("GET", "/tokens/none")).status).toBe(404);
  });

  test("a narrowed scope holds at once, and while D1 is down as well", async () => {
    const { path, api: robot } = await newTokenRow({ scope: { projects: [project, "other"] } });
    expect((await robot("GET", `/projects/${project}`)).status).toBe(200);
    const { status, body } = await api("PATCH", path, { scope: { projects: ["other"] } });
    expect([status, body.scope]).toEqual([200, { projects: ["other"], environments: [] }]);
    expect((await robot("GET", `/projects/${project}`)).status).toBe(403);
    const hash = await env.DB.prepare("SELECT hash FROM api_tokens WHERE id = ?").bind(body.id).first<string>("hash");
    expect(await env.KV.get(`token:${hash}`, "json")).toMatchObject({ scope: { projects: ["other"] } });
  });

  test.each([
    ["another project", { projects: ["a"] }, { projects: ["a", "b"] }, "/scope/projects"],
    ["every project", { projects: ["a"] }, { projects: [] }, "/scope/projects"],
    ["another environment", { environments: ["a/b"] }, { environments: ["a/b", "a/c"] }, "/scope/environments"],
    ["every environment", { environments: ["a/b"] }, { environments: [] }, "/scope/environments"],
  ])("a scope is never widened: %s", async (_, before, after, pointer) => {
    const { path } = await newTokenRow({ scope: before });
    const { status, body } = await api("PATCH", path, { scope: after });
    expect([status, body.errors]).toMatchObject([400, [{ pointer, code: "wider-scope" }]]);
    expect((await api("GET", path)).body.version).toBe(1);
  });

  test("nobody prolongs their own token; to shorten it is fine", async () => {
    const end = Date.now() + DAY_MS;
    const { path, api: robot } = await newTokenRow({ expiresAt: end });
    for (const expiresAt of [end + 1, null]) expect((await robot("PATCH", path, { expiresAt })).status).toBe(403);
    expect((await robot("PATCH", path, { expiresAt: end - 1 })).body.expiresAt).toBe(end - 1);
    expect((await api("PATCH", path, { expiresAt: null })).body.expiresAt).toBeNull();
    expect((await robot("PATCH", path, { name: "still me" })).status).toBe(200);
  });

  test("another role, another secret and a past end are refused; so is a revoked token", async () => {
    const { path } = await newTokenRow({ role: "viewer" });
    expect((await api("PATCH", path, { role: "admin" })).body.errors).toMatchObject([{ pointer: "/role" }]);
    expect((await api("PATCH", path, { expiresAt: 1_790_000_000 })).body.errors).toMatchObject([
      { pointer: "/expiresAt", code: "in-the-past" },
    ]);
    await api("DELETE", path);
    expect((await api("PATCH", path, { name: "again" })).body.code).toBe("revoked");
  });

  test("If-Match holds or answers 412, and of editors at once none is lost", async () => {
    const { path } = await newTokenRow();
    expect((await api("PATCH", path, { name: "One" }, { "if-match": '"v7"' })).status).toBe(412);
    expect((await api("DELETE", path, undefined, { "if-match": '"v7"' })).status).toBe(412);
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => api("PATCH", path, { name: `name ${index}` })),
    );
    expect(answers.map(({ body }) => body.version).sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect((await api("DELETE", path, undefined, { "if-match": '"v11"' })).status).toBe(204);
  });

  test("a repeated edit is answered as the first one", async () => {
    const { path } = await newTokenRow();
    const once = { "idempotency-key": "rename" };
    const first = await api("PATCH", path, { name: "One" }, once);
    await api("PATCH", path, { name: "Two" });
    const again = await api("PATCH", path, { name: "One" }, once);
    expect([again.headers.get("idempotency-replayed"), again.body]).toEqual(["true", first.body]);
    expect((await api("GET", path)).body.name).toBe("Two");
  });
});
