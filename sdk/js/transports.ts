import { PONG } from "@bunting/core/wire";
import { createParser } from "eventsource-parser";
import type { Clock } from "./clock.ts";
import type { Endpoint } from "./credentials.ts";
import { type Incoming, readMessage, readRuleset } from "./messages.ts";
import type { End } from "./sync-state.ts";

/** `fetch` as every platform has it, and a service binding's too. */
export type Fetch = (
  url: string,
  init: { method?: string; headers: Record<string, string>; body?: string; signal?: AbortSignal },
) => Promise<Response>;

/** The part of a WebSocket that is used; the second argument is undici's, Bun's and Deno's way to send headers. */
type Socket = {
  send(text: string): void;
  close(code?: number): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number; reason: string }) => void): void;
  addEventListener(type: "error", listener: (event: unknown) => void): void;
};
export type SocketConstructor = new (url: string, init: { headers: Record<string, string> }) => Socket;

/** `since`: the revision held; `atLeast`: one that is known to exist. */
type Resume = { since: number | null; atLeast: number | null };

type Sink = { message(message: Incoming): void; closed(end: End): void };

/**
 * One connection at a time. `closed` comes exactly once after `open`, and last; after `close()` nothing comes at all.
 * A poll is a stream of one message.
 */
export interface Transport {
  open(resume: Resume, sink: Sink): void;
  send(text: string): void;
  close(): void;
}

const FETCH_DEADLINE_MS = 30_000;
/** A server's largest message is 64 KB; an SSE line may be a little more. */
const MAX_BUFFER = 1_048_576;
/** Private-use close codes that mirror 401 and 403; 1008 is "policy violation" (RFC 6455, 7.4.1). */
const REFUSALS = new Set([4401, 4403, 1008]);

export function webSocketTransport(endpoint: Endpoint, Constructor: SocketConstructor): Transport {
  let socket: Socket | null = null;
  return {
    open(resume, sink) {
      const url = `${endpoint.url.replace(/^http/, "ws")}/sdk/v1/socket${query({ since: resume.since })}`;
      let opened: Socket;
      try {
        opened = new Constructor(url, { headers: endpoint.headers() });
      } catch (error) {
        queueMicrotask(() => sink.closed({ reason: `WebSocket: ${messageOf(error)}` }));
        return;
      }
      socket = opened;
      let failure = "";
      opened.addEventListener("message", ({ data }) => {
        if (socket !== opened) return;
        sink.message(
          data === PONG ? { type: "heard" } : typeof data === "string" ? readMessage(data) : { type: "garbage" },
        );
      });
      opened.addEventListener("error", (event) => {
        failure = messageOf((event as { error?: unknown }).error ?? (event as { message?: unknown }).message);
      });
      opened.addEventListener("close", ({ code, reason }) => {
        if (socket !== opened) return;
        socket = null;
        const detail = [reason, failure].filter(Boolean).join(", ");
        sink.closed({ reason: `WebSocket closed (${code}${detail && `: ${detail}`})`, refused: REFUSALS.has(code) });
      });
    },
    send(text) {
      // undici throws while connecting and drops silently once closing; both mean that the text no longer matters.
      try {
        socket?.send(text);
      } catch {}
    },
    close() {
      const closing = socket;
      socket = null;
      closing?.close(1000);
    },
  };
}

export function sseTransport(endpoint: Endpoint): Transport {
  let current: AbortController | null = null;
  return {
    open(resume, sink) {
      const controller = new AbortController();
      current = controller;
      const listening: Sink = {
        message: (message) => current === controller && sink.message(message),
        closed(end) {
          if (current !== controller) return;
          current = null;
          controller.abort();
          sink.closed(end);
        },
      };
      readEvents(endpoint, resume, controller.signal, listening.message).then(
        (end) => listening.closed(end),
        (error: unknown) => listening.closed({ reason: `stream: ${messageOf(error)}` }),
      );
    },
    send() {},
    close() {
      const closing = current;
      current = null;
      closing?.abort();
    },
  };
}

