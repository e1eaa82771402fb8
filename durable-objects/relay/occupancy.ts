/** Who may come in, and how slowly: what keeps ten thousand clients that lost their streams at once from being a storm. */

/** What a region's clients are told when they come back is paced to this many a second for each relay. */
const RETURNS_PER_SECOND = 500;
/** Up to here nothing is gained by spreading acknowledgements. */
const ACKNOWLEDGE_AT_ONCE = 1_000;
const URGENT_ACKNOWLEDGE_MS = 500;
const MAX_SPREAD_MS = 10 * 60_000;

/** A window in which so many clients come back at 500 a second: from one second to ten minutes. */
export function spreadMs(clients: number): number {
  const seconds = Math.ceil(clients / RETURNS_PER_SECOND);
  return Math.min(MAX_SPREAD_MS, Math.max(1, seconds) * 1_000);
}

/** Up to 1,000 sockets acknowledge at once; more are spread over time, a kill's over at most half a second. */
export function acknowledgeWithinMs(clients: number, urgent: boolean): number {
  if (clients <= ACKNOWLEDGE_AT_ONCE) return 0;
  return urgent ? URGENT_ACKNOWLEDGE_MS : spreadMs(clients);
}

/** The most clients: of one relay, of one SDK key, of an environment. */
export type Limits = { relay: number; key: number; environment: number };

/** `here` is exact; what is told of the whole environment may be a report behind. */
export type Crowd = { here: number; hereOfKey: number; everywhere: number; everywhereOfKey: number };

/** Null: welcome. "full" is a matter of this relay alone, and another may have room. */
export function refusal(crowd: Crowd, limits: Limits): "full" | "key" | "environment" | null {
  if (Math.max(crowd.hereOfKey, crowd.everywhereOfKey) >= limits.key) return "key";
  if (Math.max(crowd.here, crowd.everywhere) >= limits.environment) return "environment";
  return crowd.here >= limits.relay ? "full" : null;
}

/** How many of those here have to go for the whole to be within its limit: each relay's share of what is too much. */
export function excess(here: number, everywhere: number, limit: number): number {
  const all = Math.max(here, everywhere);
  return all <= limit ? 0 : Math.ceil((here * (all - limit)) / all);
}

/**
 * Whether the node above should hear that this one has grown or shrunk: by a tenth of what a relay holds, or of what it was
 * told, so that a node with a thousand relays below it does not report each of their steps.
 */
export function worthReporting(told: number, now: number, cap: number): boolean {
  return Math.abs(now - told) >= Math.max(1, cap / 10, told / 10);
}
