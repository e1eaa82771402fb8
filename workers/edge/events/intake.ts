/** Event intake, `POST …/events`: what is answered with 202 is in the Queue and is not lost from there on. */
import { gunzipSync } from "node:zlib";
import { MAX_EVENT_BYTES } from "@bunting/core/wire";
import type { Env } from "../../env.ts";
import type { QueuedEvents } from "../../events/message.ts";
import { QUEUE_SEND_MS, within } from "../../platform/deadline.ts";
import { ApiError, badRequest, tooLarge, tooMany, unavailable } from "../../platform/problem.ts";
import { type Allowance, takeTokens } from "../../platform/rate-limit.ts";
import { parseJson } from "../../platform/request-body.ts";
import type { KeyKind } from "../../store/schema/index.ts";
import type { Caller } from "../authenticate.ts";
import { MAX_ERRORS_LISTED, parseBatch, type SizedEvent } from "./batch.ts";

/** Queues: 128 KB a message, headers included; 100 messages or 256 KB a call. */
export const MAX_MESSAGE_BYTES = 100_000;
export const MAX_CALL_BYTES = 250_000;
export const MAX_CALL_MESSAGES = 100;

export type Sender = {
  environmentId: string;
  /** What the rate is limited by. */
  keyId: string;
  kind: KeyKind;
  /** `X-Bunting-Client`, or the query's `client`. */
  clientHeader: string | null;
  /** Epoch milliseconds. */
  now: number;
};

export const senderOf = ({ environmentId, grant, client }: Caller): Sender => ({
  environmentId,
  keyId: grant.id,
  kind: grant.kind,
  clientHeader: `${client.sdk};instance=${client.instance};name=${client.name}`,
  now: Date.now(),
});

/** 202 `{accepted, dropped, clamped}`; everything else is thrown as an ApiError. */
export async function acceptEvents(
  request: Request,
  env: LimiterEnv & Pick<Env, "EVENTS_QUEUE">,
  { environmentId, keyId, kind, clientHeader, now }: Sender,
): Promise<Response> {
  const allowance = await (kind === "server" ? takeOne(env, keyId) : takeFromLease(env, keyId, now));
  if (!allowance.allowed) throw tooMany(allowance.retryAfterSeconds, "This key sends events too often.");

  const batch = parseBatch(await readJson(request, kind), now);
  if (!batch.ok) {
    const more = batch.total > MAX_ERRORS_LISTED ? `, of which the first ${MAX_ERRORS_LISTED} are listed` : "";
    throw badRequest(`The batch has ${batch.total} error(s)${more}. None of it was accepted.`, batch.errors);
  }

  const { batchId, events, dropped, clamped } = batch;
  const envelope = { environment: environmentId, source: kind, sdk: sdkOf(clientHeader), batchId, receivedAt: now };
  const calls = pack(envelope, events);
  try {
    const sent = calls.map((messages) =>
      env.EVENTS_QUEUE.sendBatch(messages.map((body) => ({ body, contentType: "json" as const }))),
    );
    await within(Promise.all(sent), QUEUE_SEND_MS, "the events queue");
  } catch (error) {
    // Part of it may be in the Queue. The SDK sends it all again under the same batchId, and readers count it once.
    console.error(
      JSON.stringify({ level: "error", message: "events not queued", environmentId, batchId, error: String(error) }),
    );
    throw unavailable("The events could not be queued. Send the same batch again.", 5);
  }
  return Response.json({ accepted: events.length - dropped, dropped, clamped }, { status: 202 });
}

type LimiterEnv = Pick<
  Env,
  "RATE_LIMITER" | "EVENTS_PER_SECOND" | "EVENTS_BURST" | "CLIENT_EVENTS_PER_SECOND" | "CLIENT_EVENTS_BURST"
>;

const takeOne = (env: LimiterEnv, keyId: string): Promise<Allowance> =>
  takeTokens(env, `events:${keyId}`, { perSecond: Number(env.EVENTS_PER_SECOND), burst: Number(env.EVENTS_BURST) });

/** A public key speaks for every browser: asking its limiter for each batch would be too much for one object. */
const LEASE = 50;
const MAX_LEASES = 1_000;
const leases = new Map<string, { left: number; refusedUntil: number }>();

