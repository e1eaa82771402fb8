/** Every revision can be rebuilt exactly as it was published, from R2 and the hub's log. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { archiveDueAt, needsBase } from "../../durable-objects/hub/archive.ts";
import type { Hub } from "../../durable-objects/hub/hub.ts";
import { type HubPosition, HubStorage } from "../../durable-objects/hub/storage.ts";
import { pastRuleset } from "../../workers/edge/ruleset/past-revision.ts";
import type { Documents, Head } from "../../workers/store/outbox/change.ts";
import { Rebuilding, readRevision, trimRevisions } from "../../workers/store/r2-history.ts";
import { fetchPath, newPlace, turnedOn, withKey } from "../support/data-plane.ts";
import { commitDocuments, flag, newEnvironment } from "../support/environment.ts";
import { hanging, setFaults, withFaults } from "../support/faults.ts";
import { killRequest } from "../support/kill.ts";
import { environmentWithHub, hubOf, RelaySocket } from "../support/relay-socket.ts";

const bucket = env.REVISIONS_BUCKET;

class History {
  readonly published = new Map<number, string>();
  readonly environmentId: string;
  head: Head;

  constructor(head: Head) {
    this.head = head;
    this.environmentId = head.environmentId;
  }

  static async begin(): Promise<History> {
    const history = new History(await newEnvironment());
    await history.hub.create(history.environmentId);
    await history.note();
    return history;
  }

  get hub(): DurableObjectStub<Hub> {
    return env.HUB.get(env.HUB.idFromName(this.environmentId));
  }

  async note(): Promise<number> {
    const { revision, ruleset } = (await this.hub.snapshot())!;
    this.published.set(revision, ruleset);
    return revision;
  }

  async publish(documents: Partial<Documents>): Promise<number> {
    const next = await commitDocuments(this.head, documents);
    this.head = next.head;
    await this.hub.publish(next.change);
    return this.note();
  }

  /** As if ten minutes had passed since everything in the log. */
  async archive(): Promise<void> {
    await runInDurableObject(this.hub, (_, { storage }) => void storage.sql.exec("UPDATE deltas SET at = 0"));
    await runDurableObjectAlarm(this.hub);
  }

  async position(): Promise<HubPosition> {
    return runInDurableObject(this.hub, (_, { storage }) => new HubStorage(storage).position!);
  }
}

/** A number below `limit`, the same in every run. */
function seeded(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % limit;
  };
}

describe("three hundred revisions of edits, deletions, kills and members", () => {
  let history: History;

  beforeAll(async () => {
    const random = seeded(42);
    history = await History.begin();
    const big = { generation: 0, count: 0, bits: 0, hashes: 0, url: "", added: [], removed: [] };
    const segment = { key: "big", version: 1, included: [], excluded: [], rules: [], big };
    await history.publish({ segments: { big: segment } });
    for (let edit = 1; edit <= 300; edit++) {
      const key = `flag-${random(20)}`;
      const values = Array.from({ length: random(10) * 100 }, (_, index) => `user-${edit}-${index}-ü-\u{1f6a9}`);
      const what = random(10);
      if (what === 0) await history.publish({ flags: { [key]: null } });
      else if (what === 1) {
        const member = () => `member-${random(50)}`;
        await history.publish({ members: { big: { added: [member()], removed: [member()], generation: 1 } } });
      } else if (what === 2) {
        await history.hub.setKilled(killRequest(key, random(2) === 0 ? "kill" : "restore"));
        await history.note();
      } else
        await history.publish({
          flags: { [key]: flag(key, { version: edit, targets: [{ variation: "on", values }] }) },
        });
      if (random(12) === 0) await history.archive();
    }
  }, 120_000);

  test("each is rebuilt byte for byte, archived or not", async () => {
    expect(history.published.size).toBeGreaterThan(250);
    const { baseRevision, archivedRevision, revision } = await history.position();
    expect(baseRevision).toBeGreaterThan(1);
    expect(archivedRevision).toBeLessThan(revision);
    for (const [revision, ruleset] of history.published) {
      expect(await pastRuleset(env, history.environmentId, revision), `revision ${revision}`).toBe(ruleset);
    }
  });

  test("history before the retention is deleted, and everything since can still be rebuilt", async () => {
    await history.archive();
    const { baseRevision } = await history.position();
    expect(await trimRevisions(bucket, history.environmentId, Date.now() - 60_000)).toBe(0);
    expect(await trimRevisions(bucket, history.environmentId, Date.now() + 60_000)).toBeGreaterThan(0);
    const after = [...history.published.keys()].filter((revision) => revision >= baseRevision);
    for (const revision of after) {
      expect(await pastRuleset(env, history.environmentId, revision)).toBe(history.published.get(revision));
    }
    expect(await pastRuleset(env, history.environmentId, 5)).toBeNull();
  });
});

