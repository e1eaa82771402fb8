/**
 * One per big segment: its exact members, and the filters that are built of them for all who evaluate (EV-20). A change of
 * few members is said beside the filter at once; many changes, or an upload, make a new filter, in the background.
 */
import { DurableObject } from "cloudflare:workers";
import { FILTER_WRITE_MS, HUB_PUBLISH_MS, within } from "../workers/deadline.ts";
import type { Env } from "../workers/env.ts";
import { commitFilter, commitMembers, filterName, type SegmentPlace } from "../workers/store/big-segments.ts";
import type { AuditEntry, Change } from "../workers/store/changes.ts";
import { type Database, newId, openDatabase } from "../workers/store/database.ts";
import { FilterBuild } from "./filter-build.ts";
import type { Origin } from "./kill.ts";
import { SegmentMembers } from "./segment-members.ts";
import {
  FILTER_KEPT_MS,
  MAX_PENDING,
  newState,
  nextAlarm,
  type SegmentState,
  UPLOAD_SILENCE_MS,
  type Upload,
  type UploadMode,
} from "./segment-upload.ts";

export type { UploadMode } from "./segment-upload.ts";

/** Who asked, and why, for the audit entry. */
export type Requester = Origin & { reason: string | null };

/** A filter of so many is 18 MB, which every client holds. */
const MAX_MEMBERS = 5_000_000;
/**
 * Members come in no order, and each that is stored by itself rewrites a page of 4 KB: a hundred times its size. Stored by so
 * many, sorted, they share pages. About 25 MB of the 128 that an object has.
 */
const BUFFERED_MEMBERS = 200_000;
/** SQLite takes 2 MB a parameter, and 1,024 characters may be 6 KB of JSON. */
const STATEMENT_MEMBERS = 5_000;

