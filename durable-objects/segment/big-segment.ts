/**
 * One per big segment: its exact members, and the filters that evaluators use (EV-20). A change of few members is
 * published at once, as lists beside the filter; many changes, or an upload, make a new filter in the background.
 */

import { DurableObject } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { FILTER_WRITE_MS, HUB_PUBLISH_MS, within } from "../../workers/platform/deadline.ts";
import { errorText } from "../../workers/platform/error-text.ts";
import { commitAudit, commitFilter, commitMembers, filterName } from "../../workers/store/big-segments.ts";
import { type Database, openDatabase } from "../../workers/store/database.ts";
import type { Change } from "../../workers/store/outbox/change.ts";
import { FilterBuild } from "./filter-build.ts";
import { type OriginAndReason, SegmentRecord } from "./record.ts";
import {
  FILTER_KEPT_MS,
  isReceiving,
  isTooMany,
  isWorthAFilter,
  newState,
  nextAlarm,
  type Upload,
  type UploadMode,
} from "./state.ts";
import { SegmentUpload, type UploadBegun, type UploadReceived } from "./upload.ts";

export type { OriginAndReason } from "./record.ts";
export type { UploadMode } from "./state.ts";

/** `revision` is null where the alarm has to commit or publish the change later. */
export type MemberChanges = {
  outcome: "done" | "too-many";
  added: string[];
  removed: string[];
  revision: number | null;
};
export type UploadFinished = { outcome: "done" | "ended" | "too-many"; status: SegmentStatus | null };
export type SegmentStatus = {
  count: number;
  /** The generation of the published filter, 0 for none. */
  generation: number;
  /** Members in that filter. */
  filterCount: number;
  /** How many changes are listed beside it. */
  pending: number;
  building: { generation: number; count: number } | null;
  upload: Upload | null;
};

