/** What servers, networks and clocks do to a Node client that runs: it goes on evaluating, says what is wrong, and comes back (Q7, Q11). Time passes fifty times as fast. */
import type { Flag } from "@bunting/core";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { type Client, type ClientEvents, createClient, type NodeOptions } from "../node.ts";
import { systemClock } from "../sync/clock.ts";

const FASTER = 50;
const on = (version = 1, more: Partial<Flag> = {}) => booleanFlag("new-checkout", true, version, more);
const off = (version = 1) => booleanFlag("new-checkout", false, version);
const user = { targetingKey: "user-42" };
let peer: Peer;
let clients: Client[];
let errors: ClientEvents["error"][];

beforeEach(async () => {
  const { timer } = systemClock;
  vi.spyOn(systemClock, "elapsed").mockImplementation(() => performance.now() * FASTER);
  vi.spyOn(systemClock, "timer").mockImplementation((ms, fire) => timer.call(systemClock, ms / FASTER, fire));
  peer = await new Peer(rulesetOf(10, [off()])).start();
  clients = [];
  errors = [];
});
afterEach(async () => {
  await peer.stop();
  await Promise.all(clients.map((client) => client.close()));
  vi.restoreAllMocks();
});

function connect(options: Partial<NodeOptions> = {}): Client {
  const logger = { warn: () => {}, error: () => {} };
  const client = createClient({ serverKey: SERVER_KEY, url: peer.url, events: false, logger, ...options });
  client.on("error", (error) => errors.push(error));
  clients.push(client);
  return client;
}

const next = <Name extends "change" | "connected" | "disconnected" | "stale" | "error">(client: Client, name: Name) =>
  new Promise<ClientEvents[Name]>((resolve) => {
    const stop = client.on(name, (detail) => {
      stop();
      resolve(detail);
    });
  });

async function live(options: Partial<NodeOptions> = {}): Promise<Client> {
  const client = connect(options);
  await next(client, "connected");
  return client;
}

/** It is connected, and has what changed meanwhile. */
async function isBack(client: Client): Promise<void> {
  peer.change(on(2));
  await vi.waitFor(() => expect(client.boolean("new-checkout", false, user)).toBe(true), 20_000);
  await vi.waitFor(() => expect(client.status()).toMatchObject({ connected: true, stale: false }), 20_000);
}

const STREAMS = ["websocket", "sse"] as const;

describe.each(STREAMS)("over %s", (stream) => {
  const streams = { streams: [stream] };

  test("a connection that died without a word is left after a minute, and its client says stale and comes back", async () => {
    const client = await live(streams);
    peer.silent = true;
    expect((await next(client, "disconnected")).reason).toMatch(/silent/);
    await next(client, "stale");
    expect(client.status()).toMatchObject({ transport: "polling", stale: true, revision: 10 });
    expect(client.boolean("new-checkout", true, user)).toBe(false);
    peer.silent = false;
    await isBack(client);
  });

  test("a stream of which a byte comes now and then is no stream: it polls, and streams once it can", async () => {
    peer.trickleMs = 20;
    const client = connect({ ...streams, bootstrap: rulesetOf(1, [off()]) });
    expect(await next(client, "error")).toMatchObject({
      code: "UNREACHABLE",
      message: expect.stringMatching(/no answer/),
    });
    expect(client.status()).toMatchObject({ source: "bootstrap", stale: true, connected: false });
    peer.trickleMs = null;
    await isBack(client);
    await vi.waitFor(() => expect(client.status().transport).toBe(stream), 20_000);
    peer.trickleMs = 20;
    for (const socket of peer.sockets) socket.terminate();
    for (const open of peer.streams) open.destroy();
    await next(client, "disconnected");
    await vi.waitFor(() => expect(client.status().circuits[stream]?.failures).toBeGreaterThan(0), 20_000);
    expect(client.boolean("new-checkout", false, user)).toBe(true);
    peer.trickleMs = null;
    await vi.waitFor(() => expect(client.status().transport).toBe(stream), 20_000);
  });

  test.each([401, 403, 429, 500, 503])(
    "a stream that is answered %i leaves it polling, and is tried again",
    async (status) => {
      peer.refuse = stream === "websocket" ? { socket: status } : { stream: status };
      const client = connect(streams);
      expect(await client.ready()).toBe(true);
      await vi.waitFor(() => expect(peer.count(stream === "websocket" ? "socket" : "stream")).toBeGreaterThan(0));
      await vi.waitFor(() => expect(client.status()).toMatchObject({ transport: "polling", revision: 10 }));
      expect(client.boolean("new-checkout", true, user)).toBe(false);
      peer.refuse = {};
      await vi.waitFor(() => expect(client.status().transport).toBe(stream), 25_000);
      const change = next(client, "change");
      peer.publish(on(2));
      expect((await change).revision).toBe(11);
    },
  );

  test("a server that restarts again and again in the middle of streams is found each time, and no change is missed (Q8)", async () => {
    const client = await live(streams);
    const chain: (number | null)[] = [];
    client.on("change", ({ previous, revision }) => chain.push(previous, revision));
    for (let version = 2; version < 6; version++) {
      const gone = next(client, "disconnected");
      const back = next(client, "connected");
      await peer.stop();
      await gone;
      peer.change(version % 2 === 0 ? on(version) : off(version));
      await peer.start();
      await back;
      await vi.waitFor(() => expect(client.status().revision).toBe(10 + version - 1), 20_000);
    }
    expect(chain).toEqual([10, 11, 11, 12, 12, 13, 13, 14]);
  });
});

