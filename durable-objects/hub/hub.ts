/**
 * One per environment. It orders changes, owns kills, keeps the ruleset and the delta log, and writes KV snapshots.
 *
 * Nothing is awaited between reading the state and writing it: the hub first fetches what it needs, then reads the
 * state again and changes it in one synchronous step.
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { D1_FIRST_MS, D1_MS, HUB_REPLICATION_MS, RECEIPT_MS, within } from "../../workers/platform/deadline.ts";
import { type Database, openDatabase } from "../../workers/store/database.ts";
import { wholeEnvironment } from "../../workers/store/documents.ts";
import { killsAfter } from "../../workers/store/kills.ts";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { Change, Documents } from "../../workers/store/outbox/change.ts";
import { changesFrom, findHeads } from "../../workers/store/outbox/outbox.ts";
import { Alarm } from "../alarm.ts";
import { Children } from "../fan-out/children.ts";
import { type Backlog, type Delivery, encodeDelivery, type Report, type UpstreamNode } from "../fan-out/delivery.ts";
import { type Receipt, toReceipt } from "../fan-out/receipt.ts";
import { type InitialState, initialStateOfNew, readInitialState } from "./initial-state.ts";
import {
  isSameRequest,
  type KillOutcome,
  type KillRecord,
  type KillRequest,
  type KillsNow,
  previewOutcome,
} from "./kills/kill.ts";
import { KillMirror } from "./kills/mirror.ts";
import { compareChanges, compareHeads, fits } from "./lineage.ts";
import { rebuildFilters } from "./rebuild-filters.ts";
import { Replication, warnOfFailures } from "./replication.ts";
import { type HubPosition, HubStorage } from "./storage.ts";

/** The result of a publish: `revision` is what every client will acknowledge. */
export type Published = { revision: number; version: number };

/** The page size of D1's changes: each may hold a document of a megabyte, and an object has 128 MB. */
const CHANGES_AT_ONCE = 10;
/** KV takes one write a second for each key: publishes within this time share one snapshot. */
const SNAPSHOT_DELAY_MS = 1_000;
/** The alarm retries failed work after this long, and doubles it each time. */
const RETRY_MS = 2_000;
const MAX_RETRY_MS = 10_000;
/** The longest that Time Travel goes unnoticed with live clients: their relays attach at least this often. */
const HEADS_EVERY_MS = 60_000;
/** The most that one answer of `patches` holds. */
const PATCHES_BYTES = 8 * 1024 * 1024;

