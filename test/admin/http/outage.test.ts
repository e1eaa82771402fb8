import { createExecutionContext, runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import worker from "../../../workers/index.ts";
import { newFlag, newProject, newToken, root } from "../../support/admin.ts";
import { setFaults, withFaults } from "../../support/faults.ts";

const admin = await newToken();
const project = await newProject(admin);
const flag = await newFlag(admin, project, "steady");
const there = `${flag}/environments/production`;
let token = "";
beforeAll(async () => {
  token = (await root("POST", "/tokens", { name: "on call", role: "admin" })).body.token;
});
afterEach(() => setFaults({}));

const faulty = withFaults(env);
async function ask(method: string, path: string, body?: object, headers: Record<string, string> = {}) {
  const request = new Request<unknown, IncomingRequestCfProperties>(`https://bunting.test/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const response = await worker.fetch(request, faulty, createExecutionContext());
  return { status: response.status, headers: response.headers, body: JSON.parse((await response.text()) || "null") };
}

const rows = async () => {
  const counted = ["changes", "audit", "flags", "idempotency", "projects", "sdk_keys"].map((name) =>
    env.DB.prepare(`SELECT COUNT(*) AS count FROM ${name}`),
  );
  return (await env.DB.batch<{ count: number }>(counted)).map(({ results }) => results[0]?.count);
};

test("while D1 fails every read and write but a kill is a 503 that says when to come back, and nothing is written", async () => {
  const before = await rows();
  setFaults({ DB: { mode: "fail" } });
  const requests: [string, string, object?][] = [
    ["GET", "/projects"],
    ["GET", flag],
    ["GET", there],
    ["GET", "/audit"],
    ["POST", "/projects", { key: "new" }],
    ["POST", `/projects/${project}/environments`, { key: "new" }],
    ["PATCH", there, { on: true }],
    ["POST", `${flag}/archive`, {}],
    ["POST", `${there}/evaluate`, { context: {} }],
    ["POST", `/projects/${project}/environments/production/keys`, { kind: "server" }],
  ];
  for (const [method, path, body] of requests) {
    const answer = await ask(method, path, body, { "idempotency-key": "k" });
    expect([method, path, answer.status]).toEqual([method, path, 503]);
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(answer.body.code).toBe("unavailable");
  }
  setFaults({});
  expect(await rows()).toEqual(before);
});

test("a failing D1 logs neither what was searched for nor hashes of tokens", async () => {
  const lines: string[] = [];
  const spies = (["log", "info", "warn", "error"] as const).map((level) =>
    vi.spyOn(console, level).mockImplementation((...all) => void lines.push(all.join(" "))),
  );
  setFaults({ DB: { mode: "fail" } });
  await ask("GET", "/projects?q=secret-project-name");
  await ask("GET", "/audit?reason=secret-reason");
  await ask("PATCH", flag, { description: "secret-description" });
  await ask("GET", "/me", undefined, { authorization: "Bearer bnt_api_secret-guess" });
  setFaults({});
  for (const spy of spies) spy.mockRestore();
  expect(lines.length).toBeGreaterThan(2);
  expect(lines.join("\n")).toContain("D1 failed");
  expect(lines.join("\n")).not.toMatch(/secret|select |params|[0-9a-f]{64}/i);
});

test("a kill and a restore need no D1, by a token and names that KV knows", async () => {
  setFaults({ DB: { mode: "fail" } });
  const killed = await ask("POST", `${there}/kill`, { reason: "D1 is down and so are we" });
  expect(killed.status).toBe(200);
  expect(killed.body).toMatchObject({ killed: { by: "on call" } });
  expect((await ask("POST", `${there}/restore`, {})).body).toMatchObject({ killed: null });
  // Neither D1 nor KV knows these: refused, never a silent success.
  expect((await ask("POST", `${flag}/environments/none/kill`, { reason: "x" })).status).toBe(404);
  expect((await ask("POST", `${there}/kill`, { reason: "x" }, { authorization: "Bearer bnt_api_x" })).status).toBe(401);
});

test("a kill does not wait for a D1 that is slow", async () => {
  // Longer than the test may take.
  setFaults({ DB: { mode: "delay", ms: 30_000 } });
  expect((await ask("POST", `${there}/kill?wait=0`, { reason: "slow" })).status).toBe(200);
  setFaults({});
  await ask("POST", `${there}/restore`, {});
});

test("a token that cannot be mirrored as revoked is not revoked in D1 either", async () => {
  const { body } = await admin("POST", "/tokens", { name: "leaver", role: "viewer" });
  setFaults({ KV: { mode: "fail" } });
  expect((await ask("DELETE", `/tokens/${body.id}`)).status).toBe(503);
  setFaults({});
  const { body: list } = await admin("GET", "/tokens?limit=100");
  expect(list.items.find(({ id }: { id: string }) => id === body.id).revokedAt).toBeNull();
  expect((await ask("DELETE", `/tokens/${body.id}`)).status).toBe(204);
});

test("a filter that was read once is not read again by /evaluate, whatever becomes of R2; a first one that cannot be is a 503", async () => {
  const segments = `/projects/${project}/environments/production/segments`;
  const newSegment = async (key: string) => {
    await admin("POST", segments, { key });
    await admin("POST", `${segments}/${key}/members`, '"ada"', { "content-type": "application/x-ndjson" });
    await vi.waitFor(async () =>
      expect((await admin("GET", `${segments}/${key}/members`)).body).toMatchObject({ filterCount: 1 }),
    );
    const rules = [{ conditions: [{ segment: [key] }], serve: { variation: "on" } }];
    await newFlag(admin, project, key);
    const targeting = { on: true, rules, fallthrough: { variation: "off" } };
    await admin("PATCH", `/projects/${project}/flags/${key}/environments/production`, targeting);
  };
  await newSegment("read");
  await newSegment("unread");
  const evaluate = async (key: string, targetingKey: string) => {
    const path = `/projects/${project}/flags/${key}/environments/production/evaluate`;
    const { status, body } = await ask("POST", path, { context: { targetingKey } });
    return [status, body.value];
  };
  expect(await evaluate("read", "ada")).toEqual([200, true]);
  setFaults({ SEGMENTS_BUCKET: { mode: "fail" } });
  expect([await evaluate("read", "ada"), await evaluate("read", "grace")]).toEqual([
    [200, true],
    [200, false],
  ]);
  expect((await evaluate("unread", "ada"))[0]).toBe(503);
  setFaults({});
  expect(await evaluate("unread", "ada")).toEqual([200, true]);
});

test("a kill that D1 has not been told of is pending in the flag and in the audit log, and once it is told it is not (X2)", async () => {
  const hub = env.HUB.get(env.HUB.idFromName(await environmentId()));
  // The hub's own D1: what mirrors kills cannot be written, what people read can.
  await env.DB.exec("CREATE TRIGGER no_kills BEFORE INSERT ON kills BEGIN SELECT RAISE(ABORT, 'full'); END");
  const killed = await ask("POST", `${there}/kill`, { reason: "D1 is full" });
  expect(killed.body).toMatchObject({ pending: true, killed: { reason: "D1 is full" } });
  expect((await admin("GET", there)).body.killed).toMatchObject({ reason: "D1 is full", pending: true });
  expect((await admin("PATCH", there, { on: true })).body.killed).toMatchObject({ pending: true });
  expect((await admin("POST", `${there}/evaluate`, { context: {} })).body).toMatchObject({ reason: "KILLED" });
  const log = async (query: string) => (await admin("GET", `/audit?${query}`)).body.items;
  const here = `project=${project}&environment=production`;
  expect((await log(here))[0]).toMatchObject({ id: null, pending: true, action: "flag.kill", reason: "D1 is full" });
  expect((await log(`${here}&action=flag.restore`))[0]?.pending).toBeUndefined();
  expect((await log(`${here}&key=other`))[0]).toBeUndefined();
  const elsewhere = await newToken({ scope: { projects: [], environments: [`${project}/development`] } });
  expect((await elsewhere("GET", `/audit?${here}`)).body.items).toEqual([]);

  await env.DB.exec("DROP TRIGGER no_kills");
  await vi.waitFor(async () => {
    await runDurableObjectAlarm(hub);
    const [first] = await log(`${here}&action=flag.kill`);
    expect(first).toMatchObject({ id: expect.any(Number), reason: "D1 is full" });
    expect(first).not.toHaveProperty("pending");
  });
  expect((await admin("GET", there)).body.killed).not.toHaveProperty("pending");
  await ask("POST", `${there}/restore`, {});
});

async function environmentId(): Promise<string> {
  const { body } = await admin("GET", `/projects/${project}/environments/production`);
  return body.id;
}
