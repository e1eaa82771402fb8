/**
 * One per environment. Puts changes in one order, owns kills, keeps the ruleset and the delta log, writes KV snapshots.
 *
 * Nothing is awaited between reading the state and writing it: what has to be fetched is fetched first, then the state is
 * looked at again and moved in one synchronous step.
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { D1_FIRST_MS, D1_MS, HUB_FOLLOW_MS, RECEIPT_MS, within } from "../../workers/platform/deadline.ts";
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
import { type Beginning, firstBeginning, readBeginning } from "./initial-state.ts";
import {
  isSameRequest,
  type KillOutcome,
  type KillRecord,
  type KillRequest,
  type KillsNow,
  previewOutcome,
} from "./kills/kill.ts";
import { KillMirror } from "./kills/mirror.ts";
import { compareHeads, fits, judge } from "./lineage.ts";
import { rebuildFilters } from "./rebuild-filters.ts";
import { Followers, warnOfFailures } from "./replication.ts";
import { HubStorage, type Position } from "./storage.ts";

/** What an edit or a kill became: `revision` is what every client will report as applied. */
export type Published = { revision: number; version: number };

/** Each may carry a document of a megabyte, and an object has 128 MB: read in pages. */
const CHANGES_AT_ONCE = 10;
/** KV takes one write a second for each key: publishes within this time share one snapshot. */
const SNAPSHOT_DELAY_MS = 1_000;
/** Work that failed is tried again by alarm after this long, then twice as long, and so on. */
const RETRY_MS = 2_000;
const MAX_RETRY_MS = 10_000;
/** How long a D1 that has gone back in time may go unnoticed under live clients, whose relays ask at least this often. */
const HEADS_EVERY_MS = 60_000;
/** What one answer holds of the patches that R2 does not have yet. */
const PATCHES_BYTES = 8 * 1024 * 1024;

