/**
 * The events queue's consumer: a delivery becomes one gzip NDJSON object in R2 for each environment and hour of receipt,
 * and points in Analytics Engine. Queues deliver at least once: readers of R2 deduplicate by batchId and index.
 * How often a batch is tried stands in wrangler.toml (`max_retries`); dead-letters.ts has what becomes of it then.
 */

import type { Env } from "../env.ts";
import { R2_WRITE_MS, within } from "../platform/deadline.ts";
import { errorText } from "../platform/error-text.ts";
import { sha256 } from "../platform/sha256.ts";
import { decisionPoints } from "./analytics.ts";
import type { QueuedEvents } from "./message.ts";

type Delivery = { prefix: string; messages: Message<QueuedEvents>[] };

export async function consume(
  batch: MessageBatch<QueuedEvents>,
  env: Pick<Env, "EVENTS_BUCKET" | "ANALYTICS">,
): Promise<void> {
  const readable = batch.messages.filter(({ id, body }) => {
    const known = isReadable(body);
    if (!known) log("error", "unreadable message in the events queue", { id });
    return known;
  });
  const written = (await Promise.all(deliveries(readable).map((delivery) => write(delivery, env)))).flat();

  // After R2, so that a delivery that is retried is counted once.
  const counted = count(
    written.map(({ body }) => body),
    env,
  );

  const acked = new Set(written);
  for (const message of batch.messages) {
    if (acked.has(message)) message.ack();
    else message.retry({ delaySeconds: retryDelaySeconds(message.attempts) });
  }
  const retried = batch.messages.length - written.length;
  const unreadable = batch.messages.length - readable.length;
  const level = retried > 0 || counted.pointsDropped > 0 ? "warn" : "info";
  log(level, "events delivered", { messages: written.length, retried, unreadable, ...counted });
}

/** Monitoring never holds up a delivery: what R2 has is acknowledged whatever Analytics Engine says. */
function count(written: QueuedEvents[], env: Pick<Env, "ANALYTICS">): { points: number; pointsDropped: number } {
  try {
    const { points, dropped } = decisionPoints(written);
    for (const point of points) env.ANALYTICS.writeDataPoint(point);
    return { points: points.length, pointsDropped: dropped };
  } catch (error) {
    log("error", "events not counted", { error: errorText(error) });
    return { points: 0, pointsDropped: 0 };
  }
}

/**
 * A message that this version cannot read is retried like one that could not be written, and so ends in the dead-letter
 * queue: it was acknowledged with 202, and during a gradual deploy another version may well know what it says.
 */
export function isReadable(body: unknown): body is QueuedEvents {
  const { environment, batchId, firstIndex, receivedAt, events } = (body ?? {}) as Partial<QueuedEvents>;
  return (
    typeof environment === "string" &&
    typeof batchId === "string" &&
    Number.isInteger(firstIndex) &&
    // Being finite is not enough: Date must be able to represent it.
    Number.isFinite(new Date(receivedAt ?? Number.NaN).getTime()) &&
    Array.isArray(events)
  );
}

/** By time of receipt, so that whoever reads an hour reads all that came in it, however late it was delivered. */
function deliveries(messages: readonly Message<QueuedEvents>[]): Delivery[] {
  const byPrefix = Map.groupBy(messages, ({ body }) => {
    const [date, time] = new Date(body.receivedAt).toISOString().split("T") as [string, string];
    return `events/environment=${body.environment}/date=${date}/hour=${time.slice(0, 2)}`;
  });
  return Array.from(byPrefix, ([prefix, group]) => ({ prefix, messages: group }));
}

/** What was written: all of the delivery or, where R2 fails, nothing. The other environments' deliveries go on. */
async function write(
  { prefix, messages }: Delivery,
  env: Pick<Env, "EVENTS_BUCKET">,
): Promise<Message<QueuedEvents>[]> {
  const key = `${prefix}/${await deliveryId(messages.map(({ id }) => id))}.ndjson.gz`;
  try {
    const text = new Blob(messages.map((message) => lines(message.body)));
    // As a whole, because R2 takes a stream only with its length. A delivery is at most 100 messages of 100 KB.
    const body = await new Response(text.stream().pipeThrough(new CompressionStream("gzip"))).bytes();
    // No Content-Encoding: a reader that decompresses by itself would not find what the name says.
    const put = env.EVENTS_BUCKET.put(key, body, { httpMetadata: { contentType: "application/gzip" } });
    await within(put, R2_WRITE_MS, "R2");
    return messages;
  } catch (error) {
    log("error", "events not written", { key, error: errorText(error) });
    return [];
  }
}

/** Message ids outlive a redelivery: the same messages again, in whatever order, overwrite their object. */
async function deliveryId(messageIds: string[]): Promise<string> {
  return (await sha256(messageIds.toSorted().join("\n"))).slice(0, 32);
}

/** One line for each event, each complete in itself. */
function lines({ events, firstIndex, ...envelope }: QueuedEvents): string {
  return events
    .map((event, offset) => event && `${JSON.stringify({ ...envelope, index: firstIndex + offset, ...event })}\n`)
    .filter((line) => line !== null)
    .join("");
}

/** 30 s, 2 min, 8 min, 32 min, 2 h 8 min: with max_retries = 5, R2 may be away for almost three hours. */
export function retryDelaySeconds(attempts: number): number {
  return 30 * 4 ** Math.min(attempts - 1, 4);
}

function log(level: "info" | "warn" | "error", message: string, fields: Record<string, unknown>): void {
  console[level](JSON.stringify({ level, message, ...fields }));
}
