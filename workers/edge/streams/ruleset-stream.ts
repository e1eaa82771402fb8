/** Streams. A WebSocket goes straight to its relay; SSE is bridged here, in the stateless Worker, so that relays hibernate. */
import {
  type GoodbyeMessage,
  HEARTBEAT_SECONDS,
  type HelloMessage,
  PING,
  PONG,
  type ServerMessage,
} from "@bunting/core/wire";
import { ApiError, methodNotAllowed, unavailable } from "../../platform/problem.ts";
import { type Caller, revisionIn } from "../authenticate.ts";
import { connect } from "./relay-connection.ts";

/** A stream says goodbye after 15 to 30 minutes, before its CPU budget ends, spread so that not all do at once. */
export const MIN_LIFE_MS = 15 * 60_000;
export const MAX_LIFE_MS = 30 * 60_000;
const RENEW_WITHIN_MS = 5_000;
/** Waiting for a client that does not read; then it is cut and resumes when it can. What a client lacks is at most half. */
export const MAX_WAITING_BYTES = 2 * 1024 * 1024;

export function openSocket(caller: Caller, request: Request): Promise<Response> {
  requireUpgrade(request);
  return connect(caller, "socket", sinceOf(request));
}

/** HEAD is routed as GET and its body dropped without a word: nobody would close what stands behind a stream. */
export function refuseHead(request: Request): void {
  if (request.method === "HEAD") throw methodNotAllowed(["GET"]);
}

export function requireUpgrade(request: Request): void {
  refuseHead(request);
  if (request.headers.get("upgrade")?.toLowerCase() === "websocket") return;
  throw new ApiError(426, "upgrade-required", "This route speaks WebSocket: send Upgrade: websocket.", {
    headers: { upgrade: "websocket" },
  });
}

export async function openEventStream(caller: Caller, request: Request): Promise<Response> {
  refuseHead(request);
  const upstream = await relaySocket(caller, sinceOf(request));
  return new Response(bridge(upstream, request.signal), {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

/** The revision that the client has: told by the SDK, or by EventSource on a reconnect. */
export function sinceOf(request: Request): number | null {
  const text = request.headers.get("last-event-id") ?? new URL(request.url).searchParams.get("since");
  return revisionIn(text, "since");
}

/** For what is bridged here. Such a stream does not acknowledge: the relay counts it by what it was sent. */
export async function relaySocket(caller: Caller, since: number | null = null): Promise<WebSocket> {
  const { webSocket } = await connect(caller, "sse", since);
  if (webSocket === null) throw unavailable("The relay did not answer. Poll until it does.");
  return webSocket;
}

/** Through the runtime's own pipe: a stream made of JavaScript costs each client several times as much. */
function bridge(upstream: WebSocket, gone: AbortSignal): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const timers: ReturnType<typeof setTimeout>[] = [];
  let revision = 0;
  let waitingBytes = 0;
  const end = () => {
    for (const timer of timers) clearTimeout(timer);
    close(upstream);
    // What is waiting for a client that is there still reaches it.
    writer.close().catch(() => {});
  };
  const write = (bytes: Uint8Array) => {
    if (waitingBytes >= MAX_WAITING_BYTES) return cut();
    waitingBytes += bytes.length;
    writer.write(bytes).then(() => {
      waitingBytes -= bytes.length;
    }, end);
  };
  /** It does not read, so that an orderly end would wait for ever. */
  const cut = () => {
    end();
    writer.abort("too slow").catch(() => {});
  };
  const say = (message: ServerMessage) => write(eventOf(JSON.stringify(message)).bytes);
  upstream.addEventListener("message", ({ data }) => {
    if (typeof data !== "string" || data === PONG) return;
    const event = eventOf(data);
    revision = event.revision ?? revision;
    write(event.bytes);
  });
  upstream.addEventListener("close", end);
  upstream.addEventListener("error", end);
  // The platform tells of a client that vanished by one or the other; a write to it is what reveals it.
  gone.addEventListener("abort", end);
  writer.closed.catch(end);
  upstream.accept();
  // Gone while the relay was asked: an event that has happened is not told again.
  if (gone.aborted) {
    end();
    return readable;
  }
  const beat = () => {
    upstream.send(PING);
    say({ type: "heartbeat", revision });
  };
  const renew = () => {
    say({ type: "goodbye", withinMs: RENEW_WITHIN_MS, reason: "renew" });
    end();
  };
  timers.push(
    setInterval(beat, HEARTBEAT_SECONDS * 1_000),
    setTimeout(renew, MIN_LIFE_MS + Math.random() * (MAX_LIFE_MS - MIN_LIFE_MS)),
  );
  return readable;
}

function close(upstream: WebSocket): void {
  try {
    upstream.close(1000, "client gone");
  } catch {
    // Already closed.
  }
}

type SentEvent = { message: string; bytes: Uint8Array; revision: number | null };

const encoder = new TextEncoder();
/** What was sent last: an isolate's streams are told the same, which is encoded once. */
let latest: SentEvent | null = null;

function eventOf(message: string): SentEvent {
  if (latest?.message === message) return latest;
  // Our own messages begin with their type and revision: reading those spares parsing 64 KB.
  const [, type = "message", revision] = /^\{"type":"(\w+)"(?:,"revision":(\d+))?/.exec(message) ?? [];
  const fields = [`event: ${type}`];
  // Only a patch moves a client to its revision: an id on a hello would make it skip what follows, were it cut there.
  if (type === "patch") fields.push(`id: ${revision}`);
  const retryMs = retryIn(type, message);
  if (retryMs !== null) fields.push(`retry: ${retryMs}`);
  const bytes = encoder.encode(`${fields.join("\n")}\ndata: ${message}\n\n`);
  const event = { message, bytes, revision: revision === undefined ? null : Number(revision) };
  // A retry is each client's own.
  if (retryMs === null) latest = event;
  return event;
}

/** EventSource comes back by itself: at a random moment of its window, as our SDKs do. */
function retryIn(type: string, message: string): number | null {
  if (type !== "hello" && type !== "goodbye") return null;
  const { reconnectWithinMs, withinMs } = JSON.parse(message) as Partial<HelloMessage & GoodbyeMessage>;
  return Math.round(Math.random() * (reconnectWithinMs ?? withinMs ?? 0));
}
