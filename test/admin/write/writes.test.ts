import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { Hono } from "hono";
import { expect, test } from "vitest";
import { adminApi } from "../../../workers/admin/api.ts";
import { BOOLEAN, newFlag, newProject, newToken, root } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const project = await newProject(api);
const auditOf = async (query: string) => (await api("GET", `/audit?project=${project}&limit=100&${query}`)).body.items;

test("If-Match holds or answers 412 and changes nothing", async () => {
  const flag = await newFlag(api, project, "matched");
  const there = `${flag}/environments/production`;
  const stale = await api("PATCH", there, { on: true }, { "if-match": '"v9"' });
  expect(stale.status).toBe(412);
  expect(stale.body).toMatchObject({ code: "etag-mismatch", etag: '"v1"' });
  expect((await api("GET", there)).body.on).toBe(false);
  expect((await api("PATCH", there, { on: true }, { "if-match": '"v0", "v1"' })).status).toBe(200);
  expect((await api("PATCH", there, { on: false }, { "if-match": "*" })).status).toBe(200);
  expect((await api("PATCH", flag, { name: "New" }, { "if-match": '"v7"' })).status).toBe(412);
  expect((await api("PATCH", `/projects/${project}`, { name: "New" }, { "if-match": '"v7"' })).status).toBe(412);
  expect((await api("DELETE", flag, undefined, { "if-match": '"v7"' })).status).toBe(412);
});

test("a repeated request is given the first answer; the same key with another request is refused", async () => {
  const there = `${await newFlag(api, project, "repeated")}/environments/production`;
  const once = { "idempotency-key": "edit-1" };
  const first = await api("PATCH", there, { on: true }, once);
  expect(first.headers.get("idempotency-replayed")).toBeNull();
  await api("PATCH", there, { on: false });
  const again = await api("PATCH", there, { on: true }, once);
  expect(again.status).toBe(200);
  expect(again.headers.get("idempotency-replayed")).toBe("true");
  expect(again.headers.get("etag")).toBe(first.headers.get("etag"));
  expect(again.body).toEqual(first.body);
  expect(again.body.revision).toBeGreaterThan(0);
  expect((await api("GET", there)).body.on).toBe(false);
  const other = await api("PATCH", there, { on: false, offVariation: null }, once);
  expect(other.status).toBe(422);
  expect(other.body.code).toBe("idempotency-key-reused");
  const somebodyElse = await newToken();
  expect((await somebodyElse("PATCH", there, { trackExposures: true }, once)).status).toBe(200);
});

test("ten requests at once with one key are one write", async () => {
  const body = { key: "at-once", type: "boolean", variations: BOOLEAN };
  const answers = await Promise.all(
    Array.from({ length: 10 }, () =>
      api("POST", `/projects/${project}/flags`, body, { "idempotency-key": "create-1" }),
    ),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(201));
  expect(await auditOf("key=at-once")).toHaveLength(1);
});

test("a repeated creation does not tell the secret again, which is kept nowhere", async () => {
  const keys = `/projects/${project}/environments/production/keys`;
  const first = await api("POST", keys, { kind: "server" }, { "idempotency-key": "key-1" });
  const again = await api("POST", keys, { kind: "server" }, { "idempotency-key": "key-1" });
  expect(again.body.id).toBe(first.body.id);
  // Not even abbreviated: a script would store that as the key.
  expect(again.body).not.toHaveProperty("key");
  expect(again.headers.get("idempotency-replayed")).toBe("true");
  const client = () => api("POST", keys, { kind: "client" }, { "idempotency-key": "key-2" });
  expect((await client()).body.key).toBe((await client()).body.key);
  const { results } = await env.DB.prepare("SELECT body FROM idempotency").all();
  expect(JSON.stringify(results)).not.toContain(first.body.key);
});

test("twenty writers of one flag: nothing is lost, and each is in the audit log, in order", async () => {
  const there = `${await newFlag(api, project, "busy")}/environments/production`;
  await api("PATCH", there, { on: true });
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      index % 2 === 0
        ? api("PATCH", there, { targets: [{ variation: "on", values: [`user-${index}`] }] })
        : api("PATCH", there, { fallthrough: { split: { weights: { on: index * 1_000 } } } }),
    ),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
  const versions = answers.map(({ body }) => body.version as number).sort((a, b) => a - b);
  expect(versions).toEqual(Array.from({ length: 20 }, (_, index) => index + 3));
  const { body: last } = await api("GET", there);
  expect(last.version).toBe(22);
  expect(answers.find(({ body }) => body.version === 22)?.body).toMatchObject({
    targets: last.targets,
    fallthrough: last.fallthrough,
  });
  // Each entry starts from what the one before it left: no write was made of anything but the newest.
  const entries = (await auditOf("key=busy&action=flag.update")).reverse().slice(1);
  expect(entries).toHaveLength(20);
  const held = new Map<string, unknown>();
  for (const { changes } of entries) {
    for (const [path, { from, to }] of Object.entries<{ from?: unknown; to?: unknown }>(changes)) {
      if (held.has(path)) expect(from).toEqual(held.get(path));
      held.set(path, to);
    }
  }
  const revisions = answers.map(({ body }) => body.revision as number);
  expect(Math.min(...revisions)).toBeGreaterThan(0);
});

