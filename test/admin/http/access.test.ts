import { env } from "cloudflare:workers";
import { Hono } from "hono";
import { describe, expect, onTestFinished, test } from "vitest";
import { adminApi } from "../../../workers/admin/api.ts";
import { sha256 } from "../../../workers/platform/sha256.ts";
import { as, newFlag, newProject, newToken, root } from "../../support/admin.ts";

const admin = await newToken({ name: "root" });
const project = await newProject(admin);
const other = await newProject(admin);
await newFlag(admin, other, "theirs");
const flag = await newFlag(admin, project, "ours");

const bootstrap = as("bootstrap");

describe("the bootstrap secret", () => {
  test("makes the first token and nothing else: afterwards it is refused, and recorded", async () => {
    const again = () => bootstrap("POST", "/tokens", { name: "second", role: "admin" });
    const before = (await admin("GET", "/tokens?limit=100")).body.items.length;
    for (const refused of [await again(), await again()]) {
      expect([refused.status, refused.body.code]).toEqual([403, "bootstrap-used"]);
      expect(refused.body.detail).toContain("npx wrangler secret delete BOOTSTRAP_TOKEN");
    }
    expect((await admin("GET", "/tokens?limit=100")).body.items).toHaveLength(before);
    const { body } = await admin("GET", "/audit?action=bootstrap.refused");
    expect(body.items).toHaveLength(2);
    expect(body.items[0]).toMatchObject({ actor: "bootstrap", action: "bootstrap.refused" });
    expect((await bootstrap("GET", "/tokens")).status).toBe(403);
    expect((await bootstrap("GET", "/projects")).status).toBe(403);
  });

  test("is refused each time that a request is repeated with its Idempotency-Key", async () => {
    const again = () => bootstrap("POST", "/tokens", { name: "b", role: "admin" }, { "idempotency-key": "b-1" });
    expect([(await again()).status, (await again()).status]).toEqual([403, 403]);
  });

  test("makes another first one where no administrator's token is valid any more, one even if many ask at once", async () => {
    await env.DB.prepare("UPDATE api_tokens SET revoked_at = 1 WHERE role = 'admin' AND name <> 'root'").run();
    await env.DB.prepare("UPDATE api_tokens SET expires_at = 1 WHERE role = 'admin' AND name = 'root'").run();
    onTestFinished(async () => {
      await env.DB.prepare("UPDATE api_tokens SET revoked_at = NULL, expires_at = NULL WHERE role = 'admin'").run();
    });
    const limited = { name: "a", role: "admin", scope: { projects: [project] } };
    for (const fields of [{ name: "a", role: "viewer" }, limited])
      expect((await bootstrap("POST", "/tokens", fields)).status).toBe(400);
    const made = await Promise.all(
      Array.from({ length: 5 }, () => bootstrap("POST", "/tokens", { name: "again", role: "admin" })),
    );
    expect(made.map(({ status }) => status).sort()).toEqual([201, 403, 403, 403, 403]);
    const { body } = made.find(({ status }) => status === 201)!;
    expect(body.token).toMatch(/^bnt_api_/);
    expect((await as(body.token)("GET", "/me")).body).toMatchObject({ id: body.id, name: "again", role: "admin" });
  });
});