/** The limiter is asked for so many at a time; those that an isolate does not use are lost. */
async function takeFromLease(env: LimiterEnv, keyId: string, now: number): Promise<Allowance> {
  const lease = leases.get(keyId) ?? { left: 0, refusedUntil: 0 };
  if (lease.left > 0) {
    lease.left--;
    return { allowed: true };
  }
  if (lease.refusedUntil > now) {
    return { allowed: false, retryAfterSeconds: Math.ceil((lease.refusedUntil - now) / 1_000) };
  }
  const limit = { perSecond: Number(env.CLIENT_EVENTS_PER_SECOND), burst: Number(env.CLIENT_EVENTS_BURST) };
  const size = Math.max(1, Math.min(LEASE, limit.burst));
  const allowance = await takeTokens(env, `events:${keyId}`, limit, size);
  if (allowance.allowed) lease.left += size - 1;
  else lease.refusedUntil = now + allowance.retryAfterSeconds * 1_000;
  if (leases.size >= MAX_LEASES && !leases.has(keyId)) leases.clear();
  leases.set(keyId, lease);
  return allowance;
}

/**
 * JSON; from pages also as text/plain. `sendBeacon`, the only way to send while a page closes, can send application/json
 * only after a preflight, for which such a page no longer waits.
 */
async function readJson(request: Request, kind: KeyKind): Promise<unknown> {
  const type = (request.headers.get("content-type") ?? "application/json").split(";", 1)[0]!.trim().toLowerCase();
  if (type !== "application/json" && !(kind === "client" && type === "text/plain")) {
    throw new ApiError(415, "unsupported-media-type", "Send JSON, with Content-Type: application/json.");
  }
  const encoding = (request.headers.get("content-encoding") ?? "identity").trim().toLowerCase();
  if (encoding !== "gzip" && encoding !== "identity")
    throw new ApiError(415, "unsupported-encoding", "Content-Encoding must be gzip, or absent.");
  const sent = await readAtMost(request, MAX_EVENT_BYTES);
  const bytes = encoding === "gzip" ? unzipAtMost(sent, MAX_EVENT_BYTES) : sent;
  return parseJson(decoded(bytes));
}

function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    throw badRequest("The body is not valid UTF-8.");
  }
}

async function readAtMost(request: Request, limit: number): Promise<Uint8Array> {
  // Content-Length is asked first, because refusing then costs nothing; it may be absent or, over HTTP/2, wrong.
  if (Number(request.headers.get("content-length")) > limit) throw tooLarge("1 MB");
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.byteLength;
    if (length > limit) throw tooLarge("1 MB");
    chunks.push(chunk);
  }
  return new Blob(chunks).bytes();
}

/**
 * Not a DecompressionStream: workerd's inflates each chunk that is written to it as a whole, before anybody can count,
 * and deflate reaches 1:1000. zlib stops at the limit.
 */
function unzipAtMost(bytes: Uint8Array, limit: number): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: limit });
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge("1 MB after decompression");
    throw badRequest("The body is not gzip, as its Content-Encoding says.");
  }
}

/** `<sdk>/<version>;instance=…;name=…`. Bounded, because it is repeated in every line and point. */
export function sdkOf(header: string | null): QueuedEvents["sdk"] {
  const [name = "", version = ""] = (header ?? "").split(";", 1)[0]!.split("/", 2);
  return { name: name.trim().slice(0, 64) || "unknown", version: version.trim().slice(0, 64) };
}

/** Messages, for as few calls as possible; none where every event was of an unknown kind. */
export function pack(envelope: Omit<QueuedEvents, "firstIndex" | "events">, events: SizedEvent[]): QueuedEvents[][] {
  const envelopeBytes = bytesOf({ ...envelope, firstIndex: events.length, events: [] });
  let firstIndex = 0;
  const messages = runs(events, MAX_MESSAGE_BYTES - envelopeBytes, events.length).map((run) => {
    const message: QueuedEvents = { ...envelope, firstIndex, events: run.map(({ event }) => event) };
    firstIndex += run.length;
    return { message, bytes: bytesOf(message) };
  });
  const worthSending = messages.filter(({ message }) => message.events.some((event) => event !== null));
  return runs(worthSending, MAX_CALL_BYTES, MAX_CALL_MESSAGES).map((run) => run.map(({ message }) => message));
}

/** The items in order, in as few runs as the limits allow. */
function runs<T extends { bytes: number }>(items: T[], maxBytes: number, maxItems: number): T[][] {
  const all: T[][] = [];
  let total = 0;
  for (const item of items) {
    const bytes = item.bytes + 1; // and its comma
    const last = all.at(-1);
    if (last !== undefined && last.length < maxItems && total + bytes <= maxBytes) {
      last.push(item);
      total += bytes;
    } else {
      all.push([item]);
      total = bytes;
    }
  }
  return all;
}

function bytesOf(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).byteLength;
}
