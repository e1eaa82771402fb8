/**
 * Streams of values, for client keys: evaluated here for the context that the client sent, so that no rule leaves the
 * edge. Over both transports a stream holds one socket at its relay, which tells it when to look.
 */
import { type ContextMessage, type HelloMessage, PING, PONG, SILENCE_SECONDS } from "@bunting/core/wire";
import { ApiError } from "../../platform/problem.ts";
import { parseJson } from "../../platform/request-body.ts";
import { type Bucket, takeFrom } from "../../platform/token-bucket.ts";
import type { Caller } from "../authenticate.ts";
import { checkContext, type EvaluationContext, MAX_STREAM_CONTEXT_BYTES } from "../evaluation-context.ts";
import { recall } from "../ruleset/cache.ts";
import type { IsolateRuleset, Visit } from "../ruleset/isolate-ruleset.ts";
import { nextValues, type Position } from "../values.ts";
import { RelayFeed } from "./relay-feed.ts";
import { MAX_WAITING_BYTES, relaySocket, requireUpgrade, sinceOf } from "./ruleset-stream.ts";
import { EventStream } from "./server-sent-events.ts";

/** Close codes of ours, as relays use them, and one for what a client may not say. */
const SILENT = 4408;
const BAD_MESSAGE = 4400;
const TOO_MANY = 4429;

/** Somebody who opens a socket and says nothing is let go. */
const FIRST_CONTEXT_MS = 10_000;
/** Each costs an evaluation of everything. */
const CONTEXTS = { perSecond: 2, burst: 20 };
/** What a waiting message takes beside its text, about. */
const MESSAGE_BYTES = 256;

const encoder = new TextEncoder();

/** The values of one context, as far as they were told. */
class Values {
  #context: EvaluationContext | null;
  #position: Position | null;
  #recalled = false;
  readonly #visit: Visit;

  constructor(visit: Visit, context: EvaluationContext | null, since: number | null) {
    this.#visit = visit;
    this.#context = context;
    this.#position = since === null ? null : { since };
  }

  /** Another context has nothing in common with what was told before; the first may be the one that `since` is about. */
  change(context: EvaluationContext): void {
    if (this.#context !== null) this.#position = null;
    this.#context = context;
  }

  get sentRevision(): number {
    return this.#position !== null && "sent" in this.#position ? this.#position.sent : 0;
  }

  async next(ruleset: IsolateRuleset) {
    if (this.#context === null) return null;
    if (this.#position !== null && "since" in this.#position && !this.#recalled) {
      this.#recalled = true;
      await recall(this.#visit, ruleset, this.#position.since);
    }
    const { message, position } = nextValues(ruleset, this.#context, this.#position);
    this.#position = position;
    return message;
  }
}

export async function openValueStream(caller: Caller, request: Request, context: EvaluationContext): Promise<Response> {
  const values = new Values(caller.visit, context, sinceOf(request));
  const upstream = await relaySocket(caller);
  const stream = new EventStream(() => feed.end(1001, "client gone"));
  const feed = new RelayFeed(upstream, caller, request, {
    // EventSource comes back by itself: at a random moment of its window, like every client of ours.
    hello: (message) => stream.write("hello", message, { retryMs: Math.random() * message.reconnectWithinMs }),
    async advance(ruleset) {
      const message = await values.next(ruleset);
      if (message !== null) stream.write(message.type, message, { id: message.revision });
    },
    heartbeat: () => stream.write("heartbeat", { type: "heartbeat", revision: values.sentRevision }),
    goodbye: (message) => stream.write("goodbye", message, { retryMs: Math.random() * message.withinMs }),
    end: () => stream.end(),
  });
  feed.start();
  return stream.response;
}

export async function openValueSocket(caller: Caller, request: Request): Promise<Response> {
  requireUpgrade(request);
  const values = new Values(caller.visit, null, sinceOf(request));
  const upstream = await relaySocket(caller);
  const { 0: client, 1: server } = new WebSocketPair();
  const send = (text: string) => {
    try {
      server.send(text);
    } catch {
      // Closed: its close event tells.
    }
  };
  // Nothing tells what a socket's client has read: all that it was sent may be waiting. Spread, as a stream's life is.
  let leftBytes = MAX_WAITING_BYTES * (1 + Math.random());
  const sendWithin = (text: string) => {
    send(text);
    leftBytes -= encoder.encode(text).length + MESSAGE_BYTES;
    if (leftBytes <= 0) feed.renew();
  };
  let lastMessageAt = Date.now();
  let contexts: Bucket | null = null;
  const feed = new RelayFeed(upstream, caller, request, {
    hello: (message: HelloMessage) => send(JSON.stringify(message)),
    async advance(ruleset) {
      const message = await values.next(ruleset);
      if (message !== null) sendWithin(JSON.stringify(message));
    },
    // Clients ping; one that has not for so long is gone.
    heartbeat() {
      if (Date.now() - lastMessageAt > SILENCE_SECONDS * 1_000) feed.end(SILENT, "silent");
    },
    goodbye: (message) => send(JSON.stringify(message)),
    end: (code, reason) => closeQuietly(server, code, reason),
  });
  const patience = setTimeout(() => feed.end(SILENT, "no context"), FIRST_CONTEXT_MS);
  server.addEventListener("message", ({ data }) => {
    lastMessageAt = Date.now();
    if (data === PING) {
      sendWithin(PONG);
      return;
    }
    const received = contextIn(data);
    if (received === null) return;
    if ("refusal" in received) return feed.end(BAD_MESSAGE, received.refusal);
    const { bucket, allowed } = takeFrom(contexts, 1, CONTEXTS, lastMessageAt);
    contexts = bucket;
    if (!allowed) return feed.end(TOO_MANY, "the context changes too often");
    clearTimeout(patience);
    values.change(received.context);
    feed.look();
  });
  const left = () => {
    clearTimeout(patience);
    feed.end(1000, "client gone");
  };
  server.addEventListener("close", left);
  server.addEventListener("error", left);
  server.accept();
  feed.start();
  return new Response(null, { status: 101, webSocket: client });
}

/** Null for what later clients may say. A close reason has at most 123 bytes. */
function contextIn(data: unknown): { context: EvaluationContext } | { refusal: string } | null {
  if (typeof data !== "string") return { refusal: "send text" };
  // No text has fewer bytes than characters.
  if (data.length > MAX_STREAM_CONTEXT_BYTES) return { refusal: "the context is too large" };
  try {
    const message = parseJson(data) as Partial<ContextMessage> | null;
    return message?.context === undefined ? null : { context: checkContext(message) };
  } catch (error) {
    return { refusal: error instanceof ApiError ? error.message.slice(0, 100) : "not a message" };
  }
}

/** 1005, 1006 and 1015 say how a close was seen and cannot be sent. */
function closeQuietly(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(code === 1005 || code === 1006 || code === 1015 ? 1001 : code, reason);
  } catch {
    // Already closed.
  }
}
