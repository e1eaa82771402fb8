/** A token bucket, decided purely: who keeps it, and where, is somebody else's matter. */

export type Bucket = { tokens: number; at: number };
export type Limit = { perSecond: number; burst: number };
export type Taken = { allowed: boolean; retryAfterMs: number };

/** `bucket` is null before the first request: it starts full. A refused request costs nothing. Times are epoch ms. */
export function takeFrom(bucket: Bucket | null, cost: number, { perSecond, burst }: Limit, now: number) {
  const tokens = bucket === null ? burst : refilled(bucket, perSecond, burst, now);
  // A clock that goes back must not refill the same time twice.
  const at = bucket === null ? now : Math.max(bucket.at, now);
  // What costs more than the bucket holds would never pass; it takes a full bucket instead.
  const price = Math.min(cost, burst);
  if (tokens >= price) return { bucket: { tokens: tokens - price, at }, allowed: true, retryAfterMs: 0 };
  const retryAfterMs = Math.ceil(((price - tokens) / perSecond) * 1_000) + (at - now);
  return { bucket: { tokens, at }, allowed: false, retryAfterMs };
}

function refilled(bucket: Bucket, perSecond: number, burst: number, now: number): number {
  const elapsedMs = Math.max(0, now - bucket.at);
  return Math.min(burst, bucket.tokens + (elapsedMs * perSecond) / 1_000);
}
