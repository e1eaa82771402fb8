/**
 * The shape of the fan-out tree: hub → relays → relays, in every region by itself. Who stands above whom follows from a
 * relay's number, so that nobody has to be asked and a parent that is lost is found again.
 */

/** The platform's location hints. */
const REGIONS = ["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"] as const;
export type Region = (typeof REGIONS)[number];

/** How many relays a region has; it has none where nobody has asked yet. */
export type RelayCounts = Partial<Record<Region, number>>;

export type Place = { environmentId: string; region: Region; n: number };

/** A region grows where its relays are this full, and shrinks where they are this empty; half full is what it goes to. */
const FULL = 0.8;
const EMPTY = 0.2;
const COMFORTABLE = 0.5;
/** Of one region: with the defaults 10 million clients. A bound for what is made by counting, not a plan. */
const MAX_RELAYS = 4_096;

export const relayName = ({ environmentId, region, n }: Place) => `relay:${environmentId}:${region}:${n}`;

export function placeOf(name: string): Place {
  const [, environmentId = "", region = "", n = ""] = name.split(":");
  return { environmentId, region: region as Region, n: Number(n) };
}

/** A hub's children are shared out evenly among the regions. */
export const rootsOf = (fanOut: number): number => Math.max(1, Math.floor(fanOut / REGIONS.length));

/** The number of the relay above `n` in its region; null is the hub. */
export function parentOf(n: number, fanOut: number): number | null {
  const roots = rootsOf(fanOut);
  return n < roots ? null : Math.floor((n - roots) / fanOut);
}

/** All above `n`, the nearest first; the hub, which is the last, is null. */
export function ancestorsOf(n: number, fanOut: number): (number | null)[] {
  const above: (number | null)[] = [];
  for (let at: number | null = n; at !== null; ) {
    at = parentOf(at, fanOut);
    above.push(at);
  }
  return above;
}

/** How many relays a region with so many clients shall have, given that it has `count`. */
export function relayCount(count: number, connected: number, cap: number): number {
  const wanted = Math.min(MAX_RELAYS, Math.max(1, Math.ceil(connected / (cap * COMFORTABLE))));
  if (connected >= count * cap * FULL) return Math.max(count, wanted);
  if (connected < count * cap * EMPTY) return Math.min(count, wanted);
  return Math.max(1, count);
}

/** The same for all regions, from the clients that each one's relays report; a region that has none is left out. */
export function relayCounts(counts: RelayCounts, connected: Map<Region, number>, cap: number): RelayCounts {
  return Object.fromEntries(
    [...connected].map(([region, clients]) => [region, relayCount(counts[region] ?? 1, clients, cap)] as const),
  );
}

/** The relay to try, and the other if that one is full or away: beyond the count where there is only one. */
export function choices(count: number, random: () => number): [number, number] {
  const first = Math.floor(random() * count);
  if (count === 1) return [0, 1];
  return [first, (first + 1 + Math.floor(random() * (count - 1))) % count];
}

/**
 * Where those that were tried are full: one of those that have come to be since `known` was heard, which are empty, or else
 * any of the `told` that was not tried. Null where there is none.
 */
export function another(known: number, told: number, tried: number[], random: () => number): number | null {
  const from = Math.max(known, ...tried.map((n) => n + 1));
  if (from < told) return from + Math.floor(random() * (told - from));
  const left = Array.from({ length: told }, (_, n) => n).filter((n) => !tried.includes(n));
  return left[Math.floor(random() * left.length)] ?? null;
}