export class BigSegment extends DurableObject<Env> {
  readonly #record: SegmentRecord;
  readonly #uploads: SegmentUpload;
  readonly #db: Database;
  #build: FilterBuild | null = null;
  #failures = 0;
  #revision: number | null = null;
  /** Commits run one after the other, so that changes of one member arrive in their order. */
  #lastCommit: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#record = new SegmentRecord(ctx.storage, ctx.id.name ?? "");
    this.#uploads = new SegmentUpload(this.#record);
    this.#db = openDatabase(env.DB);
  }

  // Small changes. The caller guarantees that no member is in both lists, or twice in one.

  async change(createdAt: number, add: string[], remove: string[], origin: OriginAndReason): Promise<MemberChanges> {
    this.#ensureSegment(createdAt);
    // Members that an upload has received before this change are stored before it.
    this.#uploads.store();
    const { state, members } = this.#record;
    const planned = planChanges(add, remove, members.present([...add, ...remove], state.validFrom), state.count);
    if (planned.outcome === "too-many") return planned;
    const { added, removed, count } = planned;
    // Uploaded members may be in no filter yet: then every requested change is published, also one that changes nothing
    // here.
    const isUnpublished = state.generation < state.uploadedInto;
    const [toAdd, toRemove] = isUnpublished ? [add, remove] : [added, removed];
    if (toAdd.length + toRemove.length > 0) {
      this.#record.atomically(() => {
        members.add(toAdd, state);
        members.remove(toRemove, state.validFrom);
        members.addPending(toAdd, true, state.next);
        members.addPending(toRemove, false, state.next);
        const changes = { added: { to: added }, removed: { from: removed } };
        if (added.length + removed.length > 0) this.#record.addAudit("segment.members", origin, changes);
        const due = state.due || isWorthAFilter(members.pendingAfter(state.generation));
        this.#record.move({ count, due });
      });
    }
    let revision: number | null = null;
    try {
      await this.#publishMembers();
      revision = this.#revision;
    } catch (error) {
      this.#warn("publishing members", error);
      this.#failures = Math.max(this.#failures, 1);
    }
    await this.#scheduleAlarm();
    return { outcome: "done", added, removed, revision };
  }

  /** What `change` would return, without changing anything. */
  previewChange(createdAt: number, add: string[], remove: string[]): MemberChanges {
    return planChanges(add, remove, this.has(createdAt, [...add, ...remove]), this.status(createdAt).count);
  }

  // Uploads: one at a time.

  /** The upload in progress, if any: no other one can begin. */
  activeUpload(createdAt: number): Upload | null {
    const { upload } = this.status(createdAt);
    return isReceiving(upload, Date.now()) ? upload : null;
  }

  async beginUpload(createdAt: number, mode: UploadMode, origin: OriginAndReason): Promise<UploadBegun> {
    this.#ensureSegment(createdAt);
    const begun = this.#uploads.begin(mode, origin, Date.now());
    await this.#scheduleAlarm();
    return begun;
  }

  receive(id: string, given: string[]): UploadReceived {
    const received = this.#uploads.receive(id, given, Date.now());
    if (received === "ended") this.ctx.waitUntil(this.#scheduleAlarm());
    return received;
  }

  async finishUpload(id: string): Promise<UploadFinished> {
    const outcome = this.#uploads.finish(id);
    await this.#scheduleAlarm();
    return { outcome, status: outcome === "done" ? this.status(this.#record.state.createdAt) : null };
  }

  async abandonUpload(id: string): Promise<void> {
    this.#uploads.abandon(id);
    await this.#scheduleAlarm();
  }

  // Reads.

  has(createdAt: number, members: string[]): string[] {
    const state = this.#record.stateOrNull;
    return state?.createdAt === createdAt ? this.#record.members.present(members, state.validFrom) : [];
  }

  status(createdAt: number): SegmentStatus {
    const own = this.#record.stateOrNull;
    const state = own?.createdAt === createdAt ? own : newState(createdAt, 1);
    const { count, generation, filterCount, building, upload } = state;
    return {
      count,
      generation,
      filterCount,
      pending: state === own ? this.#record.members.pendingAfter(generation).members : 0,
      building: building === null ? null : { generation: building, count: this.#build?.count ?? 0 },
      upload,
    };
  }

  /** To be called when the segment is deleted. */
  async clear(): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    this.#reset(0);
    await this.#scheduleAlarm();
  }

  /**
   * To be called after Time Travel: D1's lists are then outdated, which a new filter of the current members corrects.
   */
  async rebuild(): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    this.#record.move({ due: true });
    await this.#scheduleAlarm();
  }

  // State.

  /** Empties the object if the segment was deleted and created again, also if the call of `clear` was lost. */
  #ensureSegment(createdAt: number): void {
    const state = this.#record.stateOrNull;
    if (state === null) this.#record.prepare(createdAt);
    else if (state.createdAt < createdAt) this.#reset(createdAt);
    if (this.#record.state.createdAt !== createdAt) throw new Error("This segment has been deleted");
  }

  #reset(createdAt: number): void {
    this.#build = null;
    this.#uploads.clearBuffer();
    this.#record.begin(createdAt, Date.now());
  }

  // Publishing.

  #serialize<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastCommit.then(work, work);
    this.#lastCommit = turn;
    return turn;
  }

  #publishMembers(): Promise<void> {
    const { members, place } = this.#record;
    return this.#serialize(async () => {
      for (let since = members.unsent(); since !== null; since = members.unsent()) {
        const { createdAt, generation } = this.#record.state;
        const { through, entries } = members.auditEntries();
        const committed = await commitMembers(this.#db, { ...place, createdAt }, since, entries);
        if (committed === null) return this.#clearDeleted(createdAt);
        members.markSent(since);
        members.deleteAuditEntries(through);
        if (committed.generationBefore !== generation) this.#record.move({ due: true });
        await this.#publishToHub(committed.change);
      }
    });
  }

  #publishFilter(build: FilterBuild): Promise<void> {
    const { generation, bits, hashes, count, filter } = build;
    const { members } = this.#record;
    return this.#serialize(async () => {
      const { createdAt } = this.#record.state;
      const place = { ...this.#record.place, createdAt };
      const name = filterName(place, generation);
      const bucket = this.env.SEGMENTS_BUCKET;
      members.logFilter(generation, Date.now());
      await within(bucket.put(name, filter), FILTER_WRITE_MS, "R2");
      const written = await within(bucket.head(name), FILTER_WRITE_MS, "R2");
      if (written?.size !== filter.length) throw new Error(`R2 does not have ${name} as it was written`);

      const url = `/sdk/v1/segments/${place.key}/${generation}`;
      const { through, entries } = members.auditEntries();
      const committed = await commitFilter(this.#db, place, { generation, count, bits, hashes, url }, entries);
      if (committed === null) return this.#clearDeleted(createdAt);
      if (this.#build !== build) return;
      this.#build = null;
      this.#record.atomically(() => {
        members.deleteAuditEntries(through);
        members.deletePendingThrough(generation);
        members.useFilter(generation, Date.now());
        this.#record.move({ generation, filterCount: count, building: null });
      });
      await this.#publishToHub(committed.change);
    });
  }

  /** To be called when D1 no longer has the segment. */
  async #clearDeleted(createdAt: number): Promise<void> {
    if (this.#record.state.createdAt === createdAt) await this.clear();
  }

  /** Audit entries are committed even if the segment was deleted meanwhile. */
  #publishAudit(): Promise<void> {
    const { members } = this.#record;
    return this.#serialize(async () => {
      for (let audit = members.auditEntries(); audit.entries.length > 0; audit = members.auditEntries()) {
        await commitAudit(this.#db, audit.entries);
        members.deleteAuditEntries(audit.through);
      }
    });
  }

  /** If the hub does not respond, the sweep publishes the change. */
  async #publishToHub(change: Change): Promise<void> {
    const hub = this.env.HUB.get(this.env.HUB.idFromName(change.environmentId));
    try {
      this.#revision = (await within(hub.publish(change), HUB_PUBLISH_MS, "publishing")).revision;
    } catch (error) {
      this.#revision = null;
      this.#warn("publishing to the hub", error);
    }
  }

  // Background work: a step for each alarm, so that requests are served in between.

  override async alarm(): Promise<void> {
    try {
      await this.#work(Date.now());
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      this.#warn("working", error);
    } finally {
      await this.#scheduleAlarm();
    }
  }

  async #work(now: number): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    const { members, place } = this.#record;
    this.#uploads.abandonTimedOut(now);
    for (const generation of members.filtersSupersededBefore(now - FILTER_KEPT_MS)) {
      await within(this.env.SEGMENTS_BUCKET.delete(filterName(place, generation)), FILTER_WRITE_MS, "R2");
      members.deleteFilter(generation);
    }
    await this.#publishMembers();
    const { building, due } = this.#record.state;
    if (building === null && !due) return this.#publishAudit();
    this.#build ??= this.#beginBuild();
    const build = this.#build;
    if (!build.isComplete) build.step(members, this.#record.state);
    if (build.isComplete) await this.#publishFilter(build);
  }

  /** Each build has a new generation, also after an eviction: the filter of the old one may have been written. */
  #beginBuild(): FilterBuild {
    const { next, validFrom } = this.#record.state;
    const build = new FilterBuild(next, this.#record.members.count(validFrom));
    this.#record.move({ building: next, next: next + 1, due: false });
    return build;
  }

  async #scheduleAlarm(): Promise<void> {
    const state = this.#record.stateOrNull;
    if (state === null) return;
    const now = Date.now();
    const { members } = this.#record;
    const waiting = {
      unsent: members.unsent() !== null || members.auditEntries().entries.length > 0,
      firstSupersededAt: members.firstSupersededAt(),
      failures: this.#failures,
    };
    const at = nextAlarm(state, waiting, now);
    if (at === null) return;
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }

  #warn(message: string, error: unknown): void {
    const segment = this.ctx.id.name;
    console.warn(JSON.stringify({ level: "warn", message, segment, error: errorText(error) }));
  }
}

/** Reduces a request to the members that are really added and removed, given the `existing` ones. */
function planChanges(
  add: string[],
  remove: string[],
  existing: string[],
  before: number,
): MemberChanges & { count: number } {
  const present = new Set(existing);
  const added = add.filter((member) => !present.has(member));
  const removed = remove.filter((member) => present.has(member));
  const count = before + added.length - removed.length;
  return count > before && isTooMany("add", count, true)
    ? { outcome: "too-many", added: [], removed: [], count: before, revision: null }
    : { outcome: "done", added, removed, count, revision: null };
}
