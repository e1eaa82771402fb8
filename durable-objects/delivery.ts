/** What passes from the hub through relays to isolates and sockets. Messages are encoded once and sent as they are. */
import type { Flag, Segment } from "@bunting/core";
import { MAX_MESSAGE_BYTES, type MemberChange, type PatchMessage, type ResyncMessage } from "@bunting/core/wire";
import type { KeyGrant } from "../workers/store/changes.ts";

/** One revision. `message` is the encoded `patch`, or a `resync` where that would not fit a socket. */
export type Delivery = {
  revision: number;
  previous: number;
  publishedAt: number;
  message: string;
  /** SDK keys that this revision adds or, with null, ends. For Workers and relays; never sent to clients. */
  keys: Record<string, KeyGrant | null>;
};

/**
 * An unbroken run of deliveries up to `revision`; without `deliveries` the asker has to fetch the whole ruleset, and is
 * told the hashes of the SDK keys that are good, since it cannot know which have ended.
 */
export type Since = { revision: number; deliveries: Delivery[] | null; keys?: string[] };

/** Who a relay is to its upstream, and how far it has come. */
export type Downstream = { name: string; region: string; revision: number };

/** The platform's location hints. */
export type Region = "wnam" | "enam" | "sam" | "weur" | "eeur" | "apac" | "oc" | "afr" | "me";

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
  // A string of UTF-16 units is at most three times as long in UTF-8: only long ones are worth measuring.
  const fits = encoded.length * 3 <= MAX_MESSAGE_BYTES || new TextEncoder().encode(encoded).length <= MAX_MESSAGE_BYTES;
  const message = fits ? encoded : JSON.stringify(resync(revision, connected));
  return { delivery: { revision, previous, publishedAt, message, keys }, patch: encoded };
}

/** Whether the delivery only says that there is more than a message holds. */
export const isResync = ({ message }: Delivery): boolean => message.startsWith('{"type":"resync"');

export function resync(revision: number, connected: number): ResyncMessage {
  return { type: "resync", revision, withinMs: spreadMs(connected) };
}

/** Up to 1,000 sockets acknowledge at once; more are spread over time, a kill's over at most half a second. */
function acknowledgeWithinMs(connected: number, urgent: boolean): number {
  if (connected <= 1_000) return 0;
  return urgent ? 500 : spreadMs(connected);
}

/** A window in which so many clients come back at 500 a second, never below one second. */
export function spreadMs(connected: number): number {
  return Math.max(1_000, Math.ceil(connected / 500) * 1_000);
}

/** The deliveries after `revision`, if these hold an unbroken run from there to `latest`. */
export function runAfter(deliveries: Delivery[], revision: number, latest: number): Delivery[] | null {
  if (revision === latest) return [];
  const start = deliveries.findIndex((delivery) => delivery.previous === revision);
  return start === -1 ? null : deliveries.slice(start);
}
