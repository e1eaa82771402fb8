/**
 * Events that could not be delivered five times: they were acknowledged with 202, so they are kept in R2 until they can be.
 * The dead-letter queue alone would forget them after days. Readers deduplicate by batchId and index, so twice is once.
 */

import type { Env } from "../env.ts";
import { QUEUE_SEND_MS, R2_READ_MS, R2_WRITE_MS, within } from "../platform/deadline.ts";
import { errorText } from "../platform/error-text.ts";
import { sha256 } from "../platform/sha256.ts";
import { isReadable } from "./consumer.ts";
import type { QueuedEvents } from "./message.ts";

export const DEAD_LETTERS = "bunting-events-dead";

/** Sent again by the sweep. */
const DEAD = "dead/";
/** This version cannot read them. Move them to `dead/` once another one can. */
const UNREADABLE = "unreadable/";
const RETRY_SECONDS = 60 * 60;
/** Objects for each sweep, of up to a hundred messages each: two thousand messages a minute. */
const AT_ONCE = 20;
/** Queues: 256 KB and a hundred messages a call; a message is at most 128 KB. */
const MAX_CALL_CHARACTERS = 120_000;

type Buckets = Pick<Env, "EVENTS_BUCKET" | "EVENTS_QUEUE">;

export async function keepDeadLetters(batch: MessageBatch<unknown>, env: Pick<Env, "EVENTS_BUCKET">): Promise<void> {
  const lines = batch.messages.map(({ body }) => JSON.stringify(body));
  const name = (await sha256(batch.messages.map(({ id }) => id).join("\n"))).slice(0, 32);
  try {
    await within(env.EVENTS_BUCKET.put(`${DEAD}${name}.ndjson`, lines.join("\n")), R2_WRITE_MS, "R2");
    batch.ackAll();
  } catch (error) {
    batch.retryAll({ delaySeconds: RETRY_SECONDS });
    console.error(JSON.stringify({ level: "error", message: "dead letters not kept", error: errorText(error) }));
  }
}

/** Puts them into the events queue again, oldest names first; answers how many messages. Throws where it could not. */
export async function replayDeadLetters({ EVENTS_BUCKET: bucket, EVENTS_QUEUE: queue }: Buckets): Promise<number> {
  const { objects } = await within(bucket.list({ prefix: DEAD, limit: AT_ONCE }), R2_READ_MS, "R2");
  let replayed = 0;
  for (const { key } of objects) {
    const object = await within(bucket.get(key), R2_READ_MS, "R2");
    if (object === null) continue;
    const lines = (await within(object.text(), R2_READ_MS, "R2")).split("\n");
    const readable = lines.filter((line) => isReadable(JSON.parse(line)));
    const others = lines.filter((line) => !readable.includes(line));
    if (others.length > 0) {
      const kept = bucket.put(UNREADABLE + key.slice(DEAD.length), others.join("\n"));
      await within(kept, R2_WRITE_MS, "R2");
    }
    for (const call of calls(readable)) {
      const messages = call.map((line) => ({ body: JSON.parse(line) as QueuedEvents, contentType: "json" as const }));
      await within(queue.sendBatch(messages), QUEUE_SEND_MS, "the events queue");
    }
    // Last: a crash before it sends them twice, which readers do not notice.
    await within(bucket.delete(key), R2_WRITE_MS, "R2");
    replayed += readable.length;
  }
  return replayed;
}

function calls(lines: string[]): string[][] {
  const all: string[][] = [];
  let characters = 0;
  for (const line of lines) {
    const last = all.at(-1);
    if (last !== undefined && characters + line.length <= MAX_CALL_CHARACTERS) last.push(line);
    else {
      all.push([line]);
      characters = 0;
    }
    characters += line.length;
  }
  return all;
}