async function readEvents(
  endpoint: Endpoint,
  resume: Resume,
  signal: AbortSignal,
  deliver: (message: Incoming) => void,
): Promise<End> {
  const headers: Record<string, string> = { ...endpoint.headers(), Accept: "text/event-stream" };
  if (resume.since !== null) headers["Last-Event-ID"] = String(resume.since);
  const url = `${endpoint.url}/sdk/v1/stream${query({ since: resume.since })}`;
  const response = await endpoint.fetch(url, { headers, signal });
  if (response.status !== 200 || response.body === null) return endOf(response);
  const parser = createParser({
    onEvent: (event) => deliver(readMessage(event.data, event.event)),
    onComment: () => deliver({ type: "heard" }),
    onError: () => deliver({ type: "garbage" }),
    maxBufferSize: MAX_BUFFER,
  });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { reason: "the server ended the stream" };
    parser.feed(decoder.decode(value, { stream: true }));
  }
}

/** Delivers a `ruleset` or `unchanged`, then ends. The ETag of the last whole ruleset is kept between polls. */
export function pollingTransport(endpoint: Endpoint, clock: Clock, deadlineMs = FETCH_DEADLINE_MS): Transport {
  let current: AbortController | null = null;
  let etag: string | null = null;
  async function poll(resume: Resume, signal: AbortSignal): Promise<{ message?: Incoming; end: End }> {
    const headers: Record<string, string> = { ...endpoint.headers(), "Cache-Control": "max-age=0" };
    if (etag !== null) headers["If-None-Match"] = etag;
    const url = `${endpoint.url}/sdk/v1/ruleset${query({ revision: resume.atLeast })}`;
    const response = await endpoint.fetch(url, { headers, signal });
    if (response.status === 304) return { message: { type: "unchanged" }, end: { reason: "", clean: true } };
    if (response.status !== 200) return { end: await endOf(response) };
    const read = readRuleset(await response.text());
    if ("mistake" in read) return { end: { reason: read.mistake } };
    etag = response.headers.get("ETag");
    return { message: { type: "ruleset", ruleset: read.ruleset }, end: { reason: "", clean: true } };
  }
  return {
    open(resume, sink) {
      const controller = new AbortController();
      current = controller;
      const cancel = clock.timer(deadlineMs, () => controller.abort(new Error(`no answer in ${deadlineMs / 1000} s`)));
      poll(resume, controller.signal)
        .catch((error: unknown): { message?: Incoming; end: End } => ({ end: { reason: messageOf(error) } }))
        .then(({ message, end }) => {
          cancel();
          if (current !== controller) return;
          current = null;
          if (message !== undefined) sink.message(message);
          sink.closed(end);
        });
    },
    send() {},
    close() {
      const closing = current;
      current = null;
      closing?.abort();
    },
  };
}

async function endOf(response: Response): Promise<End> {
  // Unread bodies hold a connection (and in workerd one of the six that a request may have).
  await response.body?.cancel();
  const refused = response.status === 401 || response.status === 403;
  const reason = refused
    ? `the server refused the server key (${response.status}): it may be revoked, or belong to another deployment`
    : response.status === 404
      ? "no Bunting answers at this url (404): check url, and that the environment still exists"
      : `the server answered ${response.status}`;
  const retryAfterMs = retryAfter(response.headers.get("Retry-After"));
  return retryAfterMs === null ? { reason, refused } : { reason, refused, retryAfterMs };
}

/** `Retry-After` in milliseconds (RFC 9110, 10.2.3: seconds; its date form depends on two clocks and is not used here), at most an hour. */
export function retryAfter(header: string | null): number | null {
  return header !== null && /^\d{1,9}$/.test(header) ? Math.min(Number(header) * 1000, 3_600_000) : null;
}

function query(fields: Record<string, number | null>): string {
  const pairs = Object.entries(fields).flatMap(([name, value]) => (value === null ? [] : [`${name}=${value}`]));
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}

/** undici says only "fetch failed" and keeps the reason in `cause`. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return error === undefined ? "" : String(error);
  const cause = error.cause instanceof Error ? error.cause : null;
  return cause === null ? error.message : `${error.message}: ${(cause as { code?: string }).code ?? cause.message}`;
}