test("a change too large for a message, with characters of every width, is stored whole", async () => {
  const history = await History.begin();
  const values = Array.from({ length: 30_000 }, (_, index) => `\u{1f6a9}${"x".repeat(index % 2)}\u{1f6a9}ü${index}`);
  const revision = await history.publish({ flags: { a: flag("a", { targets: [{ variation: "on", values }] }) } });
  await history.publish({ flags: { b: flag("b") } });
  const { deliveries } = await history.hub.since(1);
  expect(JSON.parse(deliveries![0]!.message)).toMatchObject({ type: "resync", revision });
  for (let times = 0; times < 2; times++) {
    for (const [revision, ruleset] of history.published) {
      expect(await pastRuleset(env, history.environmentId, revision)).toBe(ruleset);
    }
    await history.archive();
  }
});

test("a hub that lost its storage starts a new history, and the old one stays readable", async () => {
  const history = await History.begin();
  await history.publish({ flags: { a: flag("a") } });
  await history.archive();
  await runInDurableObject(history.hub, async (_, state) => {
    await state.storage.deleteAlarm();
    await state.storage.deleteAll();
  });
  await evictDurableObject(history.hub);
  await history.note();
  await history.publish({ flags: { b: flag("b") } });
  await history.archive();
  expect([...history.published.keys()]).toEqual([1, 2, 1_000_002, 1_000_003]);
  for (const [revision, ruleset] of history.published) {
    expect(await pastRuleset(env, history.environmentId, revision)).toBe(ruleset);
  }
  expect(await pastRuleset(env, history.environmentId, 500_000)).toBeNull();
});

test("a relay that missed a kill is refreshed even while R2 does not respond (R14)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const hub = hubOf(environmentId);
  const client = await RelaySocket.open(environmentId);
  await publish({ flags: { a: flag("a") } });
  const below = () =>
    runInDurableObject(hub, (_, { storage }) => storage.sql.exec("SELECT revision FROM children").toArray());
  await vi.waitFor(async () => expect(await below()).toEqual([{ revision: 2 }]));
  // As if nothing had been archived yet.
  await runInDurableObject(hub, (_, { storage }) => new HubStorage(storage).move({ archivedRevision: 0 }));
  await evictDurableObject(hub);
  await runInDurableObject(hub, (object) => {
    Object.assign(Reflect.get(object, "env"), { REVISIONS_BUCKET: withFaults(env).REVISIONS_BUCKET });
  });
  setFaults({ REVISIONS_BUCKET: { mode: "hang", at: "^put", when: "before" } });
  const archiving = runDurableObjectAlarm(hub);
  await vi.waitFor(() => expect(hanging()).toBe(1));
  // A lost delivery: the hub has its relay as up to date.
  await runInDurableObject(hub, (_, { storage }) => void storage.sql.exec("DELETE FROM children"));
  await hub.setKilled(killRequest("a", "kill"));
  await runInDurableObject(hub, (_, { storage }) => {
    storage.sql.exec("INSERT INTO children VALUES (?, 'enam', 2, 1, '{}', 0)", `relay:${environmentId}:enam:0`);
  });
  await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 3"), { timeout: 25_000 });
  // R2 has not responded yet.
  const { archivedRevision } = await runInDurableObject(
    hub,
    (_, { storage }) => storage.kv.get("position") as HubPosition,
  );
  expect(archivedRevision).toBe(0);
  setFaults({});
  await archiving;
});

test("while R2 fails, publishing continues and nothing is dropped; once it is back everything is archived", async () => {
  const history = await History.begin();
  const stop = { mode: "fail" } as const;
  await runInDurableObject(history.hub, (hub) => {
    Object.assign(Reflect.get(hub, "env"), { REVISIONS_BUCKET: withFaults(env).REVISIONS_BUCKET });
  });
  setFaults({ REVISIONS_BUCKET: stop });
  for (let version = 1; version <= 10; version++) {
    await history.publish({ flags: { a: flag("a", { version }) } });
    await history.archive();
  }
  expect((await history.position()).archivedRevision).toBe(0);
  setFaults({});
  await history.archive();
  expect((await history.position()).archivedRevision).toBe(11);
  for (const [revision, ruleset] of history.published) {
    expect((await readRevision(bucket, history.environmentId, revision))?.text()).toBe(ruleset);
  }
});

