import { env } from "cloudflare:workers";
import { Hono } from "hono";
import { expect, test } from "vitest";
import { adminApi } from "../../../workers/admin/api.ts";
import { sha256 } from "../../../workers/platform/sha256.ts";
import { as, bootstrap, newFlag, newProject, newToken } from "../../support/admin.ts";

const admin = await newToken({ name: "root" });
const project = await newProject(admin);
const other = await newProject(admin);
await newFlag(admin, other, "theirs");
const flag = await newFlag(admin, project, "ours");

test("the bootstrap secret makes tokens and nothing else", async () => {
  const made = await bootstrap("POST", "/tokens", { name: "first", role: "admin" });
  expect(made.status).toBe(201);
  expect(made.body.token).toMatch(/^bnt_api_/);
  expect((await bootstrap("GET", "/tokens")).status).toBe(403);
  expect((await bootstrap("GET", "/projects")).status).toBe(403);
  const me = await as(made.body.token)("GET", "/me");
  expect(me.body).toMatchObject({ id: made.body.id, name: "first", role: "admin" });
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
