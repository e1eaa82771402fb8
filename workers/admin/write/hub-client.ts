/** Sends an environment's hub what was committed, and reads from it which clients have it. */

import type { Receipt } from "../../../durable-objects/fan-out/receipt.ts";
import type { KillsNow } from "../../../durable-objects/hub/kills/kill.ts";
import type { Env } from "../../env.ts";
import { HUB_PUBLISH_MS, HUB_READ_MS, within } from "../../platform/deadline.ts";
import { errorText } from "../../platform/error-text.ts";
import { unavailable } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Change } from "../../store/outbox/change.ts";
import { BASE_PATH, pending } from "../http/contract.ts";
import { z } from "../http/zod.ts";

const count = z.number().int();
const milliseconds = z.number().nullable();
const counts = z
  .object({
    connected: count.openapi({ description: "Streams open when it was delivered" }),
    applied: count.openapi({ description: "Acknowledged over WebSocket" }),
    delivered: count.openapi({ description: "Written to a stream of server-sent events" }),
    gone: count.openapi({ description: "Closed before it was known to be applied" }),
    silent: count.openapi({ description: "At relays that did not answer, as many as they last had" }),
  })
  .openapi("ReceiptCounts");

export const receipt = counts
  .extend({
    revision: count,
    publishedAt: count,
    polling: count.openapi({ description: "About how many clients poll and have it: polls of the last half minute" }),
    pollingCompleteAt: count.openapi({
      description:
        "Epoch milliseconds. By then each client that polls has asked again, and `polling` counts those that have it; until then it is too low",
    }),
    p50: milliseconds.openapi({ description: "From publishing to applied or written; at most 5 % too high" }),
    p99: milliseconds,
    max: milliseconds,
    byRegion: z.record(z.string(), counts),
    bySdk: z.record(z.string(), counts).openapi({ description: "The twenty with the most clients" }),
    stragglers: z
      .array(z.object({ instance: z.string(), name: z.string(), sdk: z.string(), revision: count, lastSeen: count }))
      .openapi({ description: "The twenty that are furthest behind" }),
  })
  .openapi("Receipt", { description: "Which of the clients connected at delivery have a revision, and how fast." });

/** A write's way to the clients: the revision to look for, or that its hub has not confirmed it yet. */
export const delivery = z.object({
  revision: z.number().int().optional(),
  receiptPath: z.string().optional().openapi({ description: "Where the receipt of this revision is" }),
  pending,
  receipt: receipt.nullable().optional(),
});
export type Delivery = z.infer<typeof delivery>;

/** The location hint counts only the first time, when the object is made. */
export function hubOf(env: Env, { id, location }: Pick<EnvironmentName, "id" | "location">) {
  const locationHint = location === null ? {} : { locationHint: location as DurableObjectLocationHint };
  return env.HUB.get(env.HUB.idFromName(id), locationHint);
}

export function bigSegmentOf(
  { BIG_SEGMENT }: Env,
  { id, location }: Pick<EnvironmentName, "id" | "location">,
  key: string,
) {
  const locationHint = location === null ? {} : { locationHint: location as DurableObjectLocationHint };
  return BIG_SEGMENT.get(BIG_SEGMENT.idFromName(`${id}/${key}`), locationHint);
}

/** Asks twice: a hub that was just restarting answers the second time. Publishing twice changes nothing. */
export async function askHub<T>(what: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await within(ask(), HUB_PUBLISH_MS, what);
  } catch {
    return within(ask(), HUB_PUBLISH_MS, what);
  }
}

export const publish = (env: Env, name: EnvironmentName, change: Change): Promise<Delivery> =>
  // A first change is that of a new environment, whose hub reads everything as it is made.
  confirmed(name, () => (change.version === 1 ? hubOf(env, name).create(name.id) : hubOf(env, name).publish(change)));

/** After an edit that changed nothing: that something which was committed before may still be on its way. */
export const catchUp = (env: Env, name: EnvironmentName): Promise<Delivery> =>
  confirmed(name, () => hubOf(env, name).catchUp());

async function confirmed(name: EnvironmentName, ask: () => Promise<{ revision: number }>): Promise<Delivery> {
  try {
    return delivered(name, (await askHub("publishing", ask)).revision);
  } catch (error) {
    const message = "publish pending";
    console.warn(JSON.stringify({ level: "warn", message, environment: name.id, error: errorText(error) }));
    return { pending: true };
  }
}

export const delivered = (name: EnvironmentName, revision: number): Delivery => ({
  revision,
  receiptPath: `${BASE_PATH}/projects/${name.project}/environments/${name.environment}/receipts/${revision}`,
});

/** What is killed, from the hub, which alone decides it, and what D1 does not have yet. Null: it does not answer. */
export async function killsThere(env: Env, name: Pick<EnvironmentName, "id" | "location">): Promise<KillsNow | null> {
  return within(hubOf(env, name).kills(), HUB_READ_MS, "hub").catch(() => null);
}

/**
 * The last kill or restore of a flag, from the hub and from D1, which receives it later; null: there was none. `isFromHub`
 * is false where the hub does not answer.
 */
export async function lastKillOf(
  env: Env,
  name: Pick<EnvironmentName, "id" | "location">,
  flag: string,
  mirrored: { seq: number; killed: boolean } | null,
): Promise<{ kill: { seq: number; killed: boolean } | null; isFromHub: boolean }> {
  const there = await killsThere(env, name);
  if (there === null) return { kill: mirrored, isFromHub: false };
  const killed = Object.hasOwn(there.killed, flag) ? there.killed[flag] : undefined;
  const lifted = there.pending.filter((record) => record.flag === flag && record.changed).map(({ seq }) => seq);
  const seq = Math.max(mirrored?.seq ?? 0, killed?.seq ?? 0, ...lifted);
  return { kill: seq === 0 ? null : { seq, killed: killed !== undefined }, isFromHub: true };
}

/** An SDK polls each 30 s ± 20 %, and an isolate tells its relay of polls with its next look at it, a few seconds later. */
const POLLED_WITHIN_MS = 40_000;

export type CompleteReceipt = Receipt & { pollingCompleteAt: number };

export async function receiptOf(env: Env, name: EnvironmentName, revision: number): Promise<CompleteReceipt | null> {
  try {
    const known = await within(hubOf(env, name).receipt(revision), HUB_PUBLISH_MS, "the receipt");
    return known && { ...known, pollingCompleteAt: known.publishedAt + POLLED_WITHIN_MS };
  } catch {
    throw unavailable("The environment's hub does not answer.");
  }
}
