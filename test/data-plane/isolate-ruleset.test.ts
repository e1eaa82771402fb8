/** What an isolate serves while its relay or its hub is slow, behind or away. */
import {
  createExecutionContext,
  runDurableObjectAlarm,
  runInDurableObject,
  waitOnExecutionContext,
} from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { ResyncMessage } from "@bunting/core/wire";
import { eq } from "drizzle-orm";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { evict, heldRuleset, isolateRuleset, rulesetText } from "../../workers/edge/ruleset/cache.ts";
import type { Visit } from "../../workers/edge/ruleset/isolate-ruleset.ts";
import { newId } from "../../workers/platform/random-id.ts";
import { readLatestSnapshot } from "../../workers/store/kv-snapshot.ts";
import * as table from "../../workers/store/schema/index.ts";
import { newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";
import { commitDocuments, db, flag, insertFlags, newEnvironment } from "../support/environment.ts";
import { killRequest } from "../support/kill.ts";
import { RelaySocket } from "../support/relay-socket.ts";
import worker from "../support/worker.ts";

const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

/** A namespace whose every object answers as these methods do. */
const answering = (methods: object) => ({ idFromName: (name: string) => name, get: () => methods });

const away = () => Promise.reject(new Error("away"));
const gone = () => answering({ since: away, snapshot: away });

const visit = (bindings: object = {}): Visit => ({
  env: { ...env, ...bindings },
  ctx: { waitUntil: () => {} },
  request: {},
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
    RELAY: answering({ since: async () => ({ revision: 1, deliveries: null, keys: {} }) }),
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

describe("an isolate never goes back a revision (R14)", () => {
  /** Out of memory, as when other environments need the room. */
  async function evicted(environmentId: string): Promise<void> {
    const ruleset = (await isolateRuleset(visit(), environmentId))!;
    const other = await environment();
    await isolateRuleset(visit(), other.environmentId);
    ruleset.bytes = 100_000_000;
    evict();
    expect(heldRuleset(environmentId)).toBeUndefined();
  }

  const silent = answering({ since: () => new Promise(() => {}) });
  /** KV has revision 2; this isolate has served revision 3, which kills. */
  async function killedAfterSnapshot(): Promise<string> {
    const { environmentId } = await environment();
    await isolateRuleset(visit(), environmentId);
    await hubOf(environmentId).setKilled(killRequest("a", "kill"));
    // On a slow machine KV would have it before this test has asked.
    await runInDurableObject(hubOf(environmentId), (_, { storage }) => storage.deleteAlarm());
    expect((await isolateRuleset(visit(), environmentId, () => -1))?.evaluator.revision).toBe(3);
    await evicted(environmentId);
    expect((await readLatestSnapshot(env.KV, environmentId))?.revision).toBe(2);
    return environmentId;
  }

  test("evicted, and KV is older: the relay brings it up to what it has served before it serves anything", async () => {
    const environmentId = await killedAfterSnapshot();
    const ruleset = await isolateRuleset(visit(), environmentId, () => Number.POSITIVE_INFINITY);
    expect(ruleset?.evaluator.evaluate("a", {}, null).reason).toBe("KILLED");
  });

  test("evicted, KV is older and the relay is silent: the hub does", async () => {
    const environmentId = await killedAfterSnapshot();
    const ruleset = await isolateRuleset(visit({ RELAY: silent }), environmentId);
    expect(ruleset?.evaluator.evaluate("a", {}, null).reason).toBe("KILLED");
  });

  test("evicted, KV is older, relay and hub are away: nothing is served rather than less, until one is back", async () => {
    const environmentId = await killedAfterSnapshot();
    for (let times = 0; times < 2; times++) {
      await expect(isolateRuleset(visit({ RELAY: silent, HUB: gone() }), environmentId)).rejects.toThrow("away");
    }
    expect((await isolateRuleset(visit(), environmentId))?.evaluator.revision).toBe(3);
  });

  test("evicted while a request was asking: what others have loaded since stays", async () => {
    const { environmentId } = await environment();
    const old = (await isolateRuleset(visit(), environmentId))!;
    let answer: (value: object) => void = () => {};
    const slow = answering({ since: () => new Promise((resolve) => (answer = resolve)) });
    const asking = isolateRuleset(visit({ RELAY: slow }), environmentId, () => -1);
    await evicted(environmentId);
    await hubOf(environmentId).setKilled(killRequest("a", "kill"));
    expect((await isolateRuleset(visit(), environmentId))?.evaluator.revision).toBe(3);
    answer({ revision: 2, deliveries: [], relays: {} });
    expect(await asking).toBe(old);
    expect(heldRuleset(environmentId)?.evaluator.revision).toBe(3);
  });
});

test("a relay that is dead is waited for three times, not by every request; once it is back it is asked again", async () => {
  const { environmentId } = await environment();
  await isolateRuleset(visit(), environmentId);
  let asked = 0;
  const dead = visit({ RELAY: answering({ since: () => Promise.reject(new Error(`dead ${asked++}`)) }) });
  for (let requests = 0; requests < 50; requests++) await isolateRuleset(dead, environmentId, () => -1);
  expect(asked).toBe(3);
  await hubOf(environmentId).setKilled(killRequest("a", "kill"));
  await vi.waitFor(async () => {
    expect((await isolateRuleset(visit(), environmentId, () => -1))?.evaluator.revision).toBe(3);
  }, 5_000);
});

test("KV away: a warm isolate goes on as before, a cold one asks the hub", async () => {
  const { environmentId } = await environment();
  const KV = { get: away };
  expect((await isolateRuleset(visit({ KV }), environmentId))?.evaluator.revision).toBe(2);
  await hubOf(environmentId).setKilled(killRequest("a", "kill"));
  expect((await isolateRuleset(visit({ KV }), environmentId, () => -1))?.evaluator.revision).toBe(3);
});

test("what is too large for a message comes from the relay, once for all requests that wait for it, and not from the hub", async () => {
  const { environmentId, head } = await environment();
  const values = Array.from({ length: 8_000 }, (_, index) => `user-${index}-of-many`);
  const large = { flags: { b: flag("b", { targets: [{ variation: "on", values }] }) } };
  const ruleset = (await isolateRuleset(visit(), environmentId))!;
  await hubOf(environmentId).publish((await commitDocuments(head, large)).change);
  const HUB = answering({ snapshot: () => expect.unreachable("the hub was asked for all of it") });
  let fetched = 0;
  const relay = env.RELAY.get(env.RELAY.idFromName(`relay:${environmentId}:enam:0`));
  const counted = {
    since: (revision: number) => relay.since(revision),
    snapshot: async (revision: number) => {
      fetched++;
      // Longer than a request waits.
      await scheduler.wait(400);
      return relay.snapshot(revision);
    },
  };
  const asking = visit({ HUB, RELAY: answering(counted) });
  await Promise.all(Array.from({ length: 5 }, () => isolateRuleset(asking, environmentId, () => -1)));
  await vi.waitFor(async () => {
    await isolateRuleset(asking, environmentId, () => -1);
    expect(ruleset.evaluator.revision).toBe(3);
  });
  expect(fetched).toBe(1);
});

test("hub away: what KV and the relay have is served, and a change too large for a message waits for it", async () => {
  const { environmentId } = await environment();
  const resync = { revision: 3, previous: 2, publishedAt: 0, message: '{"type":"resync","revision":3}', keys: {} };
  const RELAY = answering({
    since: async () => ({ revision: 3, deliveries: [resync], relays: {} }),
    // It has to ask above as well.
    snapshot: away,
  });
  const ruleset = await isolateRuleset(visit({ RELAY, HUB: gone() }), environmentId);
  expect(ruleset).toMatchObject({ evaluator: { revision: 2 }, checkedAt: 0 });
});

test("ten thousand flags changed at once reach clients as resync and isolates as one ruleset, never as one huge message", async () => {
  const { environmentId } = await environment();
  const client = await RelaySocket.open(environmentId);
  const ruleset = (await isolateRuleset(visit(), environmentId))!;
  const head = { environmentId, version: 1, changeId: "" };
  await insertFlags(
    head,
    Array.from({ length: 10_000 }, (_, index) => `flag-${index}`),
  );
  // As after a restore of D1: another change stands where the hub's last one did.
  await db.delete(table.changes).where(eq(table.changes.environmentId, environmentId));
  const restored = { changeId: newId("chg"), version: 7 };
  await db.update(table.environments).set(restored).where(eq(table.environments.id, environmentId));
  await hubOf(environmentId).catchUp();
  await vi.waitFor(() => expect(client.received).toEqual(["hello 2", "resync 3"]));
  expect(JSON.stringify(client.messages[1]).length).toBeLessThan(200);
  expect((client.messages[1] as ResyncMessage).withinMs).toBeGreaterThan(0);
  await isolateRuleset(visit(), environmentId, () => -1);
  expect(Object.keys(ruleset.evaluator.ruleset.flags)).toHaveLength(10_000);
  expect(ruleset.evaluator.revision).toBe(3);
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
