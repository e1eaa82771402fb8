import { describe, expect, test } from "vitest";
import vectors from "../../test/third-party/sse/parser-vectors.json" with { type: "json" };
import { sseTransport } from "./sse.ts";
import type { Protocol } from "./transports/protocol.ts";

type Dispatched = { type: string; data: string };

/** What is read from a stream whose bytes come in pieces of this size. */
function read(bytes: Uint8Array, size: number): Promise<Dispatched[]> {
  const dispatched: Dispatched[] = [];
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
  const protocol: Protocol = {
    fetch: async () => new Response(body, { headers: { "content-type": "text/event-stream" } }),
    poll: () => ({ url: "", headers: {} }),
    stream: () => ({ url: "", headers: {} }),
    socket() {
      throw new Error("no sockets here");
    },
    readWhole: () => "",
    readMessage(data, type = "message") {
      dispatched.push({ type, data });
      return { type: "alive" };
    },
  };
  return new Promise((resolve) => {
    sseTransport(protocol).open({ since: null, atLeast: null }, { message() {}, closed: () => resolve(dispatched) });
  });
}

// Neither `id` nor `retry` is used: where to resume is said in the URL, and when is said in messages.
describe.each(vectors.vectors)("server-sent events: $id ($source)", ({ stream, expect: dispatched }) => {
  const bytes = new TextEncoder().encode(stream);

  test.each([bytes.length, 1, 2, 7])("in pieces of %i bytes", async (size) => {
    const expected = (dispatched as Dispatched[]).map(({ type, data }) => ({ type, data }));
    expect(await read(bytes, size)).toEqual(expected);
  });
});
