/**
 * The shape of the fan-out tree: hub → relays → relays, for each region separately. A relay's number determines its
 * parent, so that no lookup is needed, and a relay that loses its parent can compute its other ancestors.
 */

/** The platform's location hints. */
const REGIONS = ["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"] as const;
export type Region = (typeof REGIONS)[number];

/** How many relays each region has; a region without clients has no entry. */
export type RelayCounts = Partial<Record<Region, number>>;

export type RelayAddress = { environmentId: string; region: Region; n: number };

/**
 * A region gets more relays when they are 80 % full, fewer when they are 20 % full, and then has relays that are half
 * full.
 */
const FULL = 0.8;
const EMPTY = 0.2;
const COMFORTABLE = 0.5;
/** Of one region, enough for 10 million clients with the defaults. It bounds the damage of wrong counts. */
const MAX_RELAYS = 4_096;

export const relayName = ({ environmentId, region, n }: RelayAddress) => `relay:${environmentId}:${region}:${n}`;

export function parseRelayName(name: string): RelayAddress {
  const [, environmentId = "", region = "", n = ""] = name.split(":");
  return { environmentId, region: region as Region, n: Number(n) };
}

/** How many of the hub's children each region gets: all get the same. */
export const rootsOf = (fanOut: number): number => Math.max(1, Math.floor(fanOut / REGIONS.length));

/** The number of the parent of relay `n` in its region; null is the hub. */
export function parentOf(n: number, fanOut: number): number | null {
  const roots = rootsOf(fanOut);
  return n < roots ? null : Math.floor((n - roots) / fanOut);
}

/** The ancestors of relay `n`, the nearest first; the last one is null, the hub. */
export function ancestorsOf(n: number, fanOut: number): (number | null)[] {
  const ancestors: (number | null)[] = [];
  for (let at: number | null = n; at !== null; ) {
    at = parentOf(at, fanOut);
    ancestors.push(at);
  }
  return ancestors;
}

/** How many relays a region with `connected` clients needs, given that it has `count`. */
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
