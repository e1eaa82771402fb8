/**
 * One per environment. Puts changes in one order, owns kills, keeps the ruleset and the delta log, writes KV snapshots.
 *
 * Nothing is awaited between reading the state and writing it: what has to be fetched is fetched first, then the state is
 * looked at again and moved in one synchronous step.
 */
import { DurableObject } from "cloudflare:workers";
import { D1_FIRST_MS, D1_MS, SEGMENT_MS, within } from "../workers/deadline.ts";
import type { Env } from "../workers/env.ts";
import type { Documents } from "../workers/store/changes.ts";
import { type Change, changesFrom, markPublished } from "../workers/store/changes.ts";
import { type Database, openDatabase } from "../workers/store/database.ts";
import { wholeEnvironment } from "../workers/store/documents.ts";
import { mirrorKill } from "../workers/store/kills.ts";
import {
  deleteSnapshot,
  latestRevision,
  readLatestSnapshot,
  type SnapshotParts,
  writeSnapshot,
} from "../workers/store/snapshot.ts";
import { type Beginning, firstBeginning, fromD1, fromSnapshot } from "./beginning.ts";
import { Children, type Receipt } from "./children.ts";
import { type Downstream, encodeDelivery, type Patch, type Since } from "./delivery.ts";
import { HubStorage, type Position } from "./hub-storage.ts";
import { isSameRequest, type KillOutcome, type KillRecord, type KillRequest, mirrorOf } from "./kill.ts";

/** What an edit or a kill became: `revision` is what every client will report as applied. */
export type Published = { revision: number; version: number };

/** Each may carry a document of a megabyte, and an object has 128 MB: read in pages. */
const CHANGES_AT_ONCE = 10;
/** KV takes one write a second for each key: publishes within this time share one snapshot. */
const SNAPSHOT_DELAY_MS = 1_000;
/** Work that failed is tried again by alarm after this long. */
const RETRY_MS = 2_000;
const SNAPSHOT_KEPT_MS = 10 * 60_000;

export class Hub extends DurableObject<Env> {
  readonly #storage: HubStorage;
  readonly #children: Children;
  readonly #db: Database;
  #birth: Promise<Position | null> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#children = new Children(ctx, env.RELAY, () => this.#wake(RETRY_MS));
    this.#storage = new HubStorage(ctx.storage);
    if (this.#storage.position !== null) this.#children.prepare();
    this.#db = openDatabase(env.DB);
  }

  // What Workers call.

