/** A big segment's state and limits, and when its alarm has to run. Pure. */
import type { RequestOrigin } from "../origin.ts";
import { FIRST_MARK } from "./members.ts";

export type UploadMode = "add" | "remove" | "replace";

export type Upload = {
  id: string;
  mode: UploadMode;
  state: "receiving" | "done" | "abandoned";
  received: number;
  startedAt: number;
  /** When it last received members. Epoch milliseconds. */
  at: number;
};

export type SegmentState = {
  /** Identifies the segment: one that is deleted and created again with the same key starts empty. */
  createdAt: number;
  /** The published filter, 0 for none, and how many members it has. */
  generation: number;
  filterCount: number;
  /** The generation that will contain current changes. Numbers are never reused, since filters are immutable. */
  next: number;
  building: number | null;
  /** A filter has to be built, however few the changes. */
  due: boolean;
  /** The first generation whose filter holds the uploaded members. An upload never adds to the lists that come with a filter. */
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
  mark: FIRST_MARK,
  validFrom: FIRST_MARK,
  count: 0,
  upload: null,
  uploader: null,
});

/** Beyond either limit a new filter is built: the lists beside a filter are part of every ruleset. */
const MAX_PENDING = 10_000;
const MAX_PENDING_UNITS = 1_000_000;

/** `units` are UTF-16. */
export const isWorthAFilter = (pending: { members: number; units: number }): boolean =>
  pending.members >= MAX_PENDING || pending.units >= MAX_PENDING_UNITS;

/** A filter of this many members is 18 MB, which every client holds in memory. */
export const MAX_MEMBERS = 5_000_000;

/** An upload that replaces is stored beside what it replaces until it ends; one that removes is never too large. */
export function isTooMany(mode: UploadMode, count: number, ended: boolean): boolean {
  if (mode === "remove") return false;
  return count > (mode === "replace" && !ended ? 2 * MAX_MEMBERS : MAX_MEMBERS);
}

/** An upload whose Worker sends nothing for this long is abandoned. */
export const UPLOAD_TIMEOUT_MS = 60_000;
/** Whether an upload is in progress, so that no other can begin. */
export const isReceiving = (upload: Upload | null, now: number): upload is Upload =>
  upload?.state === "receiving" && upload.at + UPLOAD_TIMEOUT_MS > now;

/** D1's Time Travel can restore a row that names a filter this old. */
export const FILTER_KEPT_MS = 30 * 24 * 60 * 60_000;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

export type PendingWork = { unsent: boolean; firstSupersededAt: number | null; failures: number };

/** Epoch milliseconds; null when nothing is left to do. */
export function nextAlarm({ building, due, upload }: SegmentState, waiting: PendingWork, now: number): number | null {
  const { unsent, firstSupersededAt, failures } = waiting;
  const times: number[] = [];
  const retryAt = now + (failures === 0 ? 0 : Math.min(RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS));
  if (building !== null || due || unsent) times.push(retryAt);
  if (upload?.state === "receiving") times.push(upload.at + UPLOAD_TIMEOUT_MS);
  if (firstSupersededAt !== null) times.push(Math.max(firstSupersededAt + FILTER_KEPT_MS, retryAt));
  return times.length === 0 ? null : Math.min(...times);
}