/** `revision` is null while the change is committed or published later, by alarm. */
export type Changed = { added: string[]; removed: string[]; revision: number | null };
export type Begun = { outcome: "begun" | "busy"; upload: Upload };
export type Received = "taken" | "too-many" | "ended";
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
  readonly #members: SegmentMembers;
  readonly #db: Database;
  #state: SegmentState | null;
  #build: FilterBuild | null = null;
  /** What has come of an upload and is not stored yet: nothing of it has been promised before its end. */
  #buffer: { id: string; members: string[] } | null = null;
  #failures = 0;
  #revision: number | null = null;
  /** Commits follow each other, so that what is said of a member arrives in the order in which it was decided. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#members = new SegmentMembers(ctx.storage.sql);
    this.#db = openDatabase(env.DB);
    this.#state = ctx.storage.kv.get<SegmentState>("state") ?? null;
    if (this.#state !== null) this.#members.prepare();
  }

  // Small changes. No member is in both lists, or twice in one.

  async change(createdAt: number, add: string[], remove: string[], origin: Requester): Promise<Changed> {
    this.#open(createdAt);
    // An upload that brought the same member before was before.
    this.#store();
    const state = this.#state as SegmentState;
    const present = new Set(this.#members.present([...add, ...remove], state.validFrom));
    const added = add.filter((member) => !present.has(member));
    const removed = remove.filter((member) => present.has(member));
    // What an upload has brought may be in no filter yet: then even what is so already has to be said.
    const unsettled = state.generation < state.uploadedInto;
    const [comes, goes] = unsettled ? [add, remove] : [added, removed];
    if (comes.length + goes.length > 0) {
      this.ctx.storage.transactionSync(() => {
        this.#members.add(comes, state);
        this.#members.remove(goes, state.validFrom);
        this.#members.tell(comes, true, state.next);
        this.#members.tell(goes, false, state.next);
        const changes = { added: { to: added }, removed: { from: removed } };
        if (added.length + removed.length > 0) this.#note("segment.members", origin, changes);
        const due = state.due || this.#members.pendingAfter(state.generation) >= MAX_PENDING;
        this.#move({ count: state.count + added.length - removed.length, due });
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
    return { added, removed, revision };
  }

  // Uploads. One at a time.

  async beginUpload(createdAt: number, mode: UploadMode, origin: Requester): Promise<Begun> {
    const now = Date.now();
    const before = this.#open(createdAt);
    if (before.upload?.state === "receiving" && before.upload.at + UPLOAD_SILENCE_MS > now) {
      return { outcome: "busy", upload: before.upload };
    }
    const upload: Upload = { id: newId("upl"), mode, state: "receiving", received: 0, startedAt: now, at: now };
    const mark = mode === "replace" ? before.mark + 1 : before.mark;
    this.#buffer = { id: upload.id, members: [] };
    this.#move({ upload, mark, uploader: { origin, countBefore: before.count } });
    await this.#arm();
    return { outcome: "begun", upload };
  }

  receive(id: string, given: string[]): Received {
    const upload = this.#receiving(id);
    if (upload === null || this.#buffer === null) return "ended";
    for (const member of given) this.#buffer.members.push(member);
    this.#move({ upload: { ...upload, received: upload.received + given.length, at: Date.now() } });
    if (this.#buffer.members.length >= BUFFERED_MEMBERS) this.#store();
    const { count } = this.#state as SegmentState;
    // Until it ends, one that replaces stands beside what it replaces.
    return count > (upload.mode === "replace" ? 2 * MAX_MEMBERS : MAX_MEMBERS) ? "too-many" : "taken";
  }

  async finishUpload(id: string): Promise<Finished> {
    const upload = this.#receiving(id);
    if (upload === null) return { outcome: "ended", status: null };
    this.#store();
    const { createdAt, count, mark } = this.#state as SegmentState;
    if ((upload.mode === "replace" ? this.#members.count(mark) : count) > MAX_MEMBERS) {
      return { outcome: "too-many", status: null };
    }
    this.#endUpload("done");
    await this.#arm();
    return { outcome: "done", status: this.status(createdAt) };
  }

  /** What has come stays: sending it again changes nothing. One that should have replaced the others replaces nobody. */
  async abandonUpload(id: string): Promise<void> {
    if (this.#receiving(id) === null) return;
    this.#endUpload("abandoned");
    await this.#arm();
  }

  /** Null where it has ended, or where an eviction has lost a part of it: then it ends here. */
  #receiving(id: string): Upload | null {
    const upload = this.#state?.upload;
    if (upload?.id !== id || upload.state !== "receiving") return null;
    if (this.#buffer?.id === id) return upload;
    this.#endUpload("abandoned");
    this.ctx.waitUntil(this.#arm());
    return null;
  }

  /** In order of the table's key, and many at once: neighbours share the pages that are written. */
  #store(): void {
    const { upload, ...state } = this.#state as SegmentState;
    if (this.#buffer === null || upload === null || this.#buffer.members.length === 0) return;
    const members = [...new Set(this.#buffer.members)].sort();
    this.#buffer.members = [];
    let { count } = state;
    this.ctx.storage.transactionSync(() => {
      for (let from = 0; from < members.length; from += STATEMENT_MEMBERS) {
        const some = members.slice(from, from + STATEMENT_MEMBERS);
        if (upload.mode === "remove") count -= this.#members.remove(some, state.validFrom);
        else count += this.#members.add(some, state);
      }
      this.#move({ count, uploadedInto: state.next });
    });
  }

  #endUpload(to: "done" | "abandoned"): void {
    this.#store();
    this.#buffer = null;
    const state = this.#state as SegmentState;
    const upload = { ...(state.upload as Upload), state: to, at: Date.now() };
    const replaced = to === "done" && upload.mode === "replace";
    const validFrom = replaced ? state.mark : state.validFrom;
    const count = replaced ? this.#members.count(validFrom) : state.count;
    this.ctx.storage.transactionSync(() => {
      if (state.uploader !== null) {
        const { origin, countBefore } = state.uploader;
        const changes = {
          members: { from: countBefore, to: count },
          upload: { to: { mode: upload.mode, state: to, received: upload.received } },
        };
        this.#note("segment.upload", origin, changes);
      }
      this.#move({ upload, uploader: null, validFrom, count, uploadedInto: state.next, due: true });
    });
  }

  // Questions.

  has(createdAt: number, members: string[]): string[] {
    const state = this.#state;
    return state?.createdAt === createdAt ? this.#members.present(members, state.validFrom) : [];
  }

  status(createdAt: number): SegmentStatus {
    const state = this.#state?.createdAt === createdAt ? this.#state : newState(createdAt, 1);
    const { count, generation, filterCount, building, upload } = state;
    return {
      count,
      generation,
      filterCount,
      pending: state === this.#state ? this.#members.pendingAfter(generation) : 0,
      building: building === null ? null : { generation: building, count: this.#build?.count ?? 0 },
      upload,
    };
  }

  /** The segment is deleted. */
  async clear(): Promise<void> {
    if (this.#state === null) return;
    this.#forget(0);
    await this.#arm();
  }

  // State.

  /** A segment that was deleted and made anew since begins empty, also where nobody told this object. */
  #open(createdAt: number): SegmentState {
    if (this.#state === null) {
      this.#members.prepare();
      this.#move(newState(createdAt, 1));
    } else if (this.#state.createdAt < createdAt) this.#forget(createdAt);
    const state = this.#state as unknown as SegmentState;
    if (state.createdAt !== createdAt) throw new Error("That segment has been deleted");
    return state;
  }

  #forget(createdAt: number): void {
    this.#build = null;
    this.#buffer = null;
    this.ctx.storage.transactionSync(() => {
      this.#members.clear();
      this.#members.useFilter(null, Date.now());
      this.#move(newState(createdAt, (this.#state as SegmentState).next));
    });
  }

  #move(changes: Partial<SegmentState>): void {
    const state = { ...this.#state, ...changes } as SegmentState;
    this.ctx.storage.kv.put("state", state);
    this.#state = state;
  }

  #place(): SegmentPlace {
    const [environmentId = "", key = ""] = (this.ctx.id.name ?? "").split("/");
    return { environmentId, key };
  }

  #note(action: string, origin: Requester, changes: AuditEntry["changes"]): void {
    const { key } = this.#place();
    const entry: AuditEntry = { timestamp: Date.now(), ...origin, action, resourceType: "segment", key, changes };
    this.#members.note(entry);
  }

  // Publishing.

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn;
    return turn;
  }

  #publishMembers(): Promise<void> {
    return this.#inTurn(async () => {
      for (let since = this.#members.unsent(); since !== null; since = this.#members.unsent()) {
        const { createdAt } = this.#state as SegmentState;
        const { through, entries } = this.#members.notes<AuditEntry>();
        const change = await commitMembers(this.#db, { ...this.#place(), createdAt }, since, entries);
        if (change === null) return this.#gone(createdAt);
        this.#members.markSent(since);
        this.#members.forgetNotes(through);
        await this.#tellHub(change);
      }
    });
  }

  #publishFilter(build: FilterBuild): Promise<void> {
    const { generation, bits, hashes, count, filter } = build;
    return this.#inTurn(async () => {
      const { createdAt } = this.#state as SegmentState;
      const place = { ...this.#place(), createdAt };
      const name = filterName(place, generation);
      const bucket = this.env.SEGMENTS_BUCKET;
      this.#members.logFilter(generation, Date.now());
      await within(bucket.put(name, filter), FILTER_WRITE_MS, "R2");
      const written = await within(bucket.head(name), FILTER_WRITE_MS, "R2");
      if (written?.size !== filter.length) throw new Error(`R2 does not have ${name} as it was written`);

      const url = `/sdk/v1/segments/${place.key}/${generation}`;
      const { through, entries } = this.#members.notes<AuditEntry>();
      const change = await commitFilter(this.#db, place, { generation, count, bits, hashes, url }, entries);
      if (change === null) return this.#gone(createdAt);
      if (this.#build !== build) return;
      this.#build = null;
      this.ctx.storage.transactionSync(() => {
        this.#members.forgetNotes(through);
        this.#members.forgetThrough(generation);
        this.#members.useFilter(generation, Date.now());
        this.#move({ generation, filterCount: count, building: null });
      });
      await this.#tellHub(change);
    });
  }

  /** D1 no longer has the segment. */
  async #gone(createdAt: number): Promise<void> {
    if (this.#state?.createdAt === createdAt) await this.clear();
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
    const state = this.#state;
    if (state === null) return;
    const { upload } = state;
    if (upload?.state === "receiving" && upload.at + UPLOAD_SILENCE_MS <= now) this.#endUpload("abandoned");
    const filters = this.#members.filtersSupersededBefore(now - FILTER_KEPT_MS);
    for (const generation of filters) {
      await within(this.env.SEGMENTS_BUCKET.delete(filterName(this.#place(), generation)), FILTER_WRITE_MS, "R2");
      this.#members.forgetFilter(generation);
    }
    await this.#publishMembers();
    if (this.#build === null && (state.building !== null || state.due)) this.#beginBuild();
    const build = this.#build as FilterBuild | null;
    if (build === null) return;
    if (!build.isComplete) build.step(this.#members, (this.#state as SegmentState).validFrom);
    if (build.isComplete) await this.#publishFilter(build);
  }

  /** Also after an eviction, under a new number: the filter of the old one may have been written. */
  #beginBuild(): void {
    const { next, validFrom } = this.#state as SegmentState;
    this.#build = new FilterBuild(next, this.#members.count(validFrom));
    this.#move({ building: next, next: next + 1, due: false });
  }

  async #arm(): Promise<void> {
    if (this.#state === null) return;
    const now = Date.now();
    const waiting = {
      unsent: this.#members.unsent() !== null,
      firstSupersededAt: this.#members.firstSupersededAt(),
      failures: this.#failures,
    };
    const at = nextAlarm(this.#state, waiting, now);
    if (at === null) return;
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }

  #warn(message: string, error: unknown): void {
    const segment = this.ctx.id.name;
    console.warn(JSON.stringify({ level: "warn", message, segment, error: String(error) }));
  }
}
