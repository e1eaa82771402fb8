import type { End, Patch, Put } from "../sync/state.ts";
import type { Resume, Sink, Transport } from "../sync/transport.ts";
import type { Protocol } from "./protocol.ts";

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

export async function endOf(protocol: Pick<Protocol, "explain">, response: Response): Promise<End> {
  const { status } = response;
  const detail = await problemOf(response);
  const reason = protocol.explain?.(status) ?? `the server answered ${status}${detail && `: ${detail}`}`;
  const retryAfterMs = retryAfter(response.headers.get("Retry-After"));
  const refused = status === 401 || status === 403;
  // Whoever repeats it is answered the same: it is no outage. What is not there yet (404) may come.
  const invalid = status >= 400 && status < 500 && ![401, 403, 404, 408, 429].includes(status);
  return { reason, refused, ...(invalid && { invalid }), ...(retryAfterMs !== null && { retryAfterMs }) };
}

/** The server's own sentence, or nothing. Unread bodies hold a connection (and in workerd one of the six that a request may have). */
async function problemOf(response: Response): Promise<string> {
  if (!/json/.test(response.headers.get("Content-Type") ?? "")) await response.body?.cancel();
  else {
    const { detail } = ((await response.json().catch(() => null)) ?? {}) as { detail?: unknown };
    if (typeof detail === "string") return detail.slice(0, 300);
  }
  return "";
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
