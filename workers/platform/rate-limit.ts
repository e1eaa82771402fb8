/** Limits by API token and by SDK key, kept by one RateLimiter object for each name. */

import { proxyDurable } from "itty-durable/proxy-durable.js";
import type { Env } from "../env.ts";
import { Circuit, RATE_LIMITER_BREAKING, RATE_LIMITER_MS, within } from "./deadline.ts";
import { errorText } from "./error-text.ts";
import type { Limit, Taken } from "./token-bucket.ts";

/** RateLimiter as itty-durable's proxy shows it, which is untyped. */
type Limiter = { take(cost: number, perSecond: number, burst: number): Promise<Taken> };

/** Of this isolate, around all of them: they live and die together. */
const limiters = new Circuit("the rate limiter", RATE_LIMITER_BREAKING);

export type Allowance = { allowed: true } | { allowed: false; retryAfterSeconds: number };

/**
 * `name` is what is limited, for example `events:<key id>`: one whose owner has proved who they are, or anybody could
 * create objects at will.
 *
 * Fails open: a limit protects the service from too much work. Refusing everybody because the limiter is slow, failing or
 * misconfigured would be the outage that it is there to prevent; the Queue and D1 have limits of their own behind it.
 */
export async function takeTokens(
  env: Pick<Env, "RATE_LIMITER">,
  name: string,
  limit: Limit,
  cost = 1,
): Promise<Allowance> {
  try {
    const { allowed, retryAfterMs } = await limiters.through(() =>
      within(ask(env, name, limit, cost), RATE_LIMITER_MS, "the rate limiter"),
    );
    // Retry-After counts whole seconds; less than one would invite an immediate retry.
    return allowed ? { allowed } : { allowed: false, retryAfterSeconds: Math.max(1, Math.ceil(retryAfterMs / 1_000)) };
  } catch (error) {
    console.warn(JSON.stringify({ level: "warn", message: "rate limit not applied", name, error: errorText(error) }));
    return { allowed: true };
  }
}

async function ask(env: Pick<Env, "RATE_LIMITER">, name: string, { perSecond, burst }: Limit, cost: number) {
  // Limits come from [vars], where anybody can write anything.
  if (!(perSecond > 0 && burst >= 1)) throw new Error(`${perSecond} a second, burst ${burst} is not a limit`);
  // By id: itty-durable would send a name in a header, where only ASCII goes, and take 64 hexadecimal digits for an id.
  const id = env.RATE_LIMITER.idFromName(name);
  const limiter: Limiter = proxyDurable(env.RATE_LIMITER, { parse: true }).get(id);
  return limiter.take(cost, perSecond, burst);
}
