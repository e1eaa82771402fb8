import { env } from "cloudflare:workers";
import { filterSize } from "@bunting/core";
import { expect, test, vi } from "vitest";
import { as, newToken } from "../../support/admin.ts";
import { evaluateRemotely, fetchPath, newPlace, turnedOn, withKey } from "../../support/data-plane.ts";

const place = await newPlace();
const { api } = place;
const segments = `/projects/${place.project}/environments/production/segments`;
const NDJSON = { "content-type": "application/x-ndjson" };
const CSV = { "content-type": "text/csv" };

async function newSegment(key: string): Promise<string> {
  await api("POST", segments, { key });
  return `${segments}/${key}/members`;
}

const settled = (members: string, fields: object) =>
  vi.waitFor(async () => expect((await api("GET", members)).body).toMatchObject({ building: null, ...fields }), {
    timeout: 10_000,
  });

const users = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `user-${from + index}`);
const lines = (members: string[]) => members.map((member) => JSON.stringify(member)).join("\n");

test("members are uploaded as NDJSON or CSV, asked for, changed, and evaluated alike everywhere (EV-20)", async () => {
  const members = await newSegment("customers");
  expect((await api("GET", members)).body).toMatchObject({
    count: 0,
    generation: 0,
    pending: 0,
    building: null,
    upload: null,
  });
  const sent = await api("POST", members, lines(users(7_000)), NDJSON);
  expect(sent.status).toBe(202);
  expect(sent.body).toMatchObject({ count: 7_000, upload: { mode: "add", state: "done", received: 7_000 } });
  const csv = 'key,name\r\n"quoted ""q""",x\r\nplain,"y,z"\r\n\r\n';
  expect((await api("POST", members, csv, { "content-type": "text/csv; header=present" })).body.count).toBe(7_002);
  await api("POST", `${members}?mode=remove`, '{"key":"user-5"}\n', NDJSON);
  await settled(members, { count: 7_001, filterCount: 7_001, pending: 0 });
  const has = async (member: string) => (await api("GET", `${members}/${encodeURIComponent(member)}`)).body.present;
  expect([
    await has("user-1"),
    await has("user-5"),
    await has('quoted "q"'),
    await has("plain"),
    await has("key"),
  ]).toEqual([true, false, true, true, false]);

  const changed = await api("PATCH", members, { add: ["late", "user-1"], remove: ["user-2", "nobody"] });
  expect(changed.body).toMatchObject({ added: 1, removed: 1, revision: expect.any(Number) });
  const rule = { conditions: [{ segment: ["customers"] }], serve: { variation: "on" } };
  await turnedOn(place, "for-customers", {}, { rules: [rule], fallthrough: { variation: "off" } });
  const candidates = ["user-0", "user-2", "user-5", "late", "plain", "nobody"];
  const wanted = [true, false, false, true, true, false];
  const remote = candidates.map(async (targetingKey) => {
    const response = await evaluateRemotely(place.serverKey, "for-customers", { targetingKey });
    return ((await response.json()) as { value: boolean }).value;
  });
  expect(await Promise.all(remote)).toEqual(wanted);
  const evaluate = `/projects/${place.project}/flags/for-customers/environments/production/evaluate`;
  const managed = candidates.map(async (key) => (await api("POST", evaluate, { context: { targetingKey: key } })).body);
  expect((await Promise.all(managed)).map(({ value }) => value)).toEqual(wanted);
  expect((await api("GET", `${segments}/customers`)).body).toMatchObject({ version: 1, big: { count: 7_001 } });

  const { body: log } = await api("GET", `/audit?type=segment&project=${place.project}&key=customers`);
  expect(log.items.map((entry: { action: string }) => entry.action)).toEqual([
    "segment.members",
    "segment.upload",
    "segment.upload",
    "segment.upload",
    "segment.create",
  ]);
  expect(log.items[0].changes).toEqual({ added: { to: ["late"] }, removed: { from: ["user-2"] } });
});

test("a filter is fetched with a server key, and may be kept for ever", async () => {
  const members = await newSegment("fetched");
  await api("POST", members, lines(users(1_000)), NDJSON);
  await settled(members, { filterCount: 1_000 });
  const { generation } = (await api("GET", members)).body;
  const path = `/sdk/v1/segments/fetched/${generation}`;
  const response = await fetchPath(path, { headers: withKey(place.serverKey) });
  expect(response.status).toBe(200);
  expect(response.headers.get("cache-control")).toBe("private, max-age=31536000, immutable");
  expect((await response.arrayBuffer()).byteLength).toBe(Math.ceil(filterSize(1_000).bits / 8));
  expect((await fetchPath(path, { headers: withKey(place.clientKey) })).status).toBe(403);
  for (const missing of ["fetched/99", "fetched/x", "nowhere/1"]) {
    expect((await fetchPath(`/sdk/v1/segments/${missing}`, { headers: withKey(place.serverKey) })).status).toBe(404);
  }
});

