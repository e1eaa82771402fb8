import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });

/** Every row of D1 in which an id stands, but for what is kept on purpose: the audit log and the outbox. */
async function rowsOf(id: string): Promise<string[]> {
  const { results } = await env.DB.prepare(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\'",
  ).all<{ name: string }>();
  const tables = results
    .map(({ name }) => name)
    .filter((name) => !["audit", "changes", "project_edits"].includes(name));
  const rows = await env.DB.batch(tables.map((table) => env.DB.prepare(`SELECT * FROM "${table}"`)));
  return tables.filter((_, index) => JSON.stringify(rows[index]?.results).includes(id));
}

test("an environment that keys still open is not deleted, and the answer names them", async () => {
  const environment = `/projects/${await newProject(api)}/environments/production`;
  const { body: key } = await api("POST", `${environment}/keys`, { kind: "server", name: "Backend" });
  const { status, body } = await api("DELETE", environment);
  expect([status, body.code]).toEqual([409, "in-use"]);
  expect(body.keys).toEqual([{ id: key.id, name: "Backend" }]);
  expect((await api("GET", environment)).status).toBe(200);
  await api("DELETE", `${environment}/keys/${key.id}`);
  expect((await api("DELETE", environment, undefined, { "if-match": '"v1"' })).status).toBe(412);
  expect((await api("DELETE", environment, undefined, { "x-bunting-reason": "moved" })).status).toBe(204);
});

test("a deleted environment leaves nothing but what happened to it, and its name is free again", async () => {
  const project = await newProject(api);
  const environment = `/projects/${project}/environments/production`;
  const flag = await newFlag(api, project, "a");
  const { id } = (await api("GET", environment)).body;
  await api("POST", `${environment}/segments`, { key: "beta", included: ["u"] });
  await api("PATCH", `${environment}/segments/beta/members`, { add: ["user-1"] });
  await api("PATCH", `${flag}/environments/production`, {
    on: true,
    rules: [{ conditions: [{ segment: ["beta"] }], serve: { variation: "on" } }],
  });
  await api("POST", `${flag}/environments/production/kill`, { reason: "test" });
  const { body: key } = await api("POST", `${environment}/keys`, { kind: "server" });
  await api("DELETE", `${environment}/keys/${key.id}`);
  expect((await rowsOf(id)).length).toBeGreaterThan(5);
  const once = { "idempotency-key": "delete-1" };
  expect((await api("DELETE", environment, undefined, once)).status).toBe(204);
  expect(await rowsOf(id)).toEqual([]);
  expect((await api("DELETE", environment, undefined, once)).headers.get("idempotency-replayed")).toBe("true");
  for (const path of [environment, `${flag}/environments/production`, `${environment}/segments/beta`])
    expect((await api("GET", path)).status).toBe(404);
  expect((await api("POST", `${flag}/environments/production/kill`, { reason: "late" })).status).toBe(404);
  await vi.waitFor(async () => expect(await env.KV.get(`environment:${project}/production`)).toBeNull());
  const object = env.BIG_SEGMENT.get(env.BIG_SEGMENT.idFromName(`${id}/beta`));
  await vi.waitFor(async () => expect(await object.has(Date.now(), ["user-1"])).toEqual([]));
  const { body: log } = await api("GET", `/audit?project=${project}&action=environment.delete`);
  expect(log.items).toMatchObject([{ actor: "Ada", resource: { key: "production" } }]);
  // What is made of the same name is another one.
  const again = await api("POST", `/projects/${project}/environments`, { key: "production" });
  expect(again.status).toBe(201);
  expect(again.body.id).not.toBe(id);
  expect((await api("GET", `${flag}/environments/production`)).body).toMatchObject({
    on: false,
    rules: [],
    killed: null,
  });
  expect((await api("PATCH", `${flag}/environments/production`, { on: true })).body.revision).toBeGreaterThan(0);
});

test("a key made while its environment is deleted is in the way, or finds no environment: never an orphan", async () => {
  const project = await newProject(api);
  for (let round = 0; round < 5; round++) {
    const environment = `/projects/${project}/environments/e${round}`;
    const { id } = (await api("POST", `/projects/${project}/environments`, { key: `e${round}` })).body;
    const [made, deleted] = await Promise.all([
      api("POST", `${environment}/keys`, { kind: "client" }),
      api("DELETE", environment),
    ]);
    expect([made.status, deleted.status]).toSatisfy(
      ([one, other]) => (one === 201 && other === 409) || (one === 404 && other === 204),
    );
    if (deleted.status === 204) expect(await rowsOf(id)).toEqual([]);
  }
});

test("a project is deleted once it has no environments, with its flags, archived ones too", async () => {
  const project = await newProject(api);
  await newFlag(api, project, "a", { tags: ["x"] });
  await api("POST", `${await newFlag(api, project, "b")}/archive`, {});
  const path = `/projects/${project}`;
  const { status, body } = await api("DELETE", path);
  expect([status, body.code, body.environments]).toEqual([409, "in-use", ["development", "production"]]);
  for (const key of body.environments) await api("DELETE", `${path}/environments/${key}`);
  const { results } = await env.DB.prepare("SELECT id FROM projects WHERE key = ?").bind(project).all<{ id: string }>();
  const id = results[0]!.id;
  const [flag, deleted] = await Promise.all([
    api("PATCH", `${path}/flags/a`, { tags: ["y"] }),
    api("DELETE", path, undefined, { "idempotency-key": "gone" }),
  ]);
  expect(deleted.status).toBe(204);
  expect([200, 404]).toContain(flag.status);
  expect(await rowsOf(id)).toEqual([]);
  expect((await api("GET", path)).status).toBe(404);
  expect((await api("POST", "/projects", { key: project })).status).toBe(201);
  expect((await api("GET", `${path}/flags?archived=any`)).body.items).toEqual([]);
});

test("only admins delete environments and projects", async () => {
  const project = await newProject(api);
  const editor = await newToken({ role: "approver" });
  expect((await editor("DELETE", `/projects/${project}/environments/production`)).status).toBe(403);
  expect((await editor("DELETE", `/projects/${project}`)).status).toBe(403);
});