describe("the last token that may do everything", () => {
  /** Of all administrators only these are valid. */
  async function alone(...names: string[]) {
    const made = await Promise.all(names.map((name) => root("POST", "/tokens", { name, role: "admin" })));
    const ids = made.map(({ body }) => `'${body.id}'`).join(",");
    await env.DB.prepare(`UPDATE api_tokens SET revoked_at = 1 WHERE role = 'admin' AND id NOT IN (${ids})`).run();
    onTestFinished(async () => {
      await env.DB.prepare("UPDATE api_tokens SET revoked_at = NULL WHERE role = 'admin'").run();
    });
    return made.map(({ body }) => ({ id: body.id as string, api: as(body.token) }));
  }

  test("cannot be revoked, nor limited to a scope; with another one beside it, it can", async () => {
    const [only] = await alone("only");
    for (const refused of [
      await only!.api("DELETE", `/tokens/${only!.id}`),
      await only!.api("PATCH", `/tokens/${only!.id}`, { scope: { projects: [project] } }),
    ])
      expect([refused.status, refused.body.code]).toEqual([409, "last-administrator"]);
    expect((await only!.api("GET", "/me")).status).toBe(200);
    // A token of a part of everything is no administrator of all.
    await only!.api("POST", "/tokens", { name: "part", role: "admin", scope: { projects: [project] } });
    expect((await only!.api("DELETE", `/tokens/${only!.id}`)).status).toBe(409);
    await only!.api("POST", "/tokens", { name: "next", role: "admin" });
    expect((await only!.api("DELETE", `/tokens/${only!.id}`)).status).toBe(204);
  });

  test("stays where two revoke each other at once", async () => {
    const [one, two] = await alone("one", "two");
    const answers = await Promise.all([
      one!.api("DELETE", `/tokens/${two!.id}`),
      two!.api("DELETE", `/tokens/${one!.id}`),
    ]);
    expect(answers.map(({ status }) => status).filter((status) => status === 204)).toHaveLength(1);
  });
});

test("a token is shown once, kept as a hash, mirrored for kills, and dies when revoked", async () => {
  const { body } = await admin("POST", "/tokens", { name: "short-lived", role: "viewer" });
  const api = as(body.token);
  expect((await api("GET", "/me")).status).toBe(200);
  const listed = await admin("GET", "/tokens?limit=100");
  expect(JSON.stringify(listed.body)).not.toContain(body.token);
  const mirrored = await env.KV.get<{ role: string; revokedAt: number | null }>(
    `token:${await sha256(body.token)}`,
    "json",
  );
  expect(mirrored).toMatchObject({ role: "viewer", revokedAt: null });
  expect((await admin("DELETE", `/tokens/${body.id}`)).status).toBe(204);
  expect((await admin("DELETE", `/tokens/${body.id}`)).status).toBe(204);
  expect((await api("GET", "/me")).status).toBe(401);
  expect(await env.KV.get(`token:${await sha256(body.token)}`)).toContain('"revokedAt":1');
});

test("a token ends at its time", async () => {
  const past = await admin("POST", "/tokens", { name: "late", role: "viewer", expiresAt: Date.now() - 1 });
  expect(past.body.errors).toMatchObject([{ pointer: "/expiresAt" }]);
  const { body } = await admin("POST", "/tokens", { name: "brief", role: "viewer", expiresAt: Date.now() + 60_000 });
  const headers = { authorization: `Bearer ${body.token}` };
  expect((await as(body.token)("GET", "/me")).status).toBe(200);
  const anHourLater = new Hono().route("/api/v1", adminApi({ now: () => Date.now() + 3_600_000 }));
  const late = await anHourLater.request("/api/v1/me", { headers }, env);
  expect(late.status).toBe(401);
  expect(await late.json()).toMatchObject({ detail: "The API token has expired." });
});

test("a role may do its part, and is told what more would need", async () => {
  const viewer = await newToken({ role: "viewer" });
  const editor = await newToken({ role: "editor" });
  expect((await viewer("GET", flag)).status).toBe(200);
  expect((await viewer("POST", `${flag}/environments/production/evaluate`, { context: {} })).status).toBe(200);
  const refused = await viewer("POST", `${flag}/environments/production/kill`, { reason: "no" });
  expect([refused.status, refused.body.code]).toEqual([403, "forbidden"]);
  expect(refused.body.detail).toBe("This needs the role editor; the token has the role viewer.");
  expect((await editor("PATCH", `${flag}/environments/production`, { on: true })).status).toBe(200);
  for (const [path, body] of [
    ["/projects", { key: "mine" }],
    [`/projects/${project}/environments`, { key: "mine" }],
    [`/projects/${project}/environments/production/keys`, { kind: "server" }],
    ["/tokens", { name: "mine", role: "admin" }],
  ] as const) {
    expect((await editor("POST", path, body)).status).toBe(403);
  }
});

