/** Over how long clients spread reconnects and acknowledgements, so that ten thousand do not come at once. Pure. */

/** How many clients a second each relay takes back. */
const RETURNS_PER_SECOND = 500;
/** Up to this many clients, spreading acknowledgements gains nothing. */
const ACKNOWLEDGE_AT_ONCE = 1_000;
const URGENT_ACKNOWLEDGE_MS = 500;
const MAX_SPREAD_MS = 10 * 60_000;

/** The window in which that many clients reconnect at 500 a second: from one second to ten minutes. */
export function spreadMs(clients: number): number {
  const seconds = Math.ceil(clients / RETURNS_PER_SECOND);
  return Math.min(MAX_SPREAD_MS, Math.max(1, seconds) * 1_000);
}

/** Up to 1,000 sockets acknowledge at once; more are spread over time, a kill's over at most half a second. */
export function acknowledgeWithinMs(clients: number, urgent: boolean): number {
  if (clients <= ACKNOWLEDGE_AT_ONCE) return 0;
  return urgent ? URGENT_ACKNOWLEDGE_MS : spreadMs(clients);
}