test("a run written twice, because of a crash before the position was stored, is read once", async () => {
  const history = await History.begin();
  await history.publish({ flags: { a: flag("a", { version: 1 }) } });
  await history.archive();
  await history.publish({ flags: { a: flag("a", { version: 2 }) } });
  // The position is lost: the next run starts where the last one did.
  await runInDurableObject(history.hub, (_, { storage }) => {
    const hub = new HubStorage(storage);
    hub.move({ archivedRevision: 1 });
  });
  await evictDurableObject(history.hub);
  await history.archive();
  for (const [revision, ruleset] of history.published) {
    expect((await readRevision(bucket, history.environmentId, revision))?.text()).toBe(ruleset);
  }
});

test("a patch that does not follow is not applied, nor one after the requested revision", () => {
  const empty = {
    schema: 1,
    environment: "e",
    revision: 4,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
  } as const;
  const rebuilding = new Rebuilding({ ...empty, flags: {}, segments: {} });
  const patch = (previous: number, key: string) => ({
    revision: previous + 1,
    previous,
    flags: { [key]: flag(key) },
    segments: {},
  });
  for (const previous of [3, 5, 4, 4, 5, 6]) rebuilding.apply(patch(previous, `f${previous}`), 6);
  expect(rebuilding.revision).toBe(6);
  expect(Object.keys(JSON.parse(rebuilding.text()).flags)).toEqual(["f4", "f5"]);
});

describe("archiving", () => {
  const position = { initialRevision: 1, archivedRevision: 5, runs: 0, runBytes: 0, baseBytes: 0 } as HubPosition;
  for (const [name, change, waiting, expected] of [
    ["is never due if there is nothing to archive", {}, { bytes: 0, since: null }, null],
    [
      "is due ten minutes after the first patch if there is little to archive",
      {},
      { bytes: 10, since: 1_000 },
      601_000,
    ],
    ["is due at once if there is much to archive", {}, { bytes: 300_000, since: 1_000 }, 2_000],
    ["is due at once if the initial state is not archived", { archivedRevision: 0 }, { bytes: 0, since: null }, 2_000],
  ] as const) {
    test(name, () => expect(archiveDueAt({ ...position, ...change }, waiting, 2_000)).toBe(expected));
  }
  for (const [name, change, expected] of [
    ["needs no base after few small runs", { runs: 49, runBytes: 1_000_000 }, false],
    ["needs a base after many runs", { runs: 50 }, true],
    ["needs a base after a megabyte", { runs: 1, runBytes: 1_100_000 }, true],
    [
      "needs no base while the runs are smaller than the last one",
      { runs: 1, runBytes: 1_100_000, baseBytes: 2_000_000 },
      false,
    ],
  ] as const) {
    test(name, () => expect(needsBase({ ...position, ...change })).toBe(expected));
  }
});

test("GET /ruleset?revision=&exact returns exactly that revision, or an error that names it", async () => {
  const place = await newPlace();
  const first = await turnedOn(place, "a");
  const then = await (await ask("")).text();
  const second = await turnedOn(place, "b");
  function ask(query: string, headers: Record<string, string> = {}): Promise<Response> {
    return fetchPath(`/sdk/v1/ruleset${query}`, { headers: withKey(place.serverKey, headers) });
  }
  const past = await ask(`?revision=${first}&exact`);
  expect(past.status).toBe(200);
  expect(await past.text()).toBe(then);
  expect((await ask(`?revision=${first}&exact`, { "if-none-match": past.headers.get("etag")! })).status).toBe(304);
  expect(await (await ask(`?revision=${second}&exact`)).json()).toMatchObject({ revision: second });
  expect(await (await ask(`?revision=${first}`)).json()).toMatchObject({ revision: second });
  const unknown = await ask(`?revision=${second + 7}&exact`);
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toMatchObject({ code: "unknown-revision" });
  for (const bad of ["?exact", "?revision=x&exact", "?revision=-1&exact", `?revision=${10 ** 16}&exact`]) {
    const refused = await ask(bad);
    expect([bad, refused.status]).toEqual([bad, 400]);
    expect(await refused.json()).toMatchObject({ errors: [{ pointer: "/revision" }] });
  }
});