export class Hub extends DurableObject<Env> implements UpstreamNode {
  readonly #storage: HubStorage;
  readonly #children: Children;
  readonly #alarm: Alarm;
  readonly #db: Database;
  readonly #mirror: KillMirror;
  readonly #replication: Replication;
  #failures = 0;
  #comparedAt = 0;
  #coldStart: Promise<HubPosition | null> | null = null;
  #replicating: Promise<void> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#alarm = new Alarm(ctx);
    this.#children = new Children(ctx, env.RELAY, (inMs) => this.#alarm.wake(inMs));
    this.#storage = new HubStorage(ctx.storage);
    this.#db = openDatabase(env.DB);
    this.#mirror = new KillMirror(this.#db, this.#storage.kills);
    this.#replication = new Replication(env, this.#db, this.#storage);
  }

  // Called by Workers.

  /** Called once, when the environment is created. Its snapshot is in KV when this returns. */
  async create(environmentId: string): Promise<Published> {
    if (this.#storage.position === null) {
      const whole = await within(wholeEnvironment(this.#db, environmentId), D1_MS, "D1");
      if (whole === null) throw new Error(`D1 has no environment ${environmentId}: commit it before creating its hub`);
      if (this.#storage.position === null) this.#initialize(environmentId, initialStateOfNew(whole));
    }
    await this.#replication.writeSnapshot();
    return this.#published();
  }

  /** Returns once the change and all earlier ones are published. */
  async publish(change: Change): Promise<Published> {
    await this.#ensureStarted();
    if (fits(change, this.#position)) this.#applyChange(change);
    else await this.#catchUp();
    return this.#published();
  }

  /** Called by the sweep: a committed change may not have been published. */
  async catchUp(): Promise<Published> {
    await this.#ensureStarted();
    await this.#catchUp();
    await this.#replication.markPublished();
    return this.#published();
  }

  /** Decides a kill or a restore. For a known flag it awaits nothing first, so that no outage delays a kill. */
  async setKilled(request: KillRequest): Promise<KillOutcome> {
    if (this.#storage.position === null) await this.#ensureStarted();
    const { kills } = this.#storage;
    const isNew = kills.findRecord(request, Date.now()) === null;
    if (isNew && !(await this.#ensureKnown(request.flag))) return { outcome: "unknown-flag" };
    const earlier = kills.findRecord(request, Date.now());
    if (earlier !== null && !isSameRequest(earlier, request)) return { outcome: "idempotency-key-reused" };
    const record = earlier ?? this.#decideKill(request);
    if (record.changed && !kills.isMirrored(record.seq)) {
      await this.#mirror.mirrorSoon(this.#position.environmentId).catch(() => this.#alarm.wake(RETRY_MS));
    }
    const { flag, revision, changed, seq } = record;
    const now = { killed: kills.state(flag), mirrored: kills.isMirrored(seq) };
    const supersededBy = kills.findDecisionAfter(flag, seq);
    return { outcome: "done", revision, changed, ...now, replayed: earlier !== null, supersededBy };
  }

  /** What `setKilled` would return. It may publish committed changes, to find a flag whose publish call was lost. */
  async previewKill(request: KillRequest): Promise<KillOutcome> {
    await this.#ensureStarted();
    if (!(await this.#ensureKnown(request.flag))) return { outcome: "unknown-flag" };
    return previewOutcome(request, this.#storage.kills.state(request.flag), this.#position.revision, Date.now());
  }

  async kills(): Promise<KillsNow> {
    await this.#ensureStarted();
    const { kills } = this.#storage;
    return { killed: kills.states(), pending: kills.unmirrored(100) };
  }

  async receipt(revision: number): Promise<Receipt | null> {
    const delivery = this.#storage.position && this.#storage.deltas.get(revision);
    if (delivery === null) return null;
    return toReceipt(await this.#children.receipt(revision, RECEIPT_MS), revision, delivery.publishedAt);
  }

  /** The current ruleset; null where there is no such environment. */
  async snapshot(): Promise<SnapshotParts | null> {
    return (await this.#startIfExists()) === null ? null : this.#storage.snapshot();
  }

  /** The encoded ruleset of the initial state, until history in R2 has it. */
  async initialRuleset(): Promise<string | null> {
    return this.#storage.deltas.large((await this.#ensureStarted()).initialRevision);
  }

  /** The encoded patches after `revision` that are in the log: history in R2 may not have them yet. */
  async patches(revision: number): Promise<string[]> {
    await this.#ensureStarted();
    return this.#storage.deltas.patches(revision, PATCHES_BYTES).map(({ text }) => text);
  }

  // Called by relays.

  async attach(report: Report) {
    if ((await this.#startIfExists()) === null) return null;
    this.#children.put(report, this.#position.revision);
    this.ctx.waitUntil(this.#compareHeads().catch(() => this.#alarm.wake(RETRY_MS)));
    return { ...(await this.since(report.revision)), occupancy: this.#updateOccupancy() };
  }

  async detach(name: string): Promise<void> {
    if (this.#storage.position === null) return;
    this.#children.remove(name);
    this.#updateOccupancy();
  }

  async since(revision: number): Promise<Backlog> {
    await this.#ensureStarted();
    const latest = this.#position.revision;
    const deliveries = this.#storage.deltas.after(revision, latest);
    return deliveries === null
      ? { revision: latest, deliveries, keys: this.#storage.keyExpiries() }
      : { revision: latest, deliveries };
  }

  /** Adds up the reports, and decides from them how many relays each region has. */
  #updateOccupancy() {
    const { connected, regions, keys } = this.#children.sum();
    const relays = this.#storage.regions.decide(regions, Number(this.env.RELAY_CAP), Date.now());
    if (this.#storage.regions.hasUnpublishedCounts) this.#alarm.wake(SNAPSHOT_DELAY_MS);
    return { relays, connected, keys };
  }

  // Order.

  /** Only after `#ensureStarted`. */
  get #position(): HubPosition {
    return this.#storage.position as HubPosition;
  }

  #applyChange({ version, id, ...documents }: Change): void {
    this.#deliver(this.#storage.atomically(() => this.#advance(documents, { version, changeId: id }, false)));
  }

  /** Makes one revision: state, log and position. The caller makes it atomic. */
  #advance(documents: Documents, to: Partial<HubPosition>, urgent: boolean): Delivery {
    const storage = this.#storage;
    const { revision: previous, archivedRevision } = this.#position;
    storage.write(documents);
    const full = { revision: previous + 1, previous, publishedAt: Date.now(), ...storage.forClients(documents) };
    const { delivery, patch } = encodeDelivery(full, documents.keys, this.#children.sum().connected, urgent);
    storage.deltas.add(delivery, patch, archivedRevision);
    storage.move({ ...to, revision: delivery.revision });
    return delivery;
  }

  #deliver(delivery: Delivery): void {
    this.#children.deliver(delivery, this.#updateOccupancy());
    this.#alarm.wake(SNAPSHOT_DELAY_MS);
  }

  /** Applies D1's changes that this hub lacks or, if D1 has another lineage, the difference to its state. */
  async #catchUp(deadlineMs = D1_MS): Promise<void> {
    for (;;) {
      const { environmentId, version: from } = await this.#ensureStarted();
      const rows = await within(changesFrom(this.#db, environmentId, from, CHANGES_AT_ONCE), deadlineMs, "D1");
      const lineage = compareChanges(rows, from, this.#position, CHANGES_AT_ONCE);
      if (lineage.verdict === "apply") {
        for (const change of lineage.changes) this.#applyChange(change);
        if (lineage.isAll) return;
      } else if (lineage.verdict === "reread" && (await this.#reread(deadlineMs))) return;
    }
  }

  /** After Time Travel, or if the outbox lacks this hub's version: D1's current state becomes one revision. */
  async #reread(deadlineMs: number): Promise<boolean> {
    const { environmentId, version, changeId } = this.#position;
    const whole = await within(wholeEnvironment(this.#db, environmentId), deadlineMs, "D1");
    if (whole === null) throw new Error(`D1 no longer has environment ${environmentId}: its last ruleset stays`);
    const now = this.#position;
    // The id is compared as well: another lineage may have reached the same version meanwhile.
    if (now.version !== version || now.changeId !== changeId) return false;
    const storage = this.#storage;
    const difference = storage.difference(whole.ruleset, whole.keys);
    const delivery = storage.atomically(() => {
      for (const key of storage.members.replace(whole.members)) {
        const segment = whole.ruleset.segments[key];
        if (segment !== undefined) difference.segments[key] = segment;
      }
      storage.kills.mirrorAfter(whole.killSeq);
      const { head } = whole;
      return this.#advance(difference, { version: head.version, changeId: head.changeId, markedVersion: -1 }, false);
    });
    this.#deliver(delivery);
    this.ctx.waitUntil(rebuildFilters(this.env, environmentId, difference.segments));
    return true;
  }

  /** Detects that D1 was restored by Time Travel, which calls nothing. */
  async #compareHeads(): Promise<void> {
    if (Date.now() - this.#comparedAt < HEADS_EVERY_MS) return;
    this.#comparedAt = Date.now();
    const before = this.#position;
    const heads = await within(findHeads(this.#db, before.environmentId), D1_MS, "D1").catch((error: unknown) => {
      this.#comparedAt = 0;
      throw error;
    });
    const { version, changeId } = this.#position;
    // Clients keep a ruleset that is gone from D1. If the position moved meanwhile, the heads are outdated.
    if (heads === null || version !== before.version || changeId !== before.changeId) return;
    const { catchUp, mirrorKills } = compareHeads(heads, this.#position, this.#storage.kills.lastMirrored());
    if (mirrorKills) this.#storage.kills.mirrorAfter(heads.killSeq);
    if (catchUp) await this.#catchUp();
    if (mirrorKills || catchUp) await this.#mirror.mirror(before.environmentId);
  }

  // Cold start.

  async #ensureStarted(): Promise<HubPosition> {
    const position = await this.#startIfExists();
    if (position === null) throw new Error("There is no such environment");
    return position;
  }

  /** Reads the initial state from D1, or from KV while D1 is down. Null, nothing stored: no such environment. */
  async #startIfExists(): Promise<HubPosition | null> {
    if (this.#storage.position !== null) return this.#storage.position;
    this.#coldStart ??= this.#start().finally(() => {
      this.#coldStart = null;
    });
    return this.#coldStart;
  }

  async #start(): Promise<HubPosition | null> {
    const environmentId = this.ctx.id.name;
    if (environmentId === undefined) throw new Error("A hub must be addressed by its environment's id: use idFromName");
    const initialState = await readInitialState(this.#db, this.env.KV, environmentId);
    if (this.#storage.position === null && initialState !== null) this.#initialize(environmentId, initialState);
    return this.#storage.position;
  }

  #initialize(environmentId: string, { documents, members, kills, relays, ...from }: InitialState): void {
    const storage = this.#storage;
    storage.atomically(() => {
      storage.prepare();
      storage.write(documents);
      storage.members.replace(members);
      for (const [flag, kill] of Object.entries(kills)) storage.kills.setState(flag, kill);
      storage.move({ environmentId, ...from, snapshotRevision: 0, markedVersion: -1 });
      storage.move({ initialRevision: from.revision, archivedRevision: from.revision - 1, baseRevision: 0 });
      storage.move({ runs: 0, runBytes: 0, baseBytes: 0 });
      // The first base of the history in R2.
      storage.deltas.keepLarge(from.revision, storage.snapshot().ruleset);
    });
    this.#children.requestReattach(environmentId, relays, Number(this.env.RELAY_FAN_OUT));
    this.#alarm.wake(SNAPSHOT_DELAY_MS);
  }

  // Kills.

  #isKnown(flag: string): boolean {
    return this.#storage.flag(flag) !== null || this.#storage.kills.state(flag) !== null;
  }

  /** Reads changes from D1 if the flag is unknown: the publish call of a new flag may have been lost. */
  async #ensureKnown(flag: string): Promise<boolean> {
    if (!this.#isKnown(flag)) await this.#catchUp(D1_FIRST_MS).catch(() => {});
    return this.#isKnown(flag);
  }

  #decideKill(request: KillRequest): KillRecord {
    const storage = this.#storage;
    const { flag, reason, origin } = request;
    const seq = this.#position.killSeq + 1;
    const at = Date.now();
    const kill = request.action === "kill";
    const changed = (storage.kills.state(flag) !== null) !== kill;
    const { record, delivery } = storage.atomically(() => {
      let delivery: Delivery | null = null;
      if (changed) {
        storage.kills.setState(flag, kill ? { by: origin.actor, at, reason, seq } : null);
        const document = storage.flag(flag);
        const flags = document === null ? {} : { [flag]: document };
        delivery = this.#advance({ flags, segments: {}, keys: {} }, { killSeq: seq }, true);
      } else storage.move({ killSeq: seq });
      const record = { ...request, seq, at, changed, revision: this.#position.revision };
      storage.kills.add(record);
      return { record, delivery };
    });
    if (delivery !== null) this.#deliver(delivery);
    return record;
  }

  /** After a cold start without D1, imports kills that only D1 has. The difference becomes one revision. */
  async #importKills(): Promise<void> {
    const { environmentId, unreadKillsAfter } = this.#position;
    if (unreadKillsAfter === null) return;
    const rows = await within(killsAfter(this.#db, environmentId, unreadKillsAfter), D1_MS, "D1");
    const storage = this.#storage;
    const imported = { unreadKillsAfter: null };
    const delivery = storage.atomically(() => {
      const changed = storage.kills.importFromD1(rows).map((key) => [key, storage.flag(key)] as const);
      const flags = Object.fromEntries(changed.filter(([, document]) => document !== null));
      if (changed.length > 0) return this.#advance({ flags, segments: {}, keys: {} }, imported, true);
      storage.move(imported);
      return null;
    });
    if (delivery !== null) this.#deliver(delivery);
    await this.#mirror.mirror(environmentId);
  }

  // Background work: one run at a time. A relay that missed a kill must not wait for D1, KV or R2.

  override async alarm(): Promise<void> {
    this.#alarm.wentOff();
    const position = this.#storage.position;
    if (position === null) return;
    this.#replicating ??= this.#replicate(position).finally(() => {
      this.#replicating = null;
    });
    const replicated = within(this.#replicating, HUB_REPLICATION_MS, "replication").catch(() =>
      this.#alarm.wake(RETRY_MS),
    );
    await Promise.all([this.#children.refresh(position.revision), replicated]);
  }

  async #replicate(position: HubPosition): Promise<void> {
    const now = Date.now();
    const results = await Promise.allSettled([
      this.#mirror.mirror(position.environmentId).then(() => this.#storage.kills.trim(now)),
      this.#importKills(),
      this.#compareHeads(),
      ...this.#replication.due(now),
    ]);
    const failed = warnOfFailures(position.environmentId, results);
    this.#storage.clearText();
    this.#failures = failed ? this.#failures + 1 : 0;
    const nextInMs = this.#replication.nextInMs(now, SNAPSHOT_DELAY_MS);
    if (this.#failures > 0) this.#alarm.wake(Math.min(RETRY_MS * 2 ** (this.#failures - 1), MAX_RETRY_MS));
    else if (nextInMs !== null) this.#alarm.wake(nextInMs);
  }

  #published(): Published {
    const { revision, version } = this.#position;
    return { revision, version };
  }
}
