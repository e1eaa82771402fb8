import { createParser } from "eventsource-parser";
import type { End, Patch, Put } from "./sync/state.ts";
import type { Sink, Transport } from "./sync/transport.ts";
import { endOf, messageOf, oneAtATime } from "./transports/connection.ts";
import type { Protocol } from "./transports/protocol.ts";

/** A server's largest message is 64 KB, all values of a large environment a few times that. */
const MAX_BUFFER = 1_048_576;

/** Server-sent events by `fetch`, which can send a body and headers where EventSource cannot. */
export function sseTransport<P extends Put, D extends Patch>(protocol: Protocol<P, D>): Transport<P, D> {
  return oneAtATime(({ since }, sink) => {
    const abort = new AbortController();
    readEvents(protocol, since, abort.signal, sink).then(sink.closed, (error: unknown) =>
      sink.closed({ reason: `stream: ${messageOf(error)}` }),
    );
    return () => abort.abort();
  });
}

async function readEvents<P extends Put, D extends Patch>(
  protocol: Protocol<P, D>,
  since: number | null,
  signal: AbortSignal,
  sink: Sink<P, D>,
): Promise<End> {
  const { url, ...request } = protocol.stream(since);
  request.headers.Accept = "text/event-stream";
  if (since !== null) request.headers["Last-Event-ID"] = String(since);
  const response = await protocol.fetch(url, { ...request, signal });
  if (response.status !== 200 || response.body === null) return endOf(protocol, response);
  const parser = createParser({
    onEvent: (event) => sink.message(protocol.readMessage(event.data, event.event)),
    onComment: () => sink.message({ type: "alive" }),
    onError: () => sink.message({ type: "invalid" }),
    maxBufferSize: MAX_BUFFER,
  });
  // It takes the one byte order mark away that a stream may begin with.
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { reason: "the server ended the stream" };
    parser.feed(decoder.decode(value, { stream: true }));
  }
}
