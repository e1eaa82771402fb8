/** A big segment's upload, one at a time: buffered in memory, stored in large batches, counted at its end. */

import { newId } from "../../workers/platform/random-id.ts";
import { nextMark, stagedBy } from "./members.ts";
import type { OriginAndReason, SegmentRecord } from "./record.ts";
import { isReceiving, isTooMany, UPLOAD_TIMEOUT_MS, type Upload, type UploadMode } from "./state.ts";

export type UploadBegun = { outcome: "begun" | "busy"; upload: Upload };
export type UploadReceived = "taken" | "too-many" | "ended";

/**
 * Members arrive unordered, and each one stored alone rewrites a page of 4 KB, a hundred times its size. Sorted batches
 * share pages. This many members are about 25 MB of the 128 MB that an object has.
 */
const BUFFERED_MEMBERS = 200_000;
/** A parameter of SQLite is at most 2 MB, and a member of 1,024 characters is up to 6 KB of JSON. */
const STATEMENT_MEMBERS = 5_000;

export class SegmentUpload {
  readonly #record: SegmentRecord;
  /** Members that were received and not stored yet: durability is promised only when the upload ends. */
  #buffer: { id: string; members: string[]; staged: number } | null = null;

  constructor(record: SegmentRecord) {
    this.#record = record;
  }

  begin(mode: UploadMode, origin: OriginAndReason, now: number): UploadBegun {
    const before = this.#record.state;
    if (isReceiving(before.upload, now)) return { outcome: "busy", upload: before.upload };
    const upload: Upload = { id: newId("upl"), mode, state: "receiving", received: 0, startedAt: now, at: now };
    const mark = mode === "replace" ? nextMark(before.mark) : before.mark;
    this.#buffer = { id: upload.id, members: [], staged: 0 };
    this.#record.move({ upload, mark, uploader: { origin, countBefore: before.count } });
    return { outcome: "begun", upload };
  }

  receive(id: string, given: string[], now: number): UploadReceived {
    const upload = this.#receiving(id);
    if (upload === null || this.#buffer === null) return "ended";
    for (const member of given) this.#buffer.members.push(member);
    this.#record.move({ upload: { ...upload, received: upload.received + given.length, at: now } });
    if (this.#buffer.members.length >= BUFFERED_MEMBERS) this.store();
    return isTooMany(upload.mode, this.#record.state.count + this.#buffer.staged, false) ? "too-many" : "taken";
  }

  finish(id: string): "done" | "ended" | "too-many" {
    const upload = this.#receiving(id);
    if (upload === null) return "ended";
    this.store();
    const { count, mark } = this.#record.state;
    const after = upload.mode === "replace" ? this.#record.members.count(stagedBy(mark)) : count;
    if (isTooMany(upload.mode, after, true)) return "too-many";
    this.#end("done");
    return "done";
  }

  /** Ends the upload. Members received so far stay, so that sending them again changes nothing; a `replace` has changed nobody. */
  abandon(id: string): void {
    if (this.#receiving(id) !== null) this.#end("abandoned");
  }

  abandonTimedOut(now: number): void {
    const { upload } = this.#record.state;
    if (upload?.state === "receiving" && upload.at + UPLOAD_TIMEOUT_MS <= now) this.#end("abandoned");
  }

  /** To be called when the segment was deleted. */
  clearBuffer(): void {
    this.#buffer = null;
  }

  /** Stores the buffer sorted by the table's key, so that neighbours share the pages that are written. */
  store(): void {
    const { upload, ...state } = this.#record.state;
    if (this.#buffer === null || upload === null || this.#buffer.members.length === 0) return;
    const buffer = this.#buffer;
    const members = [...new Set(buffer.members)].sort();
    buffer.members = [];
    let { count } = state;
    this.#record.atomically(() => {
      for (let from = 0; from < members.length; from += STATEMENT_MEMBERS) {
        const some = members.slice(from, from + STATEMENT_MEMBERS);
        if (upload.mode === "replace") buffer.staged += this.#record.members.stage(some, state);
        else if (upload.mode === "remove") count -= this.#record.members.remove(some, state.validFrom);
        else count += this.#record.members.add(some, state);
      }
      this.#record.move({ count, uploadedInto: state.next });
    });
  }

  /** Null if the upload has ended. If an eviction has lost its buffer, this abandons it. */
  #receiving(id: string): Upload | null {
    const upload = this.#record.stateOrNull?.upload;
    if (upload?.id !== id || upload.state !== "receiving") return null;
    if (this.#buffer?.id === id) return upload;
    this.#end("abandoned");
    return null;
  }

  #end(to: "done" | "abandoned"): void {
    const record = this.#record;
    if (to === "done" || record.state.upload?.mode !== "replace") this.store();
    this.#buffer = null;
    const { state } = record;
    const upload = { ...(state.upload as Upload), state: to, at: Date.now() };
    const replaced = to === "done" && upload.mode === "replace";
    const validFrom = replaced ? stagedBy(state.mark) : state.validFrom;
    const count = replaced ? record.members.count(validFrom) : state.count;
    record.atomically(() => {
      if (state.uploader !== null) {
        const { origin, countBefore } = state.uploader;
        const changes = {
          members: { from: countBefore, to: count },
          upload: { to: { mode: upload.mode, state: to, received: upload.received } },
        };
        record.addAudit("segment.upload", origin, changes);
      }
      record.move({ upload, uploader: null, validFrom, count, uploadedInto: state.next, due: true });
    });
  }
}