test("without a line, who has lost races for too long is refused with Retry-After, and has written nothing", async () => {
  const there = `${await newFlag(api, project, "crowded")}/environments/production`;
  let now = Date.now();
  // Each look at this clock is a long time later, as where every try takes seconds.
  const slow = new Hono().route("/api/v1", adminApi({ now: () => (now += 60_000) }));
  const broken = { get: () => ({ enter: () => Promise.reject(new Error("no line")) }), idFromName: () => null };
  const lineless = { ...env, WRITE_LINE: broken as unknown as typeof env.WRITE_LINE };
  const { body: owner } = await root("POST", "/tokens", { name: "Slow", role: "admin" });
  const headers = { authorization: `Bearer ${owner.token}`, "content-type": "application/json" };
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, index) => {
      const body = JSON.stringify({ targets: [{ variation: "on", values: [`user-${index}`] }] });
      return slow.request(`/api/v1${there}`, { method: "PATCH", headers, body }, lineless, createExecutionContext());
    }),
  );
  const written = answers.filter(({ status }) => status === 200);
  const refused = answers.filter(({ status }) => status === 503);
  expect([written.length, refused.length]).toSatisfy(
    ([some, others]) => some > 0 && others > 0 && some + others === 10,
  );
  for (const { headers } of refused) expect(headers.get("retry-after")).toMatch(/^\d+$/);
  expect((await api("GET", there)).body.version).toBe(1 + written.length);
});

test("of two edits that together would be a cycle exactly one lands", async () => {
  const [a, b] = [await newFlag(api, project, "skew-a"), await newFlag(api, project, "skew-b")];
  const needs = (flag: string) => ({ prerequisites: [{ flag, variations: ["on"] }] });
  const answers = await Promise.all([
    api("PATCH", `${a}/environments/production`, needs("skew-b")),
    api("PATCH", `${b}/environments/production`, needs("skew-a")),
  ]);
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 400]);
  const loser = answers.find(({ status }) => status === 400);
  expect(loser?.body.errors[0]).toMatchObject({ pointer: "/prerequisites/0/flag" });
  // In another environment the other one may.
  expect((await api("PATCH", `${b}/environments/development`, needs("skew-a"))).status).toBe(200);
});

test("a variation is not taken away while an environment starts to serve it", async () => {
  const three = [...BOOLEAN, { key: "also", value: true }];
  for (let round = 0; round < 5; round++) {
    const flag = await newFlag(api, project, `taken-${round}`, { variations: three });
    const there = `${flag}/environments/production`;
    await api("PATCH", there, { offVariation: "off" });
    await api("PATCH", `${flag}/environments/development`, { offVariation: "off" });
    const [taken, served] = await Promise.all([
      api("PATCH", flag, { variations: BOOLEAN }),
      api("PATCH", there, { fallthrough: { variation: "also" } }),
    ]);
    expect([taken.status, served.status]).toSatisfy(
      ([one, other]) => (one === 200 && other === 400) || (one === 409 && other === 200),
    );
  }
});

test("flags and environments made at the same time all meet", async () => {
  const crowded = await newProject(api);
  const made = await Promise.all([
    ...Array.from({ length: 5 }, (_, index) => api("POST", `/projects/${crowded}/environments`, { key: `e${index}` })),
    ...Array.from({ length: 5 }, (_, index) =>
      api("POST", `/projects/${crowded}/flags`, { key: `f${index}`, type: "boolean", variations: BOOLEAN }),
    ),
  ]);
  expect(made.map(({ status }) => status)).toEqual(Array(10).fill(201));
  for (let index = 0; index < 5; index++) {
    const there = `/projects/${crowded}/flags/f${index}/environments/e${4 - index}`;
    expect((await api("POST", `${there}/kill`, { reason: "test" })).status).toBe(200);
    expect((await api("PATCH", there, { on: true })).body.revision).toBeGreaterThan(0);
  }
});

test("every answer carries the correlation id, the caller's own where it is a sane one", async () => {
  const given = await api("GET", "/me", undefined, { "x-correlation-id": "trace-7" });
  expect(given.headers.get("x-correlation-id")).toBe("trace-7");
  const silly = await api("GET", "/nowhere", undefined, { "x-correlation-id": "a b" });
  expect(silly.headers.get("x-correlation-id")).toMatch(/^[0-9a-f-]{36}$/);
  expect(silly.body.correlationId).toBe(silly.headers.get("x-correlation-id"));
  const headers = {
    "x-correlation-id": "trace-8",
    "cf-connecting-ip": "203.0.113.9",
    "user-agent": "curl",
    "x-bunting-reason": "why",
  };
  await api("PATCH", `${await newFlag(api, project, "traced")}/environments/production`, { on: true }, headers);
  expect((await auditOf("key=traced"))[0]).toMatchObject({
    correlation_id: "trace-8",
    source_ip: "203.0.113.9",
    user_agent: "curl",
    reason: "why",
  });
});
