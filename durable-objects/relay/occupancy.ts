/** Whether there is room for one more client, and how many are too many. Pure. */

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
