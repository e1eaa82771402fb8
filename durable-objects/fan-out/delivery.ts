/** What the hub sends through relays to isolates and sockets. Messages are encoded once, by the hub. */
import type { Flag, Segment } from "@bunting/core";
import { MAX_MESSAGE_BYTES, type MemberChange, type PatchMessage, type ResyncMessage } from "@bunting/core/wire";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { KeyGrant } from "../../workers/store/outbox/change.ts";
import { acknowledgeWithinMs, spreadMs } from "./pacing.ts";
import type { ReceiptPart } from "./receipt.ts";
import type { Region, RelayCounts } from "./tree.ts";

/** One revision. `message` is the encoded `patch`, or a `resync` where that would not fit a socket. */
export type Delivery = {
  revision: number;
  previous: number;
  publishedAt: number;
  message: string;
  /** A kill or a restore: no queue delays it. */
  urgent: boolean;
  /** SDK keys that this revision adds or, with null, revokes. For Workers and relays; never sent to clients. */
  keys: Record<string, KeyGrant | null>;
};

/**
 * An unbroken run of deliveries up to `revision`. Where `deliveries` is null the caller has to fetch the whole ruleset;
 * `keys` are then all valid SDK keys, since the caller cannot know which were revoked.
 */
export type Backlog = { revision: number; deliveries: Delivery[] | null; keys?: KeyExpiries };

/** Valid SDK keys by hash, and when each expires: epoch ms, null for never. */
export type KeyExpiries = Record<string, number | null>;

/**
 * A relay's report to its parent: its revision (0 if it is new and has none), and how many clients it and its
 * descendants have, also by SDK key.
 */
export type Report = {
  name: string;
  region: Region;
  revision: number;
  connected: number;
  keys: Record<string, number>;
};

/** How many relays each region has, and how many clients the environment and each key have, as the hub last knew. */
export type EnvironmentOccupancy = { relays: RelayCounts; connected: number; keys: Record<string, number> };

/** What the hub and every relay offer their children. Null: there is no such environment. */
export interface UpstreamNode {
  /** Registers a relay or stores its report, and returns the deliveries that it has missed. */
  attach(report: Report): Promise<(Backlog & { occupancy: EnvironmentOccupancy }) | null>;
  detach(name: string): Promise<void>;
  since(revision: number): Promise<Backlog | null>;
  /** The whole ruleset, at `revision` or a later one. */
  snapshot(revision: number): Promise<SnapshotParts | null>;
}

/** What every relay offers its parent. */
export interface DownstreamNode {
  deliver(delivery: Delivery, occupancy: EnvironmentOccupancy): Promise<Report>;
  /** Makes the relay attach, where one delivery is not enough to bring it up to date. Null: it is not attached. */
  refresh(): Promise<Report | null>;
  /** Responds within `withinMs`, which gets shorter from level to level; a relay that does not is counted as silent. */
  receipt(revision: number, withinMs: number): Promise<ReceiptPart>;
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
  // A kill that needs a resync is as urgent as one that fits a message: it is not spread over minutes.
  const withinMs = urgent ? full.ackWithinMs : spreadMs(connected);
  const message = fitsMessage(encoded) ? encoded : JSON.stringify(resync(revision, withinMs));
  return { delivery: { revision, previous, publishedAt, message, urgent, keys }, patch: encoded };
}

/** UTF-8 has one to three bytes for each UTF-16 unit: the length alone decides for most texts. */
const fitsMessage = (text: string): boolean =>
  text.length * 3 <= MAX_MESSAGE_BYTES ||
  (text.length <= MAX_MESSAGE_BYTES && new TextEncoder().encode(text).length <= MAX_MESSAGE_BYTES);

/** Whether the patch did not fit a message, so that clients have to fetch the ruleset. */
export const isResync = ({ message }: Delivery): boolean => message.startsWith('{"type":"resync"');

export const resync = (revision: number, withinMs: number): ResyncMessage => ({ type: "resync", revision, withinMs });

/** The deliveries after `revision`, if these hold an unbroken run from there to `latest`. */
export function runAfter(deliveries: Delivery[], revision: number, latest: number): Delivery[] | null {
  if (revision === latest) return [];
  const start = deliveries.findIndex((delivery) => delivery.previous === revision);
  return start === -1 ? null : deliveries.slice(start);
}

/** An acknowledgement costs a relay as much as a message: in a storm one acknowledges several changes. */
const STORM_ACKNOWLEDGE_MS = 1_000;

/**
 * Merges a run into as few messages as possible. A client that applies them ends in the same state as one that applies
 * each delivery by itself.
 */
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

/** Null where members change: whether a new filter contains them depends on which of the two patches they are in. */
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
