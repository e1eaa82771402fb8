import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, CLIENT_KEY, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { openSocket, openWithPackage } from "../node/socket.ts";
import { sseTransport } from "../sse.ts";
import { systemClock } from "../sync/clock.ts";
import type { End, Incoming } from "../sync/state.ts";
import type { Transport } from "../sync/transport.ts";
import { retryAfter } from "./connection.ts";
import { pollingTransport } from "./polling.ts";
import type { Endpoint, Fetch, Protocol } from "./protocol.ts";
import { type OpenSocket, rulesetProtocol } from "./ruleset-protocol.ts";
import { valuesProtocol } from "./values-protocol.ts";
import { webSocketTransport } from "./websocket.ts";

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", true, 1)])).start();
});
afterEach(() => peer.stop());

const endpoint = (key = SERVER_KEY): Endpoint => ({
  url: peer.url,
  headers: () => ({ Authorization: `Bearer ${key}` }),
  fetch: (url, init) => fetch(url, init),
});
const context = '{"context":{"targetingKey":"ada"}}';
const overFetch: Fetch = (url, init) => fetch(url, init);
const rulesets = (refused: boolean, open: OpenSocket): Protocol =>
  rulesetProtocol(endpoint(refused ? "bnt_srv_env-1_other" : SERVER_KEY), open) as unknown as Protocol;
/** With a server key and with a client key; `refused` are keys that the server does not take. */
const protocols = {
  rulesets: (refused: boolean) => rulesets(refused, openSocket),
  "rulesets where the platform has no WebSocket": (refused: boolean) => rulesets(refused, openWithPackage),
  values: (refused: boolean) =>
    valuesProtocol(
      peer.url,
      refused ? "bnt_cli_env-1_other" : CLIENT_KEY,
      "test",
      overFetch,
      () => context,
    ) as Protocol,
};
const transports = {
  websocket: (protocol: Protocol): Transport => webSocketTransport(protocol),
  sse: (protocol: Protocol): Transport => sseTransport(protocol),
  polling: (protocol: Protocol): Transport => pollingTransport(protocol, systemClock),
};
const kinds = Object.keys(transports) as (keyof typeof transports)[];
const contents = Object.keys(protocols) as (keyof typeof protocols)[];
const polls = () => transports.polling(protocols.rulesets(false));

type Received = { messages: Incoming[]; ends: End[] };
function listen(transport: Transport, since = 10, received: Received = { messages: [], ends: [] }): Received {
  transport.open(
    { since, atLeast: null },
    {
      message(message) {
        expect(received.ends, "nothing comes after the end").toEqual([]);
        received.messages.push(message);
      },
      closed: (end) => void received.ends.push(end),
    },
  );
  return received;
}
const settle = () => new Promise((resolve) => setTimeout(resolve, 30));

const cases = contents
  .flatMap((content) => kinds.map((kind) => [kind, content] as const))
  .filter(([kind, content]) => kind === "websocket" || !content.includes("no WebSocket"));

describe.each(cases)("the transport contract: %s, of %s", (kind, content) => {
  const make = (refused = false) => transports[kind](protocols[content](refused));

  test("delivers what the server says", async () => {
    const transport = make();
    const received = listen(transport);
    await vi.waitFor(() => expect(received.messages[0]?.type).toBe(kind === "polling" ? "put" : "hello"));
    if (content === "values") await vi.waitFor(() => expect(peer.contexts).toEqual([JSON.parse(context)]));
    expect(peer.requests.every(({ url }) => !url.includes("ada"))).toBe(true);
    transport.close();
  });

  test("ends once when the server goes away", async () => {
    const transport = make();
    if (kind === "polling") peer.body = '{"schema":1';
    const received = listen(transport);
    if (kind !== "polling") await vi.waitFor(() => expect(received.messages).not.toEqual([]));
    await peer.stop();
    await vi.waitFor(() => expect(received.ends).toHaveLength(1));
    await settle();
    expect(received.ends).toHaveLength(1);
    expect(received.ends[0]?.reason).not.toBe("");
  });

  test("ends once when nobody answers at all", async () => {
    const transport = make();
    await peer.stop();
    const received = listen(transport);
    await vi.waitFor(() => expect(received.ends).toHaveLength(1));
    expect(received.messages).toEqual([]);
  });

  test("says nothing after close(), which may be called at any time and twice", async () => {
    const transport = make();
    transport.close();
    const received = listen(transport);
    transport.close();
    transport.close();
    transport.send?.("ping");
    await settle();
    expect(received).toEqual({ messages: [], ends: [] });
  });

  test("can be opened again, without an echo of the time before", async () => {
    const transport = make();
    const first = listen(transport);
    transport.close();
    const second = listen(transport);
    await vi.waitFor(() => expect(second.messages.length).toBeGreaterThan(0));
    expect(first).toEqual({ messages: [], ends: [] });
    transport.close();
  });

  test("can be opened again by who hears its first message, and goes on from there", async () => {
    const transport = make();
    const first: string[] = [];
    const second: Received = { messages: [], ends: [] };
    const message = ({ type }: Incoming) => {
      first.push(type);
      if (first.length === 1) listen(transport, 10, second);
    };
    transport.open({ since: 10, atLeast: null }, { message, closed: () => void first.push("closed") });
    await vi.waitFor(() => expect(second.messages).not.toEqual([]));
    await settle();
    expect(first).toHaveLength(1);
    transport.close();
  });

  test("says whether the key was refused, where the platform lets it know", async () => {
    const transport = make(true);
    const received = listen(transport);
    await vi.waitFor(() => expect(received.ends).toHaveLength(1));
    // A browser-style WebSocket hides the status of a failed handshake: the next poll finds out.
    expect(received.ends[0]?.refused).toBe(kind !== "websocket");
  });
});

test("a poll after a poll asks with the ETag and hears that nothing changed", async () => {
  const transport = polls();
  const received = listen(transport);
  await vi.waitFor(() => expect(received.ends).toEqual([{ reason: "", clean: true }]));
  const again = listen(transport);
  await vi.waitFor(() => expect(again.messages).toEqual([{ type: "unchanged" }]));
});

test("an answer that was not taken is not what a later one may call unchanged", async () => {
  const transport = polls();
  const received = listen(transport, 11);
  await vi.waitFor(() => expect(received.ends).toHaveLength(1));
  const again = listen(transport, 11);
  await vi.waitFor(() => expect(again.messages).toMatchObject([{ type: "put", revision: 10 }]));
});

test("a server that does not finish its answer is given up on", async () => {
  vi.spyOn(systemClock, "timer").mockImplementation((ms, fire) => {
    const handle = setTimeout(fire, ms / 1_000);
    return () => clearTimeout(handle);
  });
  const hanging: Endpoint = {
    ...endpoint(),
    fetch: (_, { signal }) =>
      new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
  };
  const received = listen(pollingTransport(rulesetProtocol(hanging), systemClock));
  await vi.waitFor(() => expect(received.ends).toEqual([{ reason: "no answer in 30 s" }]));
  vi.restoreAllMocks();
});

test.each([
  ["5", 5_000],
  ["0", 0],
  ["999999999", 3_600_000],
  ["-1", null],
  ["soon", null],
  [null, null],
])("Retry-After %s is %s ms", (header, ms) => {
  expect(retryAfter(header)).toBe(ms);
});
