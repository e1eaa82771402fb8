/** The upload that a big segment takes, one at a time: gathered in memory, stored by the many, counted at its end. */

import { newId } from "../../workers/platform/random-id.ts";
import type { Requester, SegmentRecord } from "./record.ts";
import { isReceiving, isTooMany, UPLOAD_SILENCE_MS, type Upload, type UploadMode } from "./state.ts";

export type Begun = { outcome: "begun" | "busy"; upload: Upload };
export type Received = "taken" | "too-many" | "ended";

/**
 * Members come in no order, and each that is stored by itself rewrites a page of 4 KB: a hundred times its size. Stored by so
 * many, sorted, they share pages. About 25 MB of the 128 that an object has.
 */
const BUFFERED_MEMBERS = 200_000;
/** SQLite takes 2 MB a parameter, and 1,024 characters may be 6 KB of JSON. */
const STATEMENT_MEMBERS = 5_000;

export class SegmentUpload {
  readonly #record: SegmentRecord;
  /** What has come and is not stored yet: nothing of it has been promised before the end. */
  #buffer: { id: string; members: string[] } | null = null;

  constructor(record: SegmentRecord) {
    this.#record = record;
  }

  begin(mode: UploadMode, origin: Requester, now: number): Begun {
    const before = this.#record.state;
    if (isReceiving(before.upload, now)) return { outcome: "busy", upload: before.upload };
    const upload: Upload = { id: newId("upl"), mode, state: "receiving", received: 0, startedAt: now, at: now };
    const mark = mode === "replace" ? before.mark + 1 : before.mark;
    this.#buffer = { id: upload.id, members: [] };
    this.#record.move({ upload, mark, uploader: { origin, countBefore: before.count } });
    return { outcome: "begun", upload };
  }

  receive(id: string, given: string[], now: number): Received {
    const upload = this.#receiving(id);
    if (upload === null || this.#buffer === null) return "ended";
    for (const member of given) this.#buffer.members.push(member);
    this.#record.move({ upload: { ...upload, received: upload.received + given.length, at: now } });
    if (this.#buffer.members.length >= BUFFERED_MEMBERS) this.store();
    return isTooMany(upload.mode, this.#record.state.count, false) ? "too-many" : "taken";
  }

  finish(id: string): "done" | "ended" | "too-many" {
    const upload = this.#receiving(id);
    if (upload === null) return "ended";
    this.store();
    const { count, mark } = this.#record.state;
    const after = upload.mode === "replace" ? this.#record.members.count(mark) : count;
    if (isTooMany(upload.mode, after, true)) return "too-many";
    this.#end("done");
    return "done";
  }

  /** What has come stays: sending it again changes nothing. One that should have replaced the others replaces nobody. */
  abandon(id: string): void {
    if (this.#receiving(id) !== null) this.#end("abandoned");
  }

  /** A Worker that has said nothing for long is gone. */
  abandonSilent(now: number): void {
    const { upload } = this.#record.state;
    if (upload?.state === "receiving" && upload.at + UPLOAD_SILENCE_MS <= now) this.#end("abandoned");
  }

  /** Whatever was coming was for a segment that is gone. */
  forget(): void {
    this.#buffer = null;
  }

  /** In order of the table's key, and many at once: neighbours share the pages that are written. */
  store(): void {
    const { upload, ...state } = this.#record.state;
    if (this.#buffer === null || upload === null || this.#buffer.members.length === 0) return;
    const members = [...new Set(this.#buffer.members)].sort();
    this.#buffer.members = [];
    let { count } = state;
    this.#record.atomically(() => {
      for (let from = 0; from < members.length; from += STATEMENT_MEMBERS) {
        const some = members.slice(from, from + STATEMENT_MEMBERS);
        if (upload.mode === "remove") count -= this.#record.members.remove(some, state.validFrom);
        else count += this.#record.members.add(some, state);
      }
      this.#record.move({ count, uploadedInto: state.next });
    });
  }

  /** Null where it has ended, or where an eviction has lost a part of it: then it ends here. */
  #receiving(id: string): Upload | null {
    const upload = this.#record.stateOrNull?.upload;
    if (upload?.id !== id || upload.state !== "receiving") return null;
    if (this.#buffer?.id === id) return upload;
    this.#end("abandoned");
    return null;
  }

  #end(to: "done" | "abandoned"): void {
    this.store();
    this.#buffer = null;
    const record = this.#record;
    const { state } = record;
    const upload = { ...(state.upload as Upload), state: to, at: Date.now() };
    const replaced = to === "done" && upload.mode === "replace";
    const validFrom = replaced ? state.mark : state.validFrom;
    const count = replaced ? record.members.count(validFrom) : state.count;
    record.atomically(() => {
      if (state.uploader !== null) {
        const { origin, countBefore } = state.uploader;
        const changes = {
          members: { from: countBefore, to: count },
          upload: { to: { mode: upload.mode, state: to, received: upload.received } },
        };
        record.note("segment.upload", origin, changes);
      }
      record.move({ upload, uploader: null, validFrom, count, uploadedInto: state.next, due: true });
    });
  }
}
