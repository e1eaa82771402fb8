import type { Flag } from "@bunting/core";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../test/support/peer.ts";
import { VERSION } from "./client/credentials.ts";
import { type Change, type Client, createClient, type NodeOptions } from "./node.ts";
import packageFile from "./package.json";

const on = (version = 1, more: Partial<Flag> = {}) => booleanFlag("new-checkout", true, version, more);
const off = (version = 1, more: Partial<Flag> = {}) => booleanFlag("new-checkout", false, version, more);
const user = { targetingKey: "user-42" };

let peer: Peer;
let clients: Client[];
let logged: string[];

beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [off()])).start();
  clients = [];
  logged = [];
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await peer.stop();
});

function connect(options: Partial<NodeOptions> = {}): Client {
  const logger = { warn: (text: string) => logged.push(text), error: (text: string) => logged.push(text) };
  const client = createClient({ serverKey: SERVER_KEY, url: peer.url, name: "shop", logger, ...options });
  clients.push(client);
  return client;
}

const next = <Name extends "change" | "connected" | "disconnected" | "error" | "ready">(client: Client, name: Name) =>
  new Promise<Parameters<Parameters<typeof client.on<Name>>[1]>[0]>((resolve) => {
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

describe.each(["websocket", "sse"] as const)("over %s", (transport) => {
  const streams = { streams: [transport] };

  test("a change reaches a getter and reports its keys, revision and age (R15)", async () => {
    const client = await live(streams);
    expect(client.boolean("new-checkout", true, user)).toBe(false);
    const change = next(client, "change");
    peer.publish(on(2));
    expect(await change).toMatchObject({ revision: 11, previous: 10, flags: ["new-checkout"], segments: [] });
    expect((await change).ageMs).toBeGreaterThanOrEqual(0);
    expect(client.boolean("new-checkout", false, user)).toBe(true);
    expect(client.status()).toMatchObject({ transport, connected: true, revision: 11, stale: false });
  });

  test("a kill serves the off variation (R7)", async () => {
    peer.ruleset = rulesetOf(10, [on()]);
    const client = await live(streams);
    const change = next(client, "change");
    peer.publish(on(1, { killed: true }));
    await change;
    expect(client.details("new-checkout", true, user)).toMatchObject({ value: false, reason: "KILLED" });
  });

  test("invalid responses, unknown messages and unknown fields change nothing (EV-36)", async () => {
    const client = await live(streams);
    for (const text of [
      "{",
      "[]",
      "null",
      '{"type":"patch","revision":"11"}',
      '{"type":"patch","revision":11,"previous":10,"flags":{"a":7}}',
    ]) {
      peer.sendText(text);
      for (const stream of peer.streams) stream.write(`event: patch\ndata: ${text}\n\n`);
    }
    peer.send({ type: "confetti", amount: 3 });
    const change = next(client, "change");
    peer.publish({ ...on(2), sparkle: true } as Flag);
    expect((await change).revision).toBe(11);
    expect(client.status().invalidResponses).toBe(5);
    expect(logged).toHaveLength(1);
  });

  test("a gap is repaired by the whole ruleset, and evaluation goes on meanwhile (Q8)", async () => {
    const client = await live(streams);
    const change = next(client, "change");
    peer.change(on(2));
    peer.publish(on(3));
    expect(client.boolean("new-checkout", true, user)).toBe(false);
    expect(await change).toMatchObject({ revision: 12, previous: 10, publishedAt: null, flags: ["new-checkout"] });
    expect(peer.requests.findLast(({ url }) => url.includes("ruleset"))?.url).toBe("/sdk/v1/ruleset?revision=12");
  });

  test("a resync fetches the ruleset, at least at the revision that was requested", async () => {
    const client = await live(streams);
    const change = next(client, "change");
    peer.change(on(2));
    peer.send({ type: "resync", revision: 11, withinMs: 20 });
    expect((await change).revision).toBe(11);
    expect(peer.requests.findLast(({ url }) => url.includes("ruleset"))?.url).toBe("/sdk/v1/ruleset?revision=11");
  });

  test("a server that restarts with changes finds the client again, which evaluated throughout (Q7)", async () => {
    const client = await live(streams);
    const gone = next(client, "disconnected");
    await peer.stop();
    await gone;
    expect(client.boolean("new-checkout", true, user)).toBe(false);
    expect(client.status()).toMatchObject({ transport: "polling", stale: false });
    const back = next(client, "change");
    peer.change(on(2));
    await peer.start();
    expect((await back).revision).toBe(11);
    expect(peer.requests.filter(({ url }) => url.includes("since=10"))).not.toHaveLength(0);
  });

  test("a goodbye moves the client to a new stream before the old one ends (X4)", async () => {
    const client = await live(streams);
    const again = next(client, "connected");
    peer.send({ type: "goodbye", withinMs: 1, reason: "deploy" });
    await again;
    expect(peer.count(transport === "sse" ? "stream" : "socket")).toBe(2);
  });

  test("a revoked key is reported and the last-known ruleset kept (R18)", async () => {
    const client = await live(streams);
    const error = next(client, "error");
    peer.refuse = { ruleset: 401, stream: 401, socket: 401 };
    if (transport === "websocket") for (const socket of peer.sockets) socket.close(4401, "key-revoked");
    else peer.send({ type: "resync", revision: 11, withinMs: 0 });
    expect((await error).code).toBe("REFUSED");
    expect(client.boolean("new-checkout", true, user)).toBe(false);
    expect(client.status()).toMatchObject({ connected: false, revision: 10 });
  });
});

test("every request names the client and carries the key in a header, never in the URL", async () => {
  const client = await live();
  client.boolean("new-checkout", false, user);
  await client.flush();
  expect(new Set(peer.requests.map(({ url }) => url.replace(/\?.*/, "")))).toEqual(
    new Set(["/sdk/v1/ruleset", "/sdk/v1/socket", "/sdk/v1/events"]),
  );
  for (const { url, headers } of peer.requests) {
    expect(url).not.toContain("bnt_srv");
    expect(headers.authorization).toBe(`Bearer ${SERVER_KEY}`);
    expect(headers["x-bunting-client"]).toMatch(/^bunting-node\/\d+\.\d+\.\d+;instance=[0-9a-f-]{36};name=shop$/);
  }
});

test("what has been applied is acknowledged (X1)", async () => {
  await live();
  peer.publish(on(2));
  peer.publish(off(3));
  await vi.waitFor(() => expect(peer.applied.at(-1)).toBe(12));
});

test("where WebSockets are refused it streams by SSE (Q11)", async () => {
  peer.refuse = { socket: 403 };
  vi.spyOn(Math, "random").mockReturnValue(0.001);
  const client = await live();
  vi.restoreAllMocks();
  expect(client.status()).toMatchObject({ transport: "sse", circuits: { websocket: { failures: 5 } } });
});

test("with no streams it polls, and sends the ETag", async () => {
  const client = connect({ streams: [] });
  expect(await client.ready()).toBe(true);
  expect(client.status()).toMatchObject({ transport: "polling", connected: true, revision: 10 });
  expect(peer.count("socket") + peer.count("stream")).toBe(0);
});

describe("starting (R15)", () => {
  test("without waiting, getters answer defaults; ready() resolves when flags have come", async () => {
    peer.ruleset = rulesetOf(1, [on()]);
    const client = connect();
    expect(client.details("new-checkout", false, user)).toMatchObject({ value: false, errorCode: "FLAG_NOT_FOUND" });
    expect(logged).toEqual([]);
    expect(await client.ready()).toBe(true);
    expect(client.boolean("new-checkout", false, user)).toBe(true);
  });

  test("while the server is away ready() gives up in time and comes true later", async () => {
    await peer.stop();
    const client = connect();
    expect(await client.ready({ timeoutMs: 20 })).toBe(false);
    await peer.start();
    expect(await client.ready()).toBe(true);
  });

  test("bootstrap data is evaluated with until the server answers (Q7)", async () => {
    await peer.stop();
    const client = connect({ bootstrap: rulesetOf(3, [on()]) });
    expect(client.boolean("new-checkout", false, user)).toBe(true);
    expect(client.status()).toMatchObject({ ready: false, revision: 3 });
    const change = next(client, "change");
    await peer.start();
    expect(await change).toMatchObject({ previous: 3, revision: 10 });
  });

  test("a refused key ends the waiting at once and says what to do", async () => {
    const client = connect({ serverKey: "bnt_srv_env-1_of-someone-else" });
    const error = next(client, "error");
    expect(await client.ready()).toBe(false);
    expect(await error).toMatchObject({ code: "REFUSED", message: expect.stringContaining("may be revoked") });
    expect(logged.join()).not.toContain("of-someone-else");
  });

  test.each([
    ["cut off", '{"schema":1,"revision":10,"flags":{"new-ch'],
    ["not a ruleset", '{"hello":"world"}'],
    ["of a later schema", '{"schema":2,"revision":10}'],
    ["with a flag that is no document", '{"schema":1,"revision":10,"flags":{"a":null}}'],
  ])("a snapshot that is %s is not used, and requested again", async (_, body) => {
    peer.body = body;
    const client = connect();
    await next(client, "error");
    expect(client.status()).toMatchObject({ ready: false, revision: null });
    peer.body = null;
    expect(await client.ready()).toBe(true);
  });

  test.each([
    [{ serverKey: "" }, "serverKey is missing"],
    [{ serverKey: "bnt_cli_env-1_abc" }, "use the environment's server key"],
    [{ serverKey: "bnt_api_abc" }, "tokens are for the management API"],
    [{ serverKey: " bnt_srv_env-1_abc" }, "malformed"],
    [{ url: "flags.example.com" }, "not an address"],
    [{ url: "ftp://flags.example.com" }, "must begin with https://"],
  ])("misuse throws and names the remedy: %o", (options, message) => {
    expect(() => createClient({ serverKey: SERVER_KEY, url: peer.url, ...options })).toThrow(message);
  });
});

describe("getters", () => {
  const flagOf = (key: string, type: Flag["type"], value: Flag["variations"][number]["value"]): Flag => ({
    ...booleanFlag(key, true, 4),
    type,
    variations: [{ key: "on", value }],
    offVariation: null,
  });

  test("answer values of their own type, and the default with TYPE_MISMATCH for any other (EV-8)", async () => {
    peer.ruleset = rulesetOf(1, [
      flagOf("text", "string", "hi"),
      flagOf("size", "number", 7),
      flagOf("conf", "json", { a: [1] }),
    ]);
    const client = await live();
    expect(client.string("text", "x", user)).toBe("hi");
    expect(client.number("size", 0, user)).toBe(7);
    expect(client.json("conf", {}, user)).toEqual({ a: [1] });
    expect(client.boolean("text", true, user)).toBe(true);
    expect(client.number("text", 3, user)).toBe(3);
    expect(client.details("text", false, user)).toEqual({
      value: false,
      variation: null,
      reason: "ERROR",
      errorCode: "TYPE_MISMATCH",
      flagVersion: 4,
    });
    expect(client.details("size", null, user).value).toBe(7);
  });

  test("never throw, whatever they are given", async () => {
    const client = await live();
    const hostile = new Proxy(
      {},
      {
        get: () => {
          throw new Error("no");
        },
        ownKeys: () => {
          throw new Error("no");
        },
      },
    );
    for (const context of [null, 7, "x", hostile, { targetingKey: Symbol("x") }]) {
      expect(client.boolean("new-checkout", true, context as never)).toBe(false);
      expect(() => client.all(context as never)).not.toThrow();
      expect(() => client.track("paid", context as never)).not.toThrow();
    }
    expect(client.boolean(undefined as never, true)).toBe(true);
  });

  test("an unknown flag answers the default and is warned of once (EV-2, R15)", async () => {
    const client = await live();
    for (let n = 0; n < 5; n++) expect(client.string("no-such", "fallback", user)).toBe("fallback");
    expect(logged).toEqual([
      'Bunting: flag "no-such" does not exist in this environment: create it, or check its spelling. Its default is used.',
    ]);
  });

  test("a deleted flag answers the default (R15)", async () => {
    const client = await live();
    const change = next(client, "change");
    peer.send({ type: "patch", revision: 11, previous: 10, flags: { "new-checkout": null }, segments: {} });
    expect(await change).toMatchObject({ flags: ["new-checkout"], ageMs: null });
    expect(client.boolean("new-checkout", true, user)).toBe(true);
  });

  test("all() decides every flag and counts nothing", async () => {
    peer.ruleset = rulesetOf(1, [on(), booleanFlag("other", false, 1)]);
    const client = await live();
    expect(Object.keys(client.all(user)).toSorted()).toEqual(["new-checkout", "other"]);
    expect(client.status().events.buffered).toBe(0);
  });
});

test("with the flags' types given, keys and types are checked by the compiler", async () => {
  const quiet = { warn: () => {}, error: () => {} };
  const options = { serverKey: SERVER_KEY, url: peer.url, streams: [], logger: quiet };
  const typed = createClient<{ "new-checkout": boolean; limit: number }>(options);
  await typed.ready();
  expect(typed.boolean("new-checkout", true)).toBe(false);
  expect(typed.number("limit", 5)).toBe(5);
  // @ts-expect-error: there is no such flag
  typed.boolean("new-chekout", false);
  // @ts-expect-error: it is a number
  typed.boolean("limit", false);
  await typed.close();
});

describe("listeners", () => {
  test("one that throws stops neither the others nor the client", async () => {
    const client = await live();
    const seen: Change[] = [];
    client.on("change", () => {
      throw new Error("mine");
    });
    const stop = client.on("change", (change) => seen.push(change));
    peer.publish(on(2));
    await vi.waitFor(() => expect(seen).toHaveLength(1));
    expect(logged).toEqual(['Bunting: a listener for "change" threw: Error: mine']);
    stop();
    const change = next(client, "change");
    peer.publish(off(3));
    await change;
    expect(seen).toHaveLength(1);
  });

  test("a fetched ruleset names only the documents that differ", async () => {
    peer.ruleset = rulesetOf(10, [
      off(),
      booleanFlag("same", true, 3),
      booleanFlag("gone", true, 1),
      booleanFlag("killed", true, 1),
    ]);
    const client = await live();
    const change = next(client, "change");
    const { same, killed } = peer.ruleset.flags;
    peer.ruleset = rulesetOf(20, [on(2), same!, { ...killed!, killed: true }, booleanFlag("added", true, 1)]);
    peer.send({ type: "resync", revision: 20, withinMs: 0 });
    expect((await change).flags.toSorted()).toEqual(["added", "gone", "killed", "new-checkout"]);
  });
});

describe("close()", () => {
  test("ends the connection, sends the events, and leaves the last ruleset in place", async () => {
    const client = await live();
    client.boolean("new-checkout", false, user);
    await client.close();
    await client.close();
    await vi.waitFor(() => expect(peer.sockets.size).toBe(0));
    expect(peer.batches).toHaveLength(1);
    expect(client.status().closed).toBe(true);
    expect(client.boolean("new-checkout", true, user)).toBe(false);
  });

  test("before any response, it resolves all waiting callers", async () => {
    const client = connect();
    const ready = client.ready();
    await client.close();
    expect(await ready).toBe(false);
  });
});

test("the version that requests name is the package's", () => {
  expect(VERSION).toBe(packageFile.version);
});
