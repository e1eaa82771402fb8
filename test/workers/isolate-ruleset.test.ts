/** What an isolate serves while its relay or its hub is slow, behind or away. */
import { createExecutionContext, runDurableObjectAlarm, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, expect, test } from "vitest";
import { isolateRuleset, rulesetText, type Visit } from "../../workers/edge/isolate-ruleset.ts";
import { newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";
import { commitDocuments, flag, newEnvironment } from "../support/environment.ts";
import worker from "../support/worker.ts";

const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

/** A namespace whose every object answers as these methods do. */
const answering = (methods: object) => ({ idFromName: (name: string) => name, get: () => methods });

const visit = (bindings: object = {}): Visit => ({
  env: { ...env, ...bindings },
  ctx: { waitUntil: () => {} },
  cf: undefined,
});

/** In KV, at revision 2. */
async function environment() {
  const head = await newEnvironment();
  const { environmentId } = head;
  await hubOf(environmentId).create(environmentId);
  const { change, head: next } = await commitDocuments(head, { flags: { a: flag("a") } });
  await hubOf(environmentId).publish(change);
  await runDurableObjectAlarm(hubOf(environmentId));
  return { environmentId, head: next };
}

test("a request waits for a relay that does not answer 200 ms in all, then is served what there is", async () => {
  const { environmentId } = await environment();
  const mute = visit({ RELAY: answering({ since: () => new Promise(() => {}) }) });
  const startedAt = Date.now();
  const ruleset = await isolateRuleset(mute, environmentId);
  expect(ruleset).toMatchObject({ evaluator: { revision: 2 }, checkedAt: 0 });
  expect(Date.now() - startedAt).toBeLessThan(350);
});

test("a relay that lacks what the isolate has read elsewhere takes nothing back and costs the hub nothing", async () => {
  const { environmentId } = await environment();
  const behind = visit({
    RELAY: answering({ since: async () => ({ revision: 1, deliveries: null, keys: [] }) }),
    HUB: answering({ snapshot: () => expect.unreachable("the hub was asked for all of it") }),
  });
  const ruleset = await isolateRuleset(behind, environmentId);
  expect(ruleset?.evaluator.revision).toBe(2);
  expect(ruleset?.checkedAt).toBeGreaterThan(0);
});

test("what does not fit on top of what the isolate has is not applied", async () => {
  const { environmentId } = await environment();
  const patch = { type: "patch", revision: 4, previous: 3, publishedAt: 0, ackWithinMs: 0, flags: {}, segments: {} };
  const deliveries = [{ ...patch, message: JSON.stringify(patch), keys: {} }];
  const gap = visit({ RELAY: answering({ since: async () => ({ revision: 4, deliveries }) }) });
  expect((await isolateRuleset(gap, environmentId))?.evaluator.revision).toBe(2);
});

test("what a ruleset grows by counts towards the isolate's limit", async () => {
  const { environmentId, head } = await environment();
  const before = (await isolateRuleset(visit(), environmentId))!.bytes;
  const targets = [{ variation: "on", values: Array.from({ length: 1_000 }, (_, index) => `user-${index}`) }];
  await hubOf(environmentId).publish((await commitDocuments(head, { flags: { b: flag("b", { targets }) } })).change);
  const ruleset = (await isolateRuleset(visit(), environmentId, () => -1))!;
  expect(ruleset.evaluator.revision).toBe(3);
  expect(ruleset.bytes).toBeGreaterThan(before + 10_000);
  expect(rulesetText(ruleset).length * 3).toBe(ruleset.bytes);
});

test("a key is good from the revision that brings it to the one that ends it", async () => {
  const { environmentId, head } = await environment();
  const grant = { id: "key_1", kind: "server" as const, origins: [], expiresAt: null };
  const ruleset = (await isolateRuleset(visit(), environmentId))!;
  const made = await commitDocuments(head, { keys: { hash: grant } });
  await hubOf(environmentId).publish(made.change);
  await isolateRuleset(visit(), environmentId, () => -1);
  expect(ruleset.keys).toEqual({ hash: grant });
  await hubOf(environmentId).publish((await commitDocuments(made.head, { keys: { hash: null } })).change);
  await isolateRuleset(visit(), environmentId, () => -1);
  expect(ruleset.keys).toEqual({});
});

let place: Place;

beforeAll(async () => {
  place = await newPlace();
});

async function ask(path: string, bindings: object): Promise<Response> {
  const ctx = createExecutionContext();
  const request = new Request(`https://bunting.test${path}`, { headers: withKey(place.serverKey) });
  const response = await worker.fetch(request as never, { ...env, ...bindings }, ctx);
  await waitOnExecutionContext(ctx);
  return response as never;
}

const away = () => Promise.reject(new Error("away"));

test("a relay that is away: streams are told to poll and to come back, rulesets are served from memory", async () => {
  await turnedOn(place, "known");
  const RELAY = answering({ fetch: away, since: away });
  const stream = await ask("/sdk/v1/stream", { RELAY });
  expect(stream.status).toBe(503);
  expect(stream.headers.get("retry-after")).toMatch(/^\d+$/);
  expect((await ask("/sdk/v1/ruleset", { RELAY })).status).toBe(200);
});

test("with neither KV nor a hub, an isolate that has just started says 503, which no SDK takes for a refusal", async () => {
  const { project, api } = await newPlace();
  const { body } = await api("POST", `/projects/${project}/environments/development/keys`, { kind: "server" });
  place = { ...place, serverKey: body.key };
  const response = await ask("/sdk/v1/ruleset", { KV: { get: away }, HUB: answering({ snapshot: away }) });
  expect(response.status).toBe(503);
});
