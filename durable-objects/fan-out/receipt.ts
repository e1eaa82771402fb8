/** How many live clients have a revision, and how fast: counted by relays, summed by all above them. Pure. */
import type { Region } from "./tree.ts";

/** What became of the sockets that were open when a revision was delivered. */
export type Counts = { connected: number; applied: number; delivered: number; gone: number; silent: number };

/** A client that has not applied it: what it has, and when it was last heard of (epoch ms). */
export type Straggler = { instance: string; name: string; sdk: string; revision: number; lastSeen: number };

/** What one node knows of a revision. It is bounded, and the same whichever way parts are put together. */
export type Part = Counts & {
  /** Polls of the last half minute that named this revision or a later one, which is about as many clients. */
  polling: number;
  /** From publishing to applied (or, over SSE, to written), in buckets of `bucketOf`. */
  durations: number[];
  max: number;
  byRegion: Partial<Record<Region, Counts>>;
  bySdk: Record<string, Counts>;
  stragglers: Straggler[];
};

/** As it is told; times in milliseconds, null while nobody has it. */
export type Receipt = Omit<Part, "durations" | "max"> & {
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
/** Where SDKs beyond the twentieth are counted. */
const OTHERS = "other";

export const noCounts = (): Counts => ({ connected: 0, applied: 0, delivered: 0, gone: 0, silent: 0 });

export const nothing = (): Part => ({
  ...noCounts(),
  polling: 0,
  durations: [],
  max: 0,
  byRegion: {},
  bySdk: {},
  stragglers: [],
});

/** Of a relay that does not answer: all that it last had. */
export function silence(region: Region, connected: number): Part {
  const counts = { ...noCounts(), connected, silent: connected };
  return { ...nothing(), ...counts, byRegion: { [region]: counts } };
}

export function merge(one: Part, other: Part): Part {
  const durations = one.durations.length >= other.durations.length ? [...one.durations] : [...other.durations];
  const shorter = one.durations.length >= other.durations.length ? other.durations : one.durations;
  for (const [bucket, count] of shorter.entries()) durations[bucket] = (durations[bucket] ?? 0) + count;
  return {
    ...sum(one, other),
    polling: one.polling + other.polling,
    durations,
    max: Math.max(one.max, other.max),
    byRegion: mergeEach(one.byRegion, other.byRegion),
    bySdk: bounded(mergeEach(one.bySdk, other.bySdk)),
    stragglers: worst([...one.stragglers, ...other.stragglers]),
  };
}

export function told(part: Part, revision: number, publishedAt: number): Receipt {
  const { durations, max, ...rest } = part;
  const somebody = durations.some((count) => count > 0);
  return {
    revision,
    publishedAt,
    ...rest,
    p50: quantile(durations, max, 0.5),
    p99: quantile(durations, max, 0.99),
    max: somebody ? max : null,
  };
}

export function bucketOf(ms: number): number {
  return ms <= 1 ? 0 : Math.min(LAST_BUCKET, Math.ceil(Math.log(ms) / Math.log(GROWTH)));
}

/** Adds `count` clients that took `ms` to a histogram, in place. */
export function record(durations: number[], ms: number, count = 1): void {
  const bucket = bucketOf(ms);
  while (durations.length <= bucket) durations.push(0);
  durations[bucket] = (durations[bucket] as number) + count;
}

/** The upper edge of the bucket that holds the quantile; never above what was really seen. */
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

/** The furthest behind first; among equals, who was heard of the longest ago. */
export function worst(stragglers: Straggler[]): Straggler[] {
  return stragglers.sort(byBadness).slice(0, MAX_STRAGGLERS);
}

function byBadness(one: Straggler, other: Straggler): number {
  return (
    one.revision - other.revision ||
    one.lastSeen - other.lastSeen ||
    compare(`${one.instance} ${one.name} ${one.sdk}`, `${other.instance} ${other.name} ${other.sdk}`)
  );
}

const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

/** The SDKs with the most clients by name, the rest together. */
export function bounded(bySdk: Record<string, Counts>): Record<string, Counts> {
  const entries = Object.entries(bySdk);
  if (entries.length <= MAX_SDKS) return bySdk;
  const { [OTHERS]: others = noCounts(), ...named } = bySdk;
  const ranked = Object.entries(named).sort(([a, one], [b, other]) => other.connected - one.connected || compare(a, b));
  const kept = Object.fromEntries(ranked.slice(0, MAX_SDKS - 1));
  kept[OTHERS] = ranked.slice(MAX_SDKS - 1).reduce((all, [, counts]) => sum(all, counts), others);
  return kept;
}

function mergeEach<K extends string>(
  one: Partial<Record<K, Counts>>,
  other: Partial<Record<K, Counts>>,
): Record<K, Counts> {
  const all = new Map<string, Counts>(Object.entries(one) as [string, Counts][]);
  for (const [key, counts] of Object.entries(other) as [string, Counts][]) {
    all.set(key, sum(all.get(key) ?? noCounts(), counts));
  }
  return Object.fromEntries(all) as Record<K, Counts>;
}

function sum(one: Counts, other: Counts): Counts {
  return {
    connected: one.connected + other.connected,
    applied: one.applied + other.applied,
    delivered: one.delivered + other.delivered,
    gone: one.gone + other.gone,
    silent: one.silent + other.silent,
  };
}
