/** How many live clients have a revision, and how fast: relays count, their ancestors add up. Pure. */
import type { Region } from "./tree.ts";

/** What became of the sockets that were open when a revision was delivered. */
export type ReceiptCounts = { connected: number; applied: number; delivered: number; gone: number; silent: number };

/** A client that has not applied the revision: the one that it has, and when it was last seen (epoch ms). */
export type Straggler = { instance: string; name: string; sdk: string; revision: number; lastSeen: number };

/** One node's part of a receipt. Its size is bounded, and merging parts gives the same result in any order. */
export type ReceiptPart = ReceiptCounts & {
  /** Polls of the last half minute that named this revision or a later one, which is about as many clients. */
  polling: number;
  /** From publishing to applied (or, over SSE, to written), in buckets of `bucketOf`. */
  durations: number[];
  max: number;
  byRegion: Partial<Record<Region, ReceiptCounts>>;
  bySdk: Record<string, ReceiptCounts>;
  stragglers: Straggler[];
};

/** The receipt as the API returns it. Times are milliseconds, null while no client has the revision. */
export type Receipt = Omit<ReceiptPart, "durations" | "max"> & {
  revision: number;
  publishedAt: number;
  p50: number | null;
  p99: number | null;
  max: number | null;
};

/** Buckets grow by a twentieth, so that a quantile is at most 5 % too high; the last one holds all above 20 minutes. */
const GROWTH = 1.05;
const LAST_BUCKET = 288;
const MAX_STRAGGLERS = 20;
const MAX_SDKS = 20;
/** The entry that counts the SDKs beyond the twentieth. */
const OTHERS = "other";

export const emptyCounts = (): ReceiptCounts => ({ connected: 0, applied: 0, delivered: 0, gone: 0, silent: 0 });

export const emptyPart = (): ReceiptPart => ({
  ...emptyCounts(),
  polling: 0,
  durations: [],
  max: 0,
  byRegion: {},
  bySdk: {},
  stragglers: [],
});

/** The part of a relay that does not respond: all clients that it last reported are silent. */
export function silentPart(region: Region, connected: number): ReceiptPart {
  const counts = { ...emptyCounts(), connected, silent: connected };
  return { ...emptyPart(), ...counts, byRegion: { [region]: counts } };
}

export function mergeParts(one: ReceiptPart, other: ReceiptPart): ReceiptPart {
  const durations = one.durations.length >= other.durations.length ? [...one.durations] : [...other.durations];
  const shorter = one.durations.length >= other.durations.length ? other.durations : one.durations;
  for (const [bucket, count] of shorter.entries()) durations[bucket] = (durations[bucket] ?? 0) + count;
  return {
    ...sum(one, other),
    polling: one.polling + other.polling,
    durations,
    max: Math.max(one.max, other.max),
    byRegion: mergeEach(one.byRegion, other.byRegion),
    bySdk: boundSdks(mergeEach(one.bySdk, other.bySdk)),
    stragglers: worstStragglers([...one.stragglers, ...other.stragglers]),
  };
}

export function toReceipt(part: ReceiptPart, revision: number, publishedAt: number): Receipt {
  const { durations, max, ...rest } = part;
  const hasClients = durations.some((count) => count > 0);
  return {
    revision,
    publishedAt,
    ...rest,
    p50: quantile(durations, max, 0.5),
    p99: quantile(durations, max, 0.99),
    max: hasClients ? max : null,
  };
}

export function bucketOf(ms: number): number {
  return ms <= 1 ? 0 : Math.min(LAST_BUCKET, Math.ceil(Math.log(ms) / Math.log(GROWTH)));
}

/** Adds `count` clients that took `ms` to a histogram, in place. */
export function recordDuration(durations: number[], ms: number, count = 1): void {
  const bucket = bucketOf(ms);
  while (durations.length <= bucket) durations.push(0);
  durations[bucket] = (durations[bucket] as number) + count;
}

/** The upper edge of the bucket that holds the quantile, at most the maximum that was measured. */
export function quantile(durations: number[], max: number, q: number): number | null {
  const total = durations.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = Math.max(1, Math.ceil(total * q));
  let seen = 0;
  const bucket = durations.findIndex((count) => {
    seen += count;
    return seen >= rank;
  });
  return Math.min(max, Math.ceil(GROWTH ** bucket));
}

/** Sorts by revision, the furthest behind first, then by when each was last seen. */
export function worstStragglers(stragglers: Straggler[]): Straggler[] {
  return stragglers.sort(compareStragglers).slice(0, MAX_STRAGGLERS);
}

function compareStragglers(one: Straggler, other: Straggler): number {
  return (
    one.revision - other.revision ||
    one.lastSeen - other.lastSeen ||
    compareText(`${one.instance} ${one.name} ${one.sdk}`, `${other.instance} ${other.name} ${other.sdk}`)
  );
}

const compareText = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

/** Keeps the SDKs with the most clients by name, and adds up the rest. */
export function boundSdks(bySdk: Record<string, ReceiptCounts>): Record<string, ReceiptCounts> {
  const entries = Object.entries(bySdk);
  if (entries.length <= MAX_SDKS) return bySdk;
  const { [OTHERS]: others = emptyCounts(), ...named } = bySdk;
  const ranked = Object.entries(named).sort(
    ([a, one], [b, other]) => other.connected - one.connected || compareText(a, b),
  );
  const kept = Object.fromEntries(ranked.slice(0, MAX_SDKS - 1));
  kept[OTHERS] = ranked.slice(MAX_SDKS - 1).reduce((all, [, counts]) => sum(all, counts), others);
  return kept;
}

function mergeEach<K extends string>(
  one: Partial<Record<K, ReceiptCounts>>,
  other: Partial<Record<K, ReceiptCounts>>,
): Record<K, ReceiptCounts> {
  const all = new Map<string, ReceiptCounts>(Object.entries(one) as [string, ReceiptCounts][]);
  for (const [key, counts] of Object.entries(other) as [string, ReceiptCounts][]) {
    all.set(key, sum(all.get(key) ?? emptyCounts(), counts));
  }
  return Object.fromEntries(all) as Record<K, ReceiptCounts>;
}

function sum(one: ReceiptCounts, other: ReceiptCounts): ReceiptCounts {
  return {
    connected: one.connected + other.connected,
    applied: one.applied + other.applied,
    delivered: one.delivered + other.delivered,
    gone: one.gone + other.gone,
    silent: one.silent + other.silent,
  };
}
