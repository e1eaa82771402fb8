/** A token bucket for each API token and each SDK key, one Durable Object each, made with itty-durable. */
// The package's index is CommonJS around ES modules, which a test runner that does not bundle cannot load: hence the
// file.
import { createDurable } from "itty-durable/itty-durable.js";
import type { Env } from "../workers/env.ts";
import { type Bucket, type Taken, takeFrom } from "../workers/platform/token-bucket.ts";

// itty-durable 2.4 types its constructor's parameters as `{}` and every method of its class as `any`. What remains for
// us is the constructor. The class is a plain one with `fetch`, which SQLite-backed Durable Objects accept too: only
// Workers RPC would need `DurableObject`, and itty-durable speaks HTTP.
const IttyDurable = createDurable() as new (state: DurableObjectState, env: Env) => object;

/** In memory only: a bucket refills in seconds and an idle object is evicted after a minute, so nothing is lost. */
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
