/** A token bucket for each API token and each SDK key, one Durable Object each, made with itty-durable. */
// The package's index is CommonJS around ES modules, which a test runner that does not bundle cannot load: hence the file.
import { createDurable } from "itty-durable/itty-durable.js";
import type { Env } from "../workers/env.ts";

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

// itty-durable 2.4 types its constructor's parameters as `{}` and every method of its class as `any`. What remains for
// us is the constructor. The class is a plain one with `fetch`, which SQLite-backed Durable Objects accept too: only
// Workers RPC would need `DurableObject`, and itty-durable speaks HTTP.
const IttyDurable = createDurable() as new (state: DurableObjectState, env: Env) => object;

/** Memory only: a bucket refills in seconds, an object is evicted after a minute of silence, so nothing is lost. */
export class RateLimiter extends IttyDurable {
  // What DurableObjectNamespace asks of a class's type; it does not exist at run time.
  declare readonly [Rpc.__DURABLE_OBJECT_BRAND]: never;

  private bucket: Bucket | null = null;

  /** Called by name, with its arguments as JSON in a header: numbers only. */
  take(cost: number, perSecond: number, burst: number): Taken {
    const { bucket, ...taken } = takeFrom(this.bucket, cost, { perSecond, burst }, Date.now());
    this.bucket = bucket;
    return taken;
  }
}
