/** The bindings of wrangler.toml, once. */

import type { Hub } from "../durable-objects/hub/hub.ts";
import type { RateLimiter } from "../durable-objects/rate-limiter.ts";
import type { Relay } from "../durable-objects/relay/relay.ts";
import type { BigSegment } from "../durable-objects/segment/big-segment.ts";
import type { Timer } from "../durable-objects/timer.ts";
import type { WriteLine } from "../durable-objects/write-line/write-line.ts";
import type { QueuedEvents } from "./events/message.ts";

export interface Env {
  DB: D1Database;
  KV: KVNamespace;
  EVENTS_BUCKET: R2Bucket;
  SEGMENTS_BUCKET: R2Bucket;
  REVISIONS_BUCKET: R2Bucket;
  EVENTS_QUEUE: Queue<QueuedEvents>;
  DEAD_EVENTS_QUEUE: Queue<QueuedEvents>;
  ANALYTICS: AnalyticsEngineDataset;
  HUB: DurableObjectNamespace<Hub>;
  RELAY: DurableObjectNamespace<Relay>;
  BIG_SEGMENT: DurableObjectNamespace<BigSegment>;
  RATE_LIMITER: DurableObjectNamespace<RateLimiter>;
  TIMER: DurableObjectNamespace<Timer>;
  WRITE_LINE: DurableObjectNamespace<WriteLine>;
  READ_LIMITER: RateLimit;
  /** Numbers as text: that is what [vars] of a TOML file deploys. */
  MANAGEMENT_PER_SECOND: string;
  MANAGEMENT_BURST: string;
  EVENTS_PER_SECOND: string;
  EVENTS_BURST: string;
  CLIENT_EVENTS_PER_SECOND: string;
  CLIENT_EVENTS_BURST: string;
  RELAY_CAP: string;
  RELAY_FAN_OUT: string;
  CLIENTS_PER_KEY: string;
  CLIENTS_PER_ENVIRONMENT: string;
  /** A secret that may create the first API token and nothing else. Unset once that is done. */
  BOOTSTRAP_TOKEN?: string;
}
