/** What passes from the hub through relays to isolates and sockets. Messages are encoded once and sent as they are. */
import type { Flag, Segment } from "@bunting/core";
import { MAX_MESSAGE_BYTES, type MemberChange, type PatchMessage, type ResyncMessage } from "@bunting/core/wire";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { KeyGrant } from "../../workers/store/outbox/change.ts";
import { acknowledgeWithinMs, spreadMs } from "./pacing.ts";
import type { Part } from "./receipt.ts";
import type { Region, RelayCounts } from "./tree.ts";

/** One revision. `message` is the encoded `patch`, or a `resync` where that would not fit a socket. */
export type Delivery = {
  revision: number;
  previous: number;
  publishedAt: number;
  message: string;
  /** A kill or a restore: it waits for nothing. */
  urgent: boolean;
  /** SDK keys that this revision adds or, with null, ends. For Workers and relays; never sent to clients. */
  keys: Record<string, KeyGrant | null>;
};

/**
 * An unbroken run of deliveries up to `revision`; without `deliveries` the asker has to fetch the whole ruleset, and is
 * told which SDK keys are good, since it cannot know which have ended.
 */
export type Since = { revision: number; deliveries: Delivery[] | null; keys?: KeyEnds };

/** SDK keys by hash, and when each ends: epoch ms, null for never. */
export type KeyEnds = Record<string, number | null>;

/** What a relay tells the node above: how far it has come (0: it has only just come and is told where all stand), and how many clients it and all below it hold, also by SDK key. */
export type Report = {
  name: string;
  region: Region;
  revision: number;
  connected: number;
  keys: Record<string, number>;
};

/** How the whole environment stands, as the hub last knew: how many relays each region has, and the sums of all reports. */
export type Standing = { relays: RelayCounts; connected: number; keys: Record<string, number> };

/** What the hub and every relay are to those below them. Null: there is no such environment. */
export interface Upstream {
  /** Registers a relay, or hears how it is, and tells what it lacks. */
  attach(report: Report): Promise<(Since & { standing: Standing }) | null>;
  detach(name: string): Promise<void>;
  since(revision: number): Promise<Since | null>;
  /** The whole ruleset, at `revision` or a later one. */
  snapshot(revision: number): Promise<SnapshotParts | null>;
}

/** What every relay is to the one above it. */
export interface Downstream {
  deliver(delivery: Delivery, standing: Standing): Promise<Report>;
  /** Asks it to attach again, where what it lacks cannot be told by one delivery. */
  refresh(): Promise<Report | null>;
  /** Answers within the time, which gets shorter from level to level; whoever has not answered it by then is silent. */
  receipt(revision: number, withinMs: number): Promise<Part>;
}

export type Patch = {
  revision: number;
  previous: number;
  publishedAt: number;
  flags: Record<string, Flag | null>;
  segments: Record<string, Segment | null>;
  members?: Record<string, MemberChange>;
};

/** `patch` is the encoded patch, whether or not it fits a message: history keeps it. */
export function encodeDelivery(
  patch: Patch,
  keys: Delivery["keys"],
  connected: number,
  urgent: boolean,
): { delivery: Delivery; patch: string } {
  const full: PatchMessage = { type: "patch", ...patch, ackWithinMs: acknowledgeWithinMs(connected, urgent) };
  const encoded = JSON.stringify(full);
  const { revision, previous, publishedAt } = patch;
  // A kill is not spread over the minutes that many clients take by turns: it is as urgent as a small one.
  const withinMs = urgent ? full.ackWithinMs : spreadMs(connected);
  const message = fitsMessage(encoded) ? encoded : JSON.stringify(resync(revision, withinMs));
  return { delivery: { revision, previous, publishedAt, message, urgent, keys }, patch: encoded };
}

/** A string of UTF-16 units is at most three times as long in UTF-8: only those between are worth measuring. */
const fitsMessage = (text: string): boolean =>
  text.length * 3 <= MAX_MESSAGE_BYTES ||
  (text.length <= MAX_MESSAGE_BYTES && new TextEncoder().encode(text).length <= MAX_MESSAGE_BYTES);

/** Whether the delivery only says that there is more than a message holds. */
export const isResync = ({ message }: Delivery): boolean => message.startsWith('{"type":"resync"');

export const resync = (revision: number, withinMs: number): ResyncMessage => ({ type: "resync", revision, withinMs });

/** The deliveries after `revision`, if these hold an unbroken run from there to `latest`. */
export function runAfter(deliveries: Delivery[], revision: number, latest: number): Delivery[] | null {
  if (revision === latest) return [];
  const start = deliveries.findIndex((delivery) => delivery.previous === revision);
  return start === -1 ? null : deliveries.slice(start);
}

/** An acknowledgement costs a relay as much as a message: in a storm one answers for several. */
const STORM_ACKNOWLEDGE_MS = 1_000;

/** Merges a run into as few messages as hold it. A client that applies them has what one has that applied each delivery. */
export function mergeMessages(run: Pick<Delivery, "message" | "urgent">[]): string[] {
  if (run.length < 2) return run.map(({ message }) => message);
  const isUrgent = run.some(({ urgent }) => urgent);
  const merged: string[] = [];
  let last: PatchMessage | null = null;
  for (const { message } of run) {
    const next = JSON.parse(message) as PatchMessage | ResyncMessage;
    const both: PatchMessage | null =
      last !== null && next.type === "patch" ? mergePatches(last, next, isUrgent) : null;
    const text = both === null ? "" : JSON.stringify(both);
    if (both !== null && fitsMessage(text)) {
      merged.splice(-1, 1, text);
      last = both;
    } else {
      merged.push(message);
      last = next.type === "patch" ? next : null;
    }
  }
  return merged;
}

/** Null where members of big segments change: which filter they are on top of depends on the patch that they came with. */
function mergePatches(one: PatchMessage, next: PatchMessage, isUrgent: boolean): PatchMessage | null {
  if (one.members !== undefined || next.members !== undefined || one.revision !== next.previous) return null;
  return {
    ...next,
    previous: one.previous,
    flags: { ...one.flags, ...next.flags },
    segments: { ...one.segments, ...next.segments },
    ackWithinMs: isUrgent
      ? Math.min(one.ackWithinMs, next.ackWithinMs)
      : Math.max(one.ackWithinMs, next.ackWithinMs, STORM_ACKNOWLEDGE_MS),
  };
}
