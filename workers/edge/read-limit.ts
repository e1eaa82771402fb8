/**
 * Reads are limited where they arrive, without a hop: in this isolate, and by the platform for the data centre. Far above
 * what an SDK needs, low enough that one loop gone wrong costs the others nothing.
 */
import { RATE_LIMITER_MS, within } from "../deadline.ts";
import type { Env } from "../env.ts";
import { tooMany } from "../problem.ts";
import { type Bucket, type Limit, takeFrom } from "../token-bucket.ts";

/** One instance of an application with one key: a backend may evaluate remotely for each of its own requests. */
const READER: Limit = { perSecond: 200, burst: 2_000 };
/** One address with keys that are not good. */
const STRANGER: Limit = { perSecond: 5, burst: 100 };
/** The platform counts one request in a hundred, against a hundredth of the limit (wrangler.toml): a 304 costs less than asking. */
const PLATFORM_SHARE = 1 / 100;
const MAX_BUCKETS = 10_000;

const buckets = new Map<string, Bucket>();

/** Throws 429 where this key's instance asks too often. */
export async function limitReader(
  env: Pick<Env, "READ_LIMITER">,
  keyHash: string,
  instance: string,
  limit = READER,
): Promise<void> {
  const name = `${keyHash}:${instance}`;
  take(name, limit, 1);
  if (Math.random() >= PLATFORM_SHARE) return;
  // A limit that cannot be read must not refuse anybody.
  const asked = within(env.READ_LIMITER.limit({ key: name }), RATE_LIMITER_MS, "the rate limiter");
  const { success } = await asked.catch(() => ({ success: true }));
  if (!success) throw tooManyReads(10);
}

/** Throws 429 where an address has lately sent too many keys that are not good; looks nothing up. */
export function refuseStranger(address: string): void {
  take(`stranger:${address}`, STRANGER, 0);
}

export function noteStranger(address: string): void {
  take(`stranger:${address}`, STRANGER, 1);
}

function take(name: string, limit: Limit, cost: number): void {
  const known = buckets.get(name) ?? null;
  const { bucket, allowed, retryAfterMs } = takeFrom(known, Math.max(cost, 1), limit, Date.now());
  if (!allowed) throw tooManyReads(Math.ceil(retryAfterMs / 1_000));
  if (cost === 0) return;
  if (buckets.size >= MAX_BUCKETS && known === null) buckets.clear();
  buckets.set(name, bucket);
}

const tooManyReads = (seconds: number) =>
  tooMany(Math.max(1, seconds), "Too many requests from here. An SDK needs one stream and a request each 30 seconds.");
