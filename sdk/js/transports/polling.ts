/** A stream of one message: a ruleset or values, fetched. */
import type { Clock } from "../sync/clock.ts";
import type { End, Patch, Put } from "../sync/state.ts";
import type { Transport } from "../sync/transport.ts";
import { endOf, messageOf, oneAtATime } from "./connection.ts";
import type { Protocol } from "./protocol.ts";

const FETCH_DEADLINE_MS = 30_000;

/** Delivers a `put` or `unchanged`, then ends. The ETag is sent for as long as what came with it is what is held. */
export function pollingTransport<P extends Put, D extends Patch>(
  protocol: Protocol<P, D>,
  clock: Clock,
  deadlineMs = FETCH_DEADLINE_MS,
): Transport<P, D> {
  let etag: string | null = null;
  let etagOf: number | null = null;
  return oneAtATime(({ since, atLeast }, sink) => {
    const abort = new AbortController();
    const cancel = clock.timer(deadlineMs, () => abort.abort(new Error(`no answer in ${deadlineMs / 1000} s`)));
    const poll = async (): Promise<End> => {
      const { url, ...request } = protocol.poll(atLeast);
      if (etag !== null && since === etagOf) request.headers["If-None-Match"] = etag;
      const response = await protocol.fetch(url, { ...request, signal: abort.signal });
      if (response.status === 304) sink.message({ type: "unchanged" });
      else {
        if (response.status !== 200) return endOf(protocol, response);
        const put = protocol.readWhole(await response.text());
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