test("replace ends who is not in the new list", async () => {
  const members = await newSegment("replaced");
  await api("POST", members, lines(users(50)), NDJSON);
  await api("POST", `${members}?mode=replace`, lines(users(50, 25)), NDJSON);
  await settled(members, { count: 50, filterCount: 50 });
  expect((await api("GET", `${members}/user-3`)).body).toEqual({ member: "user-3", present: false });
  expect((await api("GET", `${members}/user-74`)).body).toEqual({ member: "user-74", present: true });
});

test("mistakes in an upload are named with their line, and what is refused replaces nobody", async () => {
  const members = await newSegment("mistaken");
  await api("POST", members, lines(users(3)), NDJSON);
  const refused = async (body: string, headers = NDJSON) => {
    const answer = await api("POST", `${members}?mode=replace`, body, headers);
    return [answer.status, answer.body.errors?.[0]?.pointer, answer.body.errors?.[0]?.code];
  };
  expect(await refused('"a"\n"b"\nc\n')).toEqual([400, "line:3", "not-json"]);
  expect(await refused('"a"\n7\n')).toEqual([400, "line:2", "not-a-string"]);
  expect(await refused('"a"\n\n""\n')).toEqual([400, "line:3", "member-empty"]);
  expect(await refused(`"a"\n${JSON.stringify("x".repeat(1_025))}`)).toEqual([400, "line:2", "member-too-long"]);
  expect(await refused(`"a"\n"${"x".repeat(40_000)}`)).toEqual([
    400,
    "line:2",
    expect.stringMatching(/too-long|not-json/),
  ]);
  expect(await refused('"\\ud800"')).toEqual([400, "line:1", "lone-surrogate"]);
  expect(await refused('a,b\n"c,d\n', CSV)).toEqual([400, "line:2", "quote-open"]);
  expect((await api("POST", members, "x", { "content-type": "application/json" })).status).toBe(415);
  expect((await api("POST", `${members}?mode=all`, "x", NDJSON)).status).toBe(400);
  const kept = await Promise.all(users(3).map(async (user) => (await api("GET", `${members}/${user}`)).body.present));
  expect(kept).toEqual([true, true, true]);
});

test("a PATCH is small, and its mistakes are named", async () => {
  const members = await newSegment("patched");
  expect((await api("PATCH", members, { add: ["a"], remove: ["b", "a"] })).body.errors).toMatchObject([
    { pointer: "/remove/1", code: "member-twice" },
  ]);
  expect((await api("PATCH", members, { add: users(1_001) })).status).toBe(400);
  expect((await api("PATCH", members, { added: ["a"] })).status).toBe(400);
  const once = { "idempotency-key": "add-first" };
  const first = await api("PATCH", members, { add: ["first"] }, once);
  expect(first.body).toMatchObject({ added: 1, removed: 0 });
  expect((await api("PATCH", members, { add: ["first"] }, once)).body).toEqual(first.body);
  expect((await api("PATCH", members, { add: ["second"] }, once)).status).toBe(422);
  expect((await api("PATCH", members, {})).body).toEqual({ added: 0, removed: 0 });
  expect((await api("PATCH", `${segments}/nowhere/members`, { add: ["a"] })).status).toBe(404);
});

test("members are for those who may edit segments, and to be seen by those who may see them", async () => {
  const members = await newSegment("guarded");
  const viewer = await newToken({ role: "viewer" });
  expect((await viewer("GET", members)).status).toBe(200);
  expect((await viewer("GET", `${members}/a`)).status).toBe(200);
  expect((await viewer("PATCH", members, { add: ["a"] })).status).toBe(403);
  expect((await viewer("POST", members, '"a"', NDJSON)).status).toBe(403);
  expect((await as(null)("POST", members, '"a"', NDJSON)).status).toBe(401);
});

test("a deleted segment leaves no members behind", async () => {
  const members = await newSegment("short-lived");
  await api("PATCH", members, { add: ["a"] });
  expect((await api("DELETE", `${segments}/short-lived`)).status).toBe(204);
  expect((await api("GET", members)).status).toBe(404);
  await newSegment("short-lived");
  expect((await api("GET", members)).body).toMatchObject({ count: 0, generation: 0, pending: 0 });
  const { results } = await env.DB.prepare("SELECT * FROM segment_changes WHERE segment_key = 'short-lived'").all();
  expect(results).toEqual([]);
});
