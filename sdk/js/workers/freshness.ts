import { BACKOFF_MAX_MS, backoffMs } from "../sync/backoff.ts";
import { CIRCUIT_FAILURES } from "../sync/state.ts";

/** When a Worker, which lives from request to request, requests its ruleset again: decided purely, times in milliseconds. */

export type Limits = {
  /** At most one request in the background for so long, while requests come. */
  revalidateMs: number;
  /** A ruleset not verified for longer is verified before it is used … */
  verifyMs: number;
  /** … waiting no longer than this. */
  waitMs: number;
  /** The same for the very first one. */
  startMs: number;
};

export type Freshness = {
  held: boolean;
  verifiedAt: number | null;
  /** When the request under way began. */
  askingSince: number | null;
  notBefore: number;
  failures: number;
};

/** Longer than a request may take: its own request was ended by the platform, and it will never answer. */
export const ABANDONED_MS = 15_000;

/** Whether to send a request now, and how long to wait for a response that is or will be under way. */
export function plan(freshness: Freshness, now: number, limits: Limits): { ask: boolean; waitMs: number } {
  const { askingSince, verifiedAt, held } = freshness;
  const asking = isAsking(freshness, now);
  const ask = !asking && now >= freshness.notBefore;
  const patience = !held ? limits.startMs : isStale(freshness, now, limits) ? limits.waitMs : 0;
  if (ask) return { ask, waitMs: patience };
  // Counted from when the request was sent, so that a server that hangs costs one wait and not one for each request.
  const left = asking ? askingSince! + patience - now : 0;
  return { ask, waitMs: verifiedAt !== null && patience === 0 ? 0 : Math.max(0, left) };
}

/** An answer is still to be expected. */
export const isAsking = ({ askingSince }: Freshness, now: number): boolean =>
  askingSince !== null && now - askingSince < ABANDONED_MS;

export const isStale = ({ verifiedAt }: Freshness, now: number, limits: Limits): boolean =>
  verifiedAt === null || now - verifiedAt > limits.verifyMs;

export function answered(now: number, limits: Limits): Freshness {
  return { held: true, verifiedAt: now, askingSince: null, notBefore: now + limits.revalidateMs, failures: 0 };
}

/** Five failures in a row open the circuit (Q11): then back-off with full jitter in place of once a second. */
export function failed(
  before: Freshness,
  end: { refused?: boolean; retryAfterMs?: number },
  now: number,
  limits: Limits,
  random: () => number,
): Freshness {
  const failures = before.failures + 1;
  const backOff = failures < CIRCUIT_FAILURES ? 0 : backoffMs(failures, random);
  const refusal = end.refused ? BACKOFF_MAX_MS * (0.5 + random()) : 0;
  const pause = Math.max(limits.revalidateMs, backOff, refusal, end.retryAfterMs ?? 0);
  return { ...before, askingSince: null, notBefore: now + pause, failures };
}
