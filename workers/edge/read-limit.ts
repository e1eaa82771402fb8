/**
 * Reads are limited where they arrive, without a hop: in this isolate, and by the platform for the data centre. Far above
 * what an SDK needs, low enough that one loop gone wrong costs the others nothing.
 */

import type { Env } from "../env.ts";
import { RATE_LIMITER_MS, within } from "../platform/deadline.ts";
import { tooMany } from "../platform/problem.ts";
import { type Bucket, type Limit, takeFrom } from "../platform/token-bucket.ts";

/** One instance of an application with one key: a backend may evaluate remotely for each of its own requests. */
const READER: Limit = { perSecond: 200, burst: 2_000 };
/** One address with keys that are not good. */
const UNAUTHENTICATED: Limit = { perSecond: 5, burst: 100 };
/** The platform counts each hundredth, against a hundredth of the limit (wrangler.toml): a 304 costs less than asking. */
const READS_EACH = 100;
/** As long as the platform counts. */
const PLATFORM_MS = 10_000;
const MAX_READERS = 10_000;

type Reader = Bucket & { reads: number; refusedUntil: number };

const readers = new Map<string, Reader>();

/** Throws 429 where this key's instance asks too often. What the platform says is heard by the next request. */
export function limitReader({ env, ctx }: Asking, keyHash: string, instance: string, limit = READER): void {
  const name = `${keyHash}:${instance}`;
  const reader = take(name, limit, 1);
  const leftMs = reader.refusedUntil - Date.now();
  if (leftMs > 0) throw tooManyReads(Math.ceil(leftMs / 1_000));
  if (++reader.reads % READS_EACH === 0) ctx.waitUntil(askPlatform(env, name, reader));
}

type Asking = { env: Pick<Env, "READ_LIMITER">; ctx: Pick<ExecutionContext, "waitUntil"> };

async function askPlatform(env: Asking["env"], key: string, reader: Reader): Promise<void> {
  // A limit that cannot be read must not refuse anybody.
  const taken = within(env.READ_LIMITER.limit({ key }), RATE_LIMITER_MS, "the rate limiter");
  const { success } = await taken.catch(() => ({ success: true }));
  if (!success) reader.refusedUntil = Date.now() + PLATFORM_MS;
}

/** Throws 429 where an address has lately sent too many keys that are not good; looks nothing up. */
export function refuseUnauthenticated(address: string): void {
  take(`unauthenticated:${address}`, UNAUTHENTICATED, 0);
}

export function noteUnauthenticated(address: string): void {
  take(`unauthenticated:${address}`, UNAUTHENTICATED, 1);
}

function take(name: string, limit: Limit, cost: number): Reader {
  const known = readers.get(name);
  const { bucket, allowed, retryAfterMs } = takeFrom(known ?? null, Math.max(cost, 1), limit, Date.now());
  if (!allowed) throw tooManyReads(Math.ceil(retryAfterMs / 1_000));
  const reader = known ?? { ...bucket, reads: 0, refusedUntil: 0 };
  if (cost === 0) return reader;
  if (known === undefined) {
    if (readers.size >= MAX_READERS) readers.clear();
    readers.set(name, reader);
  }
  // In place: a new object for each request would outlive the collector's quick rounds.
  reader.tokens = bucket.tokens;
  reader.at = bucket.at;
  return reader;
}

const tooManyReads = (seconds: number) =>
  tooMany(Math.max(1, seconds), "Too many requests from here. An SDK needs one stream and a request each 30 seconds.");