test.each([
  [401, "REFUSED"],
  [403, "REFUSED"],
  [404, "UNREACHABLE"],
  [429, "UNREACHABLE"],
  [500, "UNREACHABLE"],
  [503, "UNREACHABLE"],
] as const)(
  "a ruleset that is answered %i is reported as %s, once, and requested until it comes",
  async (status, code) => {
    peer.refuse = { ruleset: status };
    peer.headers = { "Retry-After": "1" };
    const client = connect({ streams: [] });
    expect(await next(client, "error")).toMatchObject({ code, message: expect.stringContaining(String(status)) });
    expect(client.boolean("new-checkout", true, user)).toBe(true);
    expect(client.status()).toMatchObject({ ready: false, connected: false, source: "none" });
    peer.refuse = {};
    await vi.waitFor(() => expect(client.status().ready).toBe(true), 20_000);
    expect(errors).toHaveLength(1);
  },
);

test("frames that are binary, empty, enormous or no UTF-8 are counted, and the next one is understood", async () => {
  const client = await live({ streams: ["websocket"] });
  for (const socket of peer.sockets) {
    socket.send(Buffer.from([0xff, 0xfe, 0x00]));
    socket.send("");
    socket.send(`{"type":"patch","revision":11,"previous":10,"flags":"${"x".repeat(2_000_000)}"}`);
    socket.send("[".repeat(100_000));
  }
  const change = next(client, "change");
  peer.publish(on(2));
  expect(await change).toMatchObject({ revision: 11, previous: 10 });
  expect(client.status().invalidResponses).toBe(4);
});

test("server-sent events without an end are not gathered for ever", async () => {
  const client = await live({ streams: ["sse"] });
  const gone = next(client, "disconnected");
  for (const open of peer.streams)
    for (let pieces = 0; pieces < 40; pieces++) open.write(`data: ${"x".repeat(65_536)}`);
  await gone;
  await isBack(client);
});

describe("a clock that is set", () => {
  test.each([
    ["back by a day", -86_400_000],
    ["to 1970", -Date.now()],
  ])("%s moves nothing: neither staleness, nor polls, nor the age of a change below zero", async (_, jumpMs) => {
    const client = await live({ streams: ["websocket"], events: {} });
    client.boolean("new-checkout", false, user);
    const asked = peer.requests.length;
    vi.spyOn(systemClock, "now").mockImplementation(() => Date.now() + jumpMs);
    client.boolean("new-checkout", false, user);
    const change = next(client, "change");
    peer.publish(on(2));
    const { ageMs } = await change;
    expect(ageMs).toBeGreaterThanOrEqual(0);
    expect(client.status()).toMatchObject({ transport: "websocket", stale: false, connected: true });
    expect(client.status().verifiedAgeMs).toBeLessThan(60_000);
    expect(peer.requests.slice(asked).filter(({ url }) => !url.endsWith("/events"))).toEqual([]);
    await client.flush();
    expect(peer.batches.flatMap(({ events }) => events)).toMatchObject([{ kind: "summary", counts: [{ count: 2 }] }]);
  });

  test("ahead by a day, which nothing tells from a sleep of a day, costs one poll and is then forgotten", async () => {
    const client = await live({ streams: ["websocket"] });
    const polls = peer.count("ruleset");
    vi.spyOn(systemClock, "now").mockImplementation(() => Date.now() + 86_400_000);
    expect(client.status()).toMatchObject({ transport: "websocket", stale: true, connected: true });
    await vi.waitFor(() => expect(client.status()).toMatchObject({ stale: false, transport: "websocket" }));
    expect(peer.count("ruleset")).toBe(polls + 1);
  });
});

test("events that a server does not take are kept, or dropped where it never will, and counted either way", async () => {
  const client = await live({ events: { maxBuffered: 5 } });
  for (const status of [429, 500, 503, 401]) {
    peer.refuse = { events: status };
    client.track("paid", user);
    await client.flush();
    expect(client.status().events).toMatchObject({ dropped: 0 });
  }
  expect(client.status().events.buffered).toBe(4);
  peer.refuse = { events: 400 };
  await client.flush();
  await vi.waitFor(async () => {
    await client.flush();
    expect(client.status().events).toMatchObject({ buffered: 0, dropped: 4 });
  });
  expect(errors.filter(({ code }) => code === "EVENTS").length).toBeLessThanOrEqual(1);
});
