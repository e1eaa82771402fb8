/** What a big segment remembers of itself and of the upload that it takes, and when it has to look at itself again. */
import type { RequestOrigin } from "../origin.ts";

export type UploadMode = "add" | "remove" | "replace";

export type Upload = {
  id: string;
  mode: UploadMode;
  state: "receiving" | "done" | "abandoned";
  received: number;
  startedAt: number;
  /** When it was last heard of. Epoch milliseconds. */
  at: number;
};

export type SegmentState = {
  /** Which segment of this key: one that is deleted and made anew begins empty. */
  createdAt: number;
  /** The published filter, 0 for none, and how many members it has. */
  generation: number;
  filterCount: number;
  /** The generation of which what changes now will be a part. Numbers are never used twice, since filters are immutable. */
  next: number;
  building: number | null;
  /** A filter has to be built, whatever the number of changes. */
  due: boolean;
  /** Uploaded members are part of a filter from this generation on; nothing says them beside it. */
  uploadedInto: number;
  mark: number;
  validFrom: number;
  count: number;
  upload: Upload | null;
  uploader: { origin: RequestOrigin & { reason: string | null }; countBefore: number } | null;
};

export const newState = (createdAt: number, next: number): SegmentState => ({
  createdAt,
  generation: 0,
  filterCount: 0,
  next,
  building: null,
  due: false,
  uploadedInto: 0,
  mark: 1,
  validFrom: 1,
  count: 0,
  upload: null,
  uploader: null,
});

/** Beyond either the lists beside a filter weigh more than a new one is worth; all of them are a part of the ruleset. */
const MAX_PENDING = 10_000;
const MAX_PENDING_UNITS = 1_000_000;

/** `units` are UTF-16. */
export const isWorthAFilter = (pending: { members: number; units: number }): boolean =>
  pending.members >= MAX_PENDING || pending.units >= MAX_PENDING_UNITS;

/** A filter of so many is 18 MB, which every client holds. */
export const MAX_MEMBERS = 5_000_000;

/** An upload that replaces stands beside what it replaces until it ends; one that removes is always welcome. */
export function isTooMany(mode: UploadMode, count: number, ended: boolean): boolean {
  if (mode === "remove") return false;
  return count > (mode === "replace" && !ended ? 2 * MAX_MEMBERS : MAX_MEMBERS);
}

/** A Worker that sends an upload and says nothing for so long is gone. */
export const UPLOAD_SILENCE_MS = 60_000;
/** One that others have to wait for. */
export const isReceiving = (upload: Upload | null, now: number): upload is Upload =>
  upload?.state === "receiving" && upload.at + UPLOAD_SILENCE_MS > now;

/** As long as D1's Time Travel can bring back a row that names a filter. */
export const FILTER_KEPT_MS = 30 * 24 * 60 * 60_000;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

export type Waiting = { unsent: boolean; firstSupersededAt: number | null; failures: number };

/** Epoch milliseconds; null when nothing is left to do. */
export function nextAlarm({ building, due, upload }: SegmentState, waiting: Waiting, now: number): number | null {
  const { unsent, firstSupersededAt, failures } = waiting;
  const times: number[] = [];
  const retryAt = now + (failures === 0 ? 0 : Math.min(RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS));
  if (building !== null || due || unsent) times.push(retryAt);
  if (upload?.state === "receiving") times.push(upload.at + UPLOAD_SILENCE_MS);
  if (firstSupersededAt !== null) times.push(Math.max(firstSupersededAt + FILTER_KEPT_MS, retryAt));
  return times.length === 0 ? null : Math.min(...times);
}
