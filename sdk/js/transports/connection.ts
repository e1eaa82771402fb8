import { PONG } from "@bunting/core/wire";
import type { Clock } from "../sync/clock.ts";
import type { End, Incoming, Patch, Put } from "../sync/state.ts";
import type { Dialect, Socket } from "./protocol.ts";

/** `since`: the revision held; `atLeast`: one that is known to exist. */
type Resume = { since: number | null; atLeast: number | null };

export type Sink<P extends Put = Put, D extends Patch = Patch> = {
  message(message: Incoming<P, D>): void;
  closed(end: End): void;
};

/**
 * One connection at a time. `closed` comes exactly once after `open`, and last; after `close()` nothing comes at all.
 * A poll is a stream of one message.
 */
export interface Transport<P extends Put = Put, D extends Patch = Patch> {
  open(resume: Resume, sink: Sink<P, D>): void;
  send?(text: string): void;
  close(): void;
}

const FETCH_DEADLINE_MS = 30_000;
/** Private-use close codes that mirror 401 and 403; 1008 is "policy violation" (RFC 6455, 7.4.1). */
const REFUSALS = [4401, 4403, 1008];

/** Holds `begin`, which answers how to stop what it began, to the contract. */
export function oneAtATime<P extends Put, D extends Patch>(
  begin: (resume: Resume, sink: Sink<P, D>) => () => void,
): Transport<P, D> {
  let close = () => {};
  return {
    open(resume, sink) {
      close();
      let isOpen = true;
      const stop = begin(resume, {
        message: (message) => isOpen && sink.message(message),
        closed(end) {
          if (!isOpen) return;
          close();
          sink.closed(end);
        },
      });
      close = () => {
        isOpen = false;
        stop();
        close = () => {};
      };
    },
    close: () => close(),
  };
}

export function webSocketTransport<P extends Put, D extends Patch>(dialect: Dialect<P, D>): Transport<P, D> {
  let socket: Socket | undefined;
  return {
    ...oneAtATime<P, D>(({ since }, sink) => {
      let failure = "";
      let opened: Socket | undefined;
      try {
        socket = opened = dialect.socket(since);
        const { greeting } = dialect;
        if (greeting) opened.addEventListener("open", () => socket!.send(greeting()));
        opened.addEventListener("message", ({ data }) =>
          sink.message(data === PONG ? { type: "heard" } : dialect.readMessage(String(data))),
        );
        opened.addEventListener("error", (event) => {
          failure = messageOf((event as { error?: unknown }).error ?? (event as { message?: unknown }).message);
        });
        opened.addEventListener("close", ({ code, reason }) =>
          sink.closed({
            reason: `WebSocket closed (${[code, reason, failure].filter(Boolean).join(", ")})`,
            refused: REFUSALS.includes(code),
          }),
        );
      } catch (error) {
        queueMicrotask(() => sink.closed({ reason: `WebSocket: ${messageOf(error)}` }));
      }
      return () => opened?.close(1000);
    }),
    send(text) {
      // Platforms throw while connecting and drop silently once closing; both mean that the text no longer matters.
      try {
        socket?.send(text);
      } catch {}
    },
  };
}

/** Delivers a `put` or `unchanged`, then ends. The ETag is sent for as long as what came with it is what is held. */
export function pollingTransport<P extends Put, D extends Patch>(
  dialect: Dialect<P, D>,
  clock: Clock,
  deadlineMs = FETCH_DEADLINE_MS,
): Transport<P, D> {
  let etag: string | null = null;
  let etagOf: number | null = null;
  return oneAtATime(({ since, atLeast }, sink) => {
    const abort = new AbortController();
    const cancel = clock.timer(deadlineMs, () => abort.abort(new Error(`no answer in ${deadlineMs / 1000} s`)));
    const poll = async (): Promise<End> => {
      const { url, ...question } = dialect.poll(atLeast);
      if (etag !== null && since === etagOf) question.headers["If-None-Match"] = etag;
      const response = await dialect.fetch(url, { ...question, signal: abort.signal });
      if (response.status === 304) sink.message({ type: "unchanged" });
      else {
        if (response.status !== 200) return endOf(dialect, response);
        const put = dialect.readWhole(await response.text());
        if (typeof put === "string") return { reason: put };
        etag = response.headers.get("ETag");
        etagOf = put.revision;
        sink.message(put);
      }
      return { reason: "", clean: true };
    };
    poll()
      .catch((error: unknown) => ({ reason: messageOf(error) }))
      .then((end) => {
        cancel();
        sink.closed(end);
      });
    return () => abort.abort();
  });
}

export async function endOf(dialect: Pick<Dialect, "explain">, response: Response): Promise<End> {
  const { status } = response;
  // Unread bodies hold a connection (and in workerd one of the six that a request may have).
  await response.body?.cancel();
  const reason = dialect.explain?.(status) ?? `the server answered ${status}`;
  const retryAfterMs = retryAfter(response.headers.get("Retry-After"));
  return { reason, refused: status === 401 || status === 403, ...(retryAfterMs !== null && { retryAfterMs }) };
}

/** `Retry-After` in milliseconds (RFC 9110, 10.2.3: seconds; its date form depends on two clocks and is not used here), at most an hour. */
export function retryAfter(header: string | null): number | null {
  return header !== null && /^\d{1,9}$/.test(header) ? Math.min(Number(header) * 1000, 3_600_000) : null;
}

/** undici says only "fetch failed" and keeps the reason in `cause`. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return error === undefined ? "" : String(error);
  const cause = error.cause instanceof Error ? error.cause : null;
  return cause === null ? error.message : `${error.message}: ${(cause as { code?: string }).code ?? cause.message}`;
}