  /** Called once, by creating the environment. Its snapshot is in KV when this returns. */
  async create(environmentId: string): Promise<Published> {
    if (this.#storage.position === null) {
      const whole = await within(wholeEnvironment(this.#db, environmentId), D1_MS, "D1");
      if (whole === null) throw new Error(`There is no environment ${environmentId} in D1`);
      if (this.#storage.position === null) this.#begin(environmentId, firstBeginning(whole));
    }
    await this.#writeSnapshot();
    return this.#published();
  }

  /** Returns once the change, and all before it, are published. */
  async publish(change: Change): Promise<Published> {
    const { version, changeId } = await this.#born();
    if (change.version === version + 1 && change.previousId === changeId) this.#applyChange(change);
    else await this.#catchUp();
    return this.#published();
  }

  /** The sweep's nudge: something committed may not have been published. */
  async catchUp(): Promise<Published> {
    await this.#born();
    await this.#catchUp();
    await this.#markPublished();
    return this.#published();
  }

  /** Decided here, in order, and behind no fetch where the flag is known. */
  async setKilled(request: KillRequest): Promise<KillOutcome> {
    if (this.#storage.position === null) await this.#born();
    if (this.#storage.answered(request) === null && !this.#knows(request.flag)) {
      // A flag made a moment ago whose nudge was lost. With D1 down it stays unknown: never a silent success.
      await this.#catchUp(D1_FIRST_MS).catch(() => {});
      if (!this.#knows(request.flag)) return { outcome: "unknown-flag" };
    }
    const answered = this.#storage.answered(request);
    if (answered !== null && !isSameRequest(answered, request)) {
      return { outcome: "idempotency-key-reused" };
    }
    const record = answered ?? this.#decideKill(request);
    if (record.changed) await within(this.#mirrorKills(), D1_FIRST_MS, "D1").catch(() => this.#wake(RETRY_MS));
    const { revision, changed, seq } = record;
    const killed = this.#storage.kill(request.flag);
    return { outcome: "done", revision, changed, killed, mirrored: this.#storage.isMirrored(seq) };
  }

  async receipt(revision: number): Promise<Receipt | null> {
    const delivery = this.#storage.position && this.#storage.delivery(revision);
    return delivery === null ? null : this.#children.receipt(delivery);
  }

  /** The whole ruleset as it is now; null where there is no such environment. */
  async snapshot(): Promise<SnapshotParts | null> {
    return (await this.#bornOrNull()) === null ? null : this.#storage.snapshot();
  }

  // What relays call.

  /** Registers a relay, or hears how far it has come, and tells what it lacks. Null: no such environment. */
  async attach(relay: Downstream, connected: number): Promise<Since | null> {
    if ((await this.#bornOrNull()) === null) return null;
    this.#children.put(relay, connected);
    return this.since(relay.revision);
  }

  async since(revision: number): Promise<Since> {
    await this.#born();
    const latest = (this.#storage.position as Position).revision;
    const deliveries = this.#storage.deliveriesAfter(revision);
    return deliveries === null
      ? { revision: latest, deliveries, keys: this.#storage.keyHashes() }
      : { revision: latest, deliveries };
  }

  // Order.

  #applyChange({ version, id, ...documents }: Change): void {
    this.#advance(documents, { version, changeId: id }, false);
  }

  /** One revision: state, log and position in one step, then on its way to the relays. */
  #advance(documents: Documents, to: Partial<Position>, urgent: boolean): void {
    const storage = this.#storage;
    const previous = (storage.position as Position).revision;
    const connected = this.#children.connected();
    const delivery = storage.atomically(() => {
      storage.write(documents);
      const patch = { revision: previous + 1, previous, publishedAt: Date.now(), ...this.#forClients(documents) };
      const delivery = encodeDelivery(patch, documents.keys, connected, urgent);
      storage.logDelivery(delivery);
      storage.move({ ...to, revision: delivery.revision });
      return delivery;
    });
    this.#children.deliver(delivery);
    this.#wake(SNAPSHOT_DELAY_MS);
  }

  /** Documents as clients get them: kills laid over flags, big segments with their lists. */
  #forClients({ flags, segments, members = {} }: Documents): Pick<Patch, "flags" | "segments" | "members"> {
    const laid = Object.entries(flags).map(([key, flag]) => {
      const killed = flag !== null && this.#storage.kill(key) !== null;
      return [key, killed ? { ...flag, killed } : flag] as const;
    });
    const listed = Object.entries(segments).map(([key, segment]) => {
      return [key, segment === null ? null : this.#storage.members.join(segment)] as const;
    });
    const changed = Object.entries(members).map(([key, { added, removed }]) => [key, { added, removed }] as const);
    return {
      flags: Object.fromEntries(laid),
      segments: Object.fromEntries(listed),
      ...(changed.length > 0 && { members: Object.fromEntries(changed) }),
    };
  }

  /** Applies what D1 has and this hub has not, or, where D1's history is another one, the difference to what it holds now. */
  async #catchUp(deadlineMs = D1_MS): Promise<void> {
    for (;;) {
      const { environmentId, version: asked } = await this.#born();
      const rows = await within(changesFrom(this.#db, environmentId, asked, CHANGES_AT_ONCE), deadlineMs, "D1");
      const { version, changeId } = this.#storage.position as Position;
      const anchor = rows.find((row) => row.version === version);
      if (anchor?.id === changeId) {
        for (const row of rows) if (row.version > version) this.#applyChange(row);
        if (rows.length < CHANGES_AT_ONCE) return;
      } else if (version === asked) {
        if (await this.#reread(deadlineMs)) return;
      }
    }
  }

  /** Lineage broken (Time Travel, or an outbox trimmed under a hub long gone): D1 as it is now becomes one revision. */
  async #reread(deadlineMs: number): Promise<boolean> {
    const { environmentId, version, changeId } = this.#storage.position as Position;
    const whole = await within(wholeEnvironment(this.#db, environmentId), deadlineMs, "D1");
    if (whole === null) throw new Error(`Environment ${environmentId} is gone from D1`);
    const now = this.#storage.position as Position;
    // The id too: on another lineage the same version may have been reached meanwhile.
    if (now.version !== version || now.changeId !== changeId) return false;
    const difference = this.#storage.difference(whole.ruleset, whole.keys);
    for (const key of this.#storage.members.replace(whole.members)) {
      const segment = whole.ruleset.segments[key];
      if (segment !== undefined) difference.segments[key] = segment;
    }
    this.#storage.mirrorAgain();
    this.#advance(difference, { version: whole.head.version, changeId: whole.head.changeId, markedVersion: -1 }, false);
    this.ctx.waitUntil(this.#rebuildFilters(environmentId, difference.segments));
    return true;
  }

  /** What D1 says of members may be older than their segments know: they build on what they have (decisions/0004). */
  async #rebuildFilters(environmentId: string, segments: Documents["segments"]): Promise<void> {
    const { BIG_SEGMENT } = this.env;
    for (const [key, segment] of Object.entries(segments)) {
      if (segment === null) continue;
      const object = BIG_SEGMENT.get(BIG_SEGMENT.idFromName(`${environmentId}/${key}`));
      await within(object.rebuild(), SEGMENT_MS, "a segment").catch((error: unknown) => {
        const message = "a filter is not rebuilt";
        console.warn(
          JSON.stringify({ level: "warn", message, hub: environmentId, segment: key, error: String(error) }),
        );
      });
    }
  }

  // Birth.

  async #born(): Promise<Position> {
    const position = await this.#bornOrNull();
    if (position === null) throw new Error("There is no such environment");
    return position;
  }

  /** A hub without state reads it from D1, or from KV while D1 is down. Null, and nothing kept: no such environment. */
  async #bornOrNull(): Promise<Position | null> {
    if (this.#storage.position !== null) return this.#storage.position;
    this.#birth ??= this.#start().finally(() => {
      this.#birth = null;
    });
    return this.#birth;
  }

  async #start(): Promise<Position | null> {
    const environmentId = this.ctx.id.name;
    if (environmentId === undefined) throw new Error("A hub is addressed by its environment's id");
    const [fromEnvironment, pointer, fromKv] = await Promise.allSettled([
      within(wholeEnvironment(this.#db, environmentId), D1_MS, "D1"),
      latestRevision(this.env.KV, environmentId),
      readLatestSnapshot(this.env.KV, environmentId),
    ]);
    if (this.#storage.position !== null) return this.#storage.position;
    const latest = pointer.status === "fulfilled" ? (pointer.value ?? 0) : 0;
    const snapshot = fromKv.status === "fulfilled" ? fromKv.value : null;
    if (fromEnvironment.status === "fulfilled") {
      if (fromEnvironment.value === null) return null;
      this.#begin(environmentId, fromD1(fromEnvironment.value, latest, snapshot));
    } else {
      if (snapshot === null) throw new Error("Neither D1 nor KV can tell what this environment serves");
      this.#begin(environmentId, fromSnapshot(snapshot));
    }
    return this.#storage.position;
  }

  #begin(environmentId: string, { documents, members, kills, ...from }: Beginning): void {
    const storage = this.#storage;
    storage.atomically(() => {
      storage.prepare();
      this.#children.prepare();
      storage.write(documents);
      storage.members.replace(members);
      for (const [flag, kill] of Object.entries(kills)) storage.setKill(flag, kill);
      storage.move({ environmentId, ...from, snapshotRevision: 0, markedVersion: -1 });
    });
    this.#wake(SNAPSHOT_DELAY_MS);
  }

  // Kills.

  #knows(flag: string): boolean {
    return this.#storage.flag(flag) !== null || this.#storage.kill(flag) !== null;
  }

  #decideKill(request: KillRequest): KillRecord {
    const storage = this.#storage;
    const { flag, reason, origin } = request;
    const position = storage.position as Position;
    const seq = position.killSeq + 1;
    const at = Date.now();
    const kill = request.action === "kill";
    const changed = (storage.kill(flag) !== null) !== kill;
    if (changed) {
      storage.setKill(flag, kill ? { by: origin.actor, at, reason, seq } : null);
      const document = storage.flag(flag);
      const flags = document === null ? {} : { [flag]: document };
      this.#advance({ flags, segments: {}, keys: {} }, { killSeq: seq }, true);
    } else storage.move({ killSeq: seq });
    const record = { ...request, seq, at, changed, revision: (storage.position as Position).revision };
    storage.logKill(record, at);
    return record;
  }

  async #mirrorKills(): Promise<void> {
    const { environmentId } = this.#storage.position as Position;
    for (let records = this.#storage.unmirrored(); records.length > 0; records = this.#storage.unmirrored()) {
      for (const record of records) {
        const { kill, audit } = mirrorOf(environmentId, record);
        await mirrorKill(this.#db, kill, audit);
        this.#storage.markMirrored(record.seq);
      }
    }
  }

  // What can wait: an alarm at a time does all of it that is due.

  override async alarm(): Promise<void> {
    const position = this.#storage.position;
    if (position === null) return;
    const newest = this.#storage.delivery(position.revision);
    const results = await Promise.allSettled([
      this.#mirrorKills(),
      position.markedVersion !== position.version ? this.#markPublished() : null,
      position.snapshotRevision < position.revision ? this.#writeSnapshot() : null,
      newest && this.#children.deliverAgain(newest),
    ]);
    for (const { status, ...rest } of results) {
      if (status === "rejected")
        console.warn(JSON.stringify({ level: "warn", hub: position.environmentId, ...rest }, errorText));
    }
    const after = this.#storage.position as Position;
    const failed = results.some(({ status }) => status === "rejected");
    if (failed) this.#wake(RETRY_MS);
    else if (after.snapshotRevision < after.revision) this.#wake(SNAPSHOT_DELAY_MS);
  }

  #wake(inMs: number): void {
    const at = Date.now() + inMs;
    this.ctx.waitUntil(
      this.ctx.storage.getAlarm().then((set) => {
        if (set === null || set > at) return this.ctx.storage.setAlarm(at);
      }),
    );
  }

  async #markPublished(): Promise<void> {
    const { environmentId, version, revision } = this.#storage.position as Position;
    await within(markPublished(this.#db, environmentId, version, revision), D1_MS, "D1");
    this.#storage.move({ markedVersion: version });
  }

  async #writeSnapshot(): Promise<void> {
    const parts = this.#storage.snapshot();
    const { environmentId } = this.#storage.position as Position;
    const now = Date.now();
    // Before it is written: what was left half-done is cleared away like any other.
    this.#storage.logSnapshot(parts.revision, now);
    await writeSnapshot(this.env.KV, environmentId, parts);
    this.#storage.move({ snapshotRevision: parts.revision });
    for (const revision of this.#storage.takeExpiredSnapshots(now - SNAPSHOT_KEPT_MS)) {
      await deleteSnapshot(this.env.KV, environmentId, revision);
    }
  }

  #published(): Published {
    const { revision, version } = this.#storage.position as Position;
    return { revision, version };
  }
}

function errorText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
