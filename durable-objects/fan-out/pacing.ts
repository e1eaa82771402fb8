/** How slowly clients come back and acknowledge: ten thousand that lost their streams at once must not be a storm. Pure. */

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
