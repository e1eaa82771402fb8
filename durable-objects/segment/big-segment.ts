/**
 * One per big segment: its exact members, and the filters that are built of them for all who evaluate (EV-20). A change of
 * few members is said beside the filter at once; many changes, or an upload, make a new filter, in the background.
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { FILTER_WRITE_MS, HUB_PUBLISH_MS, within } from "../../workers/platform/deadline.ts";
import { commitAudit, commitFilter, commitMembers, filterName } from "../../workers/store/big-segments.ts";
import { type Database, openDatabase } from "../../workers/store/database.ts";
import type { Change } from "../../workers/store/outbox/change.ts";
import { FilterBuild } from "./filter-build.ts";
import { type Requester, SegmentRecord } from "./record.ts";
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
import { type Begun, type Received, SegmentUpload } from "./upload.ts";

export type { Requester } from "./record.ts";
export type { UploadMode } from "./state.ts";

/** `revision` is null while the change is committed or published later, by alarm. */
export type Changed = { outcome: "done" | "too-many"; added: string[]; removed: string[]; revision: number | null };
export type Finished = { outcome: "done" | "ended" | "too-many"; status: SegmentStatus | null };
export type SegmentStatus = {
  count: number;
  /** The filter that clients are given: 0 for none. */
  generation: number;
  /** Members in that filter. */
  filterCount: number;
  /** Changes that are said beside it. */
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
  /** Commits follow each other, so that what is said of a member arrives in the order in which it was decided. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#record = new SegmentRecord(ctx.storage, ctx.id.name ?? "");
    this.#uploads = new SegmentUpload(this.#record);
    this.#db = openDatabase(env.DB);
  }

  // Small changes. No member is in both lists, or twice in one.

  async change(createdAt: number, add: string[], remove: string[], origin: Requester): Promise<Changed> {
    this.#open(createdAt);
    // An upload that brought the same member before was before.
    this.#uploads.store();
    const { state, members } = this.#record;
    const would = judge(add, remove, members.present([...add, ...remove], state.validFrom), state.count);
    if (would.outcome === "too-many") return would;
    const { added, removed, count } = would;
    // What an upload has brought may be in no filter yet: then even what is so already has to be said.
    const unsettled = state.generation < state.uploadedInto;
    const [comes, goes] = unsettled ? [add, remove] : [added, removed];
    if (comes.length + goes.length > 0) {
      this.#record.atomically(() => {
        members.add(comes, state);
        members.remove(goes, state.validFrom);
        members.tell(comes, true, state.next);
        members.tell(goes, false, state.next);
        const changes = { added: { to: added }, removed: { from: removed } };
        if (added.length + removed.length > 0) this.#record.note("segment.members", origin, changes);
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
    await this.#arm();
    return { outcome: "done", added, removed, revision };
  }

  /** What `change` would come to, on top of what is stored. */
  previewChange(createdAt: number, add: string[], remove: string[]): Changed {
    return judge(add, remove, this.has(createdAt, [...add, ...remove]), this.status(createdAt).count);
  }

  // Uploads. One at a time.

  /** The one that another would have to wait for. */
  activeUpload(createdAt: number): Upload | null {
    const { upload } = this.status(createdAt);
    return isReceiving(upload, Date.now()) ? upload : null;
  }

  async beginUpload(createdAt: number, mode: UploadMode, origin: Requester): Promise<Begun> {
    this.#open(createdAt);
    const begun = this.#uploads.begin(mode, origin, Date.now());
    await this.#arm();
    return begun;
  }

  receive(id: string, given: string[]): Received {
    const received = this.#uploads.receive(id, given, Date.now());
    if (received === "ended") this.ctx.waitUntil(this.#arm());
    return received;
  }

  async finishUpload(id: string): Promise<Finished> {
    const outcome = this.#uploads.finish(id);
    await this.#arm();
    return { outcome, status: outcome === "done" ? this.status(this.#record.state.createdAt) : null };
  }

  async abandonUpload(id: string): Promise<void> {
    this.#uploads.abandon(id);
    await this.#arm();
  }

  // Questions.

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

  /** The segment is deleted. */
  async clear(): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    this.#forget(0);
    await this.#arm();
  }

  /** D1 has gone back in time, and says of the members what it knew then: a new filter, of the members as they are, ends that. */
  async rebuild(): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    this.#record.move({ due: true });
    await this.#arm();
  }

  // State.

  /** A segment that was deleted and made anew since begins empty, also where nobody told this object. */
  #open(createdAt: number): void {
    const state = this.#record.stateOrNull;
    if (state === null) this.#record.prepare(createdAt);
    else if (state.createdAt < createdAt) this.#forget(createdAt);
    if (this.#record.state.createdAt !== createdAt) throw new Error("That segment has been deleted");
  }

  #forget(createdAt: number): void {
    this.#build = null;
    this.#uploads.forget();
    this.#record.begin(createdAt, Date.now());
  }

  // Publishing.

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn;
    return turn;
  }

  #publishMembers(): Promise<void> {
    const { members, place } = this.#record;
    return this.#inTurn(async () => {
      for (let since = members.unsent(); since !== null; since = members.unsent()) {
        const { createdAt, generation } = this.#record.state;
        const { through, entries } = members.notes();
        const committed = await commitMembers(this.#db, { ...place, createdAt }, since, entries);
        if (committed === null) return this.#gone(createdAt);
        members.markSent(since);
        members.forgetNotes(through);
        if (committed.generationBefore !== generation) this.#record.move({ due: true });
        await this.#tellHub(committed.change);
      }
    });
  }

  #publishFilter(build: FilterBuild): Promise<void> {
    const { generation, bits, hashes, count, filter } = build;
    const { members } = this.#record;
    return this.#inTurn(async () => {
      const { createdAt } = this.#record.state;
      const place = { ...this.#record.place, createdAt };
      const name = filterName(place, generation);
      const bucket = this.env.SEGMENTS_BUCKET;
      members.logFilter(generation, Date.now());
      await within(bucket.put(name, filter), FILTER_WRITE_MS, "R2");
      const written = await within(bucket.head(name), FILTER_WRITE_MS, "R2");
      if (written?.size !== filter.length) throw new Error(`R2 does not have ${name} as it was written`);

      const url = `/sdk/v1/segments/${place.key}/${generation}`;
      const { through, entries } = members.notes();
      const committed = await commitFilter(this.#db, place, { generation, count, bits, hashes, url }, entries);
      if (committed === null) return this.#gone(createdAt);
      if (this.#build !== build) return;
      this.#build = null;
      this.#record.atomically(() => {
        members.forgetNotes(through);
        members.forgetThrough(generation);
        members.useFilter(generation, Date.now());
        this.#record.move({ generation, filterCount: count, building: null });
      });
      await this.#tellHub(committed.change);
    });
  }

  /** D1 no longer has the segment. */
  async #gone(createdAt: number): Promise<void> {
    if (this.#record.state.createdAt === createdAt) await this.clear();
  }

  /** Who did what stays on record, also where the segment is gone before D1 was told. */
  #publishNotes(): Promise<void> {
    const { members } = this.#record;
    return this.#inTurn(async () => {
      for (let notes = members.notes(); notes.entries.length > 0; notes = members.notes()) {
        await commitAudit(this.#db, notes.entries);
        members.forgetNotes(notes.through);
      }
    });
  }

  /** A hub that does not answer is told by the sweep. */
  async #tellHub(change: Change): Promise<void> {
    const hub = this.env.HUB.get(this.env.HUB.idFromName(change.environmentId));
    try {
      this.#revision = (await within(hub.publish(change), HUB_PUBLISH_MS, "publishing")).revision;
    } catch (error) {
      this.#revision = null;
      this.#warn("telling the hub", error);
    }
  }

  // What can wait. A step at a time, so that others are answered in between.

  override async alarm(): Promise<void> {
    try {
      await this.#work(Date.now());
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      this.#warn("working", error);
    } finally {
      await this.#arm();
    }
  }

  async #work(now: number): Promise<void> {
    if (this.#record.stateOrNull === null) return;
    const { members, place } = this.#record;
    this.#uploads.abandonSilent(now);
    for (const generation of members.filtersSupersededBefore(now - FILTER_KEPT_MS)) {
      await within(this.env.SEGMENTS_BUCKET.delete(filterName(place, generation)), FILTER_WRITE_MS, "R2");
      members.forgetFilter(generation);
    }
    await this.#publishMembers();
    const { building, due } = this.#record.state;
    if (building === null && !due) return this.#publishNotes();
    this.#build ??= this.#beginBuild();
    const build = this.#build;
    if (!build.isComplete) build.step(members, this.#record.state.validFrom);
    if (build.isComplete) await this.#publishFilter(build);
  }

  /** Also after an eviction, under a new number: the filter of the old one may have been written. */
  #beginBuild(): FilterBuild {
    const { next, validFrom } = this.#record.state;
    const build = new FilterBuild(next, this.#record.members.count(validFrom));
    this.#record.move({ building: next, next: next + 1, due: false });
    return build;
  }

  async #arm(): Promise<void> {
    const state = this.#record.stateOrNull;
    if (state === null) return;
    const now = Date.now();
    const { members } = this.#record;
    const waiting = {
      unsent: members.unsent() !== null || members.notes().entries.length > 0,
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
    console.warn(JSON.stringify({ level: "warn", message, segment, error: String(error) }));
  }
}

/** Who really comes and goes, of those who are there. */
function judge(add: string[], remove: string[], there: string[], before: number): Changed & { count: number } {
  const present = new Set(there);
  const added = add.filter((member) => !present.has(member));
  const removed = remove.filter((member) => present.has(member));
  const count = before + added.length - removed.length;
  return count > before && isTooMany("add", count, true)
    ? { outcome: "too-many", added: [], removed: [], count: before, revision: null }
    : { outcome: "done", added, removed, count, revision: null };
}