export class Hub extends DurableObject<Env> implements UpstreamNode {
  readonly #storage: HubStorage;
  readonly #children: Children;
  readonly #alarm: Alarm;
  readonly #db: Database;
  readonly #mirror: KillMirror;
  readonly #followers: Followers;
  #failures = 0;
  #comparedAt = 0;
  #birth: Promise<Position | null> | null = null;
  #following: Promise<void> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#alarm = new Alarm(ctx);
    this.#children = new Children(ctx, env.RELAY, (inMs) => this.#alarm.wake(inMs));
    this.#storage = new HubStorage(ctx.storage);
    this.#db = openDatabase(env.DB);
    this.#mirror = new KillMirror(this.#db, this.#storage.kills);
    this.#followers = new Followers(env, this.#db, this.#storage);
  }

  // What Workers call.

  /** Called once, by creating the environment. Its snapshot is in KV when this returns. */
  async create(environmentId: string): Promise<Published> {
    if (this.#storage.position === null) {
      const whole = await within(wholeEnvironment(this.#db, environmentId), D1_MS, "D1");
      if (whole === null) throw new Error(`There is no environment ${environmentId} in D1`);
      if (this.#storage.position === null) this.#begin(environmentId, firstBeginning(whole));
    }
    await this.#followers.writeSnapshot();
    return this.#published();
  }

  /** Returns once the change, and all before it, are published. */
  async publish(change: Change): Promise<Published> {
    await this.#born();
    if (fits(change, this.#position)) this.#applyChange(change);
    else await this.#catchUp();
    return this.#published();
  }

  /** The sweep's nudge: something committed may not have been published. */
  async catchUp(): Promise<Published> {
    await this.#born();
    await this.#catchUp();
    await this.#followers.markPublished();
    return this.#published();
  }

  /** Decided here, in order, and behind no fetch where the flag is known. */
  async setKilled(request: KillRequest): Promise<KillOutcome> {
    if (this.#storage.position === null) await this.#born();
    const { kills } = this.#storage;
    const isNew = kills.answered(request, Date.now()) === null;
    if (isNew && !(await this.#learns(request.flag))) return { outcome: "unknown-flag" };
    const answered = kills.answered(request, Date.now());
    if (answered !== null && !isSameRequest(answered, request)) return { outcome: "idempotency-key-reused" };
    const record = answered ?? this.#decideKill(request);
    if (record.changed && !kills.isMirrored(record.seq)) {
      await this.#mirror.tellSoon(this.#position.environmentId).catch(() => this.#alarm.wake(RETRY_MS));
    }
    const { flag, revision, changed, seq } = record;
    const now = { killed: kills.state(flag), mirrored: kills.isMirrored(seq) };
    const supersededBy = kills.decidedAfter(flag, seq);
    return { outcome: "done", revision, changed, ...now, replayed: answered !== null, supersededBy };
  }

  /** What `setKilled` would answer. Of a flag whose nudge was lost it publishes what was committed, as any catching up does. */
  async previewKill(request: KillRequest): Promise<KillOutcome> {
    await this.#born();
    if (!(await this.#learns(request.flag))) return { outcome: "unknown-flag" };
    return previewOutcome(request, this.#storage.kills.state(request.flag), this.#position.revision, Date.now());
  }

  async kills(): Promise<KillsNow> {
    await this.#born();
    const { kills } = this.#storage;
    return { killed: kills.states(), pending: kills.unmirrored(100) };
  }

  async receipt(revision: number): Promise<Receipt | null> {
    const delivery = this.#storage.position && this.#storage.deltas.get(revision);
    if (delivery === null) return null;
    return toReceipt(await this.#children.receipt(revision, RECEIPT_MS), revision, delivery.publishedAt);
  }

  /** The whole ruleset as it is now; null where there is no such environment. */
  async snapshot(): Promise<SnapshotParts | null> {
    return (await this.#bornOrNull()) === null ? null : this.#storage.snapshot();
  }

  /** The encoded ruleset that this hub began with, until history in R2 has it. */
  async initialRuleset(): Promise<string | null> {
    return this.#storage.deltas.large((await this.#born()).initialRevision);
  }

  /** The encoded patches after `revision`, as far as the log has them: what history in R2 may still lack. */
  async patches(revision: number): Promise<string[]> {
    await this.#born();
    return this.#storage.deltas.patches(revision, PATCHES_BYTES).map(({ text }) => text);
  }

  // What relays call.

  async attach(report: Report) {
    if ((await this.#bornOrNull()) === null) return null;
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
    await this.#born();
    const latest = this.#position.revision;
    const deliveries = this.#storage.deltas.after(revision, latest);
    return deliveries === null
      ? { revision: latest, deliveries, keys: this.#storage.keyExpiries() }
      : { revision: latest, deliveries };
  }

  /** By which relays admit clients. Decides how many of them there shall be. */
  #updateOccupancy() {
    const { connected, regions, keys } = this.#children.sum();
    const relays = this.#storage.regions.decide(regions, Number(this.env.RELAY_CAP), Date.now());
    if (this.#storage.regions.hasUnpublishedCounts) this.#alarm.wake(SNAPSHOT_DELAY_MS);
    return { relays, connected, keys };
  }

  // Order.

  /** Of a hub that has been born. */
  get #position(): Position {
    return this.#storage.position as Position;
  }

  #applyChange({ version, id, ...documents }: Change): void {
    this.#announce(this.#storage.atomically(() => this.#advance(documents, { version, changeId: id }, false)));
  }

  /** One revision: state, log and position in one step, which the caller makes atomic. */
  #advance(documents: Documents, to: Partial<Position>, urgent: boolean): Delivery {
    const storage = this.#storage;
    const { revision: previous, archivedRevision } = this.#position;
    storage.write(documents);
    const full = { revision: previous + 1, previous, publishedAt: Date.now(), ...storage.forClients(documents) };
    const { delivery, patch } = encodeDelivery(full, documents.keys, this.#children.sum().connected, urgent);
    storage.deltas.add(delivery, patch, archivedRevision);
    storage.move({ ...to, revision: delivery.revision });
    return delivery;
  }

  #announce(delivery: Delivery): void {
    this.#children.deliver(delivery, this.#updateOccupancy());
    this.#alarm.wake(SNAPSHOT_DELAY_MS);
  }

  /** Applies what D1 has and this hub has not, or, where D1's history is another one, the difference to what it holds now. */
  async #catchUp(deadlineMs = D1_MS): Promise<void> {
    for (;;) {
      const { environmentId, version: asked } = await this.#born();
      const rows = await within(changesFrom(this.#db, environmentId, asked, CHANGES_AT_ONCE), deadlineMs, "D1");
      const judged = judge(rows, asked, this.#position, CHANGES_AT_ONCE);
      if (judged.verdict === "apply") {
        for (const change of judged.changes) this.#applyChange(change);
        if (judged.isAll) return;
      } else if (judged.verdict === "reread" && (await this.#reread(deadlineMs))) return;
    }
  }

  /** Lineage broken (Time Travel, or an outbox trimmed under a hub long gone): D1 as it is now becomes one revision. */
  async #reread(deadlineMs: number): Promise<boolean> {
    const { environmentId, version, changeId } = this.#position;
    const whole = await within(wholeEnvironment(this.#db, environmentId), deadlineMs, "D1");
    if (whole === null) throw new Error(`Environment ${environmentId} is gone from D1`);
    const now = this.#position;
    // The id too: on another lineage the same version may have been reached meanwhile.
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
    this.#announce(delivery);
    this.ctx.waitUntil(rebuildFilters(this.env, environmentId, difference.segments));
    return true;
  }

  /** Whether D1 still has the history that was published here: a restore by Time Travel makes no nudge. */
  async #compareHeads(): Promise<void> {
    if (Date.now() - this.#comparedAt < HEADS_EVERY_MS) return;
    this.#comparedAt = Date.now();
    const asked = this.#position;
    const heads = await within(findHeads(this.#db, asked.environmentId), D1_MS, "D1").catch((error: unknown) => {
      this.#comparedAt = 0;
      throw error;
    });
    const { version, changeId } = this.#position;
    // Gone from D1, which is no reason to take it from its clients; or overtaken, which is how a nudge looks too.
    if (heads === null || version !== asked.version || changeId !== asked.changeId) return;
    const { catchUp, tellKills } = compareHeads(heads, this.#position, this.#storage.kills.told());
    if (tellKills) this.#storage.kills.mirrorAfter(heads.killSeq);
    if (catchUp) await this.#catchUp();
    if (tellKills || catchUp) await this.#mirror.tell(asked.environmentId);
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
    const beginning = await readBeginning(this.#db, this.env.KV, environmentId);
    if (this.#storage.position === null && beginning !== null) this.#begin(environmentId, beginning);
    return this.#storage.position;
  }

  #begin(environmentId: string, { documents, members, kills, relays, ...from }: Beginning): void {
    const storage = this.#storage;
    storage.atomically(() => {
      storage.prepare();
      storage.write(documents);
      storage.members.replace(members);
      for (const [flag, kill] of Object.entries(kills)) storage.kills.setState(flag, kill);
      storage.move({ environmentId, ...from, snapshotRevision: 0, markedVersion: -1 });
      storage.move({ initialRevision: from.revision, archivedRevision: from.revision - 1, baseRevision: 0 });
      storage.move({ runs: 0, runBytes: 0, baseBytes: 0 });
      // History begins with it, whole.
      storage.deltas.keepLarge(from.revision, storage.snapshot().ruleset);
    });
    this.#children.requestReattach(environmentId, relays, Number(this.env.RELAY_FAN_OUT));
    this.#alarm.wake(SNAPSHOT_DELAY_MS);
  }

  // Kills.

  #knows(flag: string): boolean {
    return this.#storage.flag(flag) !== null || this.#storage.kills.state(flag) !== null;
  }

  /** A flag made a moment ago whose nudge was lost. With D1 down it stays unknown: never a silent success. */
  async #learns(flag: string): Promise<boolean> {
    if (!this.#knows(flag)) await this.#catchUp(D1_FIRST_MS).catch(() => {});
    return this.#knows(flag);
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
    if (delivery !== null) this.#announce(delivery);
    return record;
  }

  /** What D1 alone knows of kills, where this hub began without it: the difference becomes one revision. */
  async #hearKills(): Promise<void> {
    const { environmentId, unreadKillsAfter } = this.#position;
    if (unreadKillsAfter === null) return;
    const rows = await within(killsAfter(this.#db, environmentId, unreadKillsAfter), D1_MS, "D1");
    const storage = this.#storage;
    const heard = { unreadKillsAfter: null };
    const delivery = storage.atomically(() => {
      const changed = storage.kills.hear(rows).map((key) => [key, storage.flag(key)] as const);
      const flags = Object.fromEntries(changed.filter(([, document]) => document !== null));
      if (changed.length > 0) return this.#advance({ flags, segments: {}, keys: {} }, heard, true);
      storage.move(heard);
      return null;
    });
    if (delivery !== null) this.#announce(delivery);
    await this.#mirror.tell(environmentId);
  }

  // What can wait: an alarm at a time, and the next waits for it. A relay that missed a kill must not wait for D1, KV or R2.

  override async alarm(): Promise<void> {
    this.#alarm.wentOff();
    const position = this.#storage.position;
    if (position === null) return;
    this.#following ??= this.#follow(position).finally(() => {
      this.#following = null;
    });
    const followed = within(this.#following, HUB_FOLLOW_MS, "what follows the hub").catch(() =>
      this.#alarm.wake(RETRY_MS),
    );
    await Promise.all([this.#children.refresh(position.revision), followed]);
  }

  async #follow(position: Position): Promise<void> {
    const now = Date.now();
    const results = await Promise.allSettled([
      this.#mirror.tell(position.environmentId).then(() => this.#storage.kills.trim(now)),
      this.#hearKills(),
      this.#compareHeads(),
      ...this.#followers.due(now),
    ]);
    const failed = warnOfFailures(position.environmentId, results);
    this.#storage.forgetText();
    this.#failures = failed ? this.#failures + 1 : 0;
    const nextInMs = this.#followers.nextInMs(now, SNAPSHOT_DELAY_MS);
    if (this.#failures > 0) this.#alarm.wake(Math.min(RETRY_MS * 2 ** (this.#failures - 1), MAX_RETRY_MS));
    else if (nextInMs !== null) this.#alarm.wake(nextInMs);
  }

  #published(): Published {
    const { revision, version } = this.#position;
    return { revision, version };
  }
}