test("a token of one project sees and touches that one, and is not told what else exists", async () => {
  const api = await newToken({ scope: { projects: [project] } });
  expect((await api("GET", "/projects")).body.items).toMatchObject([{ key: project }]);
  expect((await api("PATCH", flag, { name: "Ours" })).status).toBe(200);
  for (const path of [`/projects/${other}`, `/projects/${other}/flags/theirs`, "/projects/never-made"]) {
    expect((await api("GET", path)).status).toBe(403);
  }
  expect((await api("POST", "/projects", { key: "more" })).status).toBe(403);
  expect((await api("GET", "/tokens")).status).toBe(403);
  const { body } = await api("GET", "/audit?limit=100");
  expect(new Set(body.items.map((entry: { resource: { project: string } }) => entry.resource.project))).toEqual(
    new Set([project]),
  );
});

test("a token of one environment edits and kills there, and nowhere else", async () => {
  const api = await newToken({ role: "editor", scope: { environments: [`${project}/development`] } });
  expect((await api("GET", "/projects")).body.items).toMatchObject([{ key: project }]);
  expect((await api("GET", `/projects/${project}/environments`)).body.items).toMatchObject([{ key: "development" }]);
  expect((await api("GET", flag)).status).toBe(200);
  expect((await api("PATCH", `${flag}/environments/development`, { on: true })).status).toBe(200);
  expect((await api("POST", `${flag}/environments/development/kill`, { reason: "test" })).status).toBe(200);
  const refused = await api("POST", `${flag}/environments/production/kill`, { reason: "test" });
  expect(refused.body.detail).toBe(`This needs the environment ${project}/production in the token's scope.`);
  expect((await api("PATCH", `${flag}/environments/production`, { on: true })).status).toBe(403);
  // A flag's own fields show in every environment.
  expect((await api("PATCH", flag, { name: "New" })).status).toBe(403);
  expect((await api("POST", `/projects/${project}/flags`, {})).status).toBe(403);
});

test("a server key is shown once, a client key again; both are in the environment's change, and die by another", async () => {
  const keys = `/projects/${project}/environments/production/keys`;
  const { body: environment } = await admin("GET", `/projects/${project}/environments/production`);
  const short = environment.id.slice("env_".length);
  const server = await admin("POST", keys, { kind: "server", name: "api" });
  const client = await admin("POST", keys, { kind: "client", origins: ["https://app.example.com"] });
  expect(server.body.key).toMatch(new RegExp(`^bnt_srv_${short}_[0-9a-z]{40}$`));
  expect(client.body.key).toMatch(new RegExp(`^bnt_cli_${short}_[0-9a-z]+$`));
  expect(server.body.revision).toBeGreaterThan(0);
  const listed = await admin("GET", keys);
  expect(listed.body.items.map((key: { shown: string }) => key.shown)).toContain(client.body.key);
  expect(JSON.stringify(listed.body)).not.toContain(server.body.key);
  expect((await admin("POST", keys, { kind: "server", origins: ["https://x.example"] })).status).toBe(400);
  expect((await admin("POST", keys, { kind: "client", origins: ["app.example.com/x"] })).status).toBe(400);

  const hash = await sha256(server.body.key);
  const lastChange = async () => {
    const row = await env.DB.prepare("SELECT documents FROM changes WHERE environment_id = ? ORDER BY version DESC")
      .bind(environment.id)
      .first<{ documents: string }>();
    return JSON.parse(row?.documents ?? "{}").keys;
  };
  expect(Object.values(await lastChange())).toMatchObject([{ kind: "client", origins: ["https://app.example.com"] }]);
  expect((await admin("DELETE", `${keys}/${server.body.id}`)).status).toBe(204);
  expect(await lastChange()).toEqual({ [hash]: null });
  expect((await admin("DELETE", `${keys}/none`)).status).toBe(404);
});

test("too many requests are told when to come back; a kill is never among them", async () => {
  const api = await newToken({ role: "editor" });
  const burst = await Promise.all(Array.from({ length: 400 }, () => api("GET", "/me")));
  const refused = burst.find(({ status }) => status === 429);
  expect(refused?.body.code).toBe("too-many-requests");
  expect(Number(refused?.headers.get("retry-after"))).toBeGreaterThan(0);
  expect((await api("POST", `${flag}/environments/production/kill`, { reason: "fire" })).status).toBe(200);
});
