/** The last ruleset outside the isolate, in a real KV namespace; test/flows/customer-cache.test.ts has both in workerd (R15, Q7). */
import type { Ruleset } from "@bunting/core";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { systemClock } from "../sync/clock.ts";
import { WorkersClient, type WorkersOptions } from "../workers.ts";
import type { KVBinding } from "./cache.ts";

const user = { targetingKey: "user-42" };
const on = (version: number) => booleanFlag("new-checkout", true, version);
const off = (version: number) => booleanFlag("new-checkout", false, version);
let miniflare: Miniflare;
let peer: Peer;
let kv: KVBinding & { delete(key: string): Promise<void>; get(key: string): Promise<string | null> };
let aheadMs: number;
let kept: Promise<unknown>[];

/** Real timers and sockets; only the hands of the clock are moved. */
const clock = { ...systemClock, elapsed: () => performance.now() + aheadMs };
const ctx = { waitUntil: (promise: Promise<unknown>) => void kept.push(promise) };
const settled = async () => {
  while (kept.length > 0) await kept.shift();
};

beforeAll(async () => {
  const script = 'export default { fetch: () => new Response("") }';
  const options = { modules: true, script, compatibilityDate: "2026-08-04", kvNamespaces: ["FLAGS"] } as const;
  miniflare = new Miniflare(convertV4MiniflareOptions({ ...options, kvNamespaces: ["FLAGS"] }));
  await miniflare.ready;
  kv = (await miniflare.getKVNamespace("FLAGS")) as unknown as typeof kv;
}, 60_000);
afterAll(() => miniflare.dispose());

beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [on(1)])).start();
  aheadMs = 0;
  kept = [];
});
afterEach(async () => {
  await settled();
  await peer.stop();
});

/** A new isolate; what it keeps it writes at once. */
function isolate(options: Partial<WorkersOptions> = {}): WorkersClient {
  const logger = { warn: () => {}, error: () => {} };
  return new WorkersClient({ serverKey: SERVER_KEY, url: peer.url, events: false, logger, ...options }, clock, () => 0);
}

describe("an isolate's cache", () => {
  // A test leaves nothing behind that another one would find.
  let serverKey: string;
  let number = 0;
  beforeEach(() => {
    serverKey = `bnt_srv_${++number}_0123456789abcdef`;
    peer.serverKeys.add(serverKey);
  });
  const start = (more: Partial<WorkersOptions> = {}) => isolate({ serverKey, cache: { kv }, ...more });

  async function written(ruleset?: Ruleset): Promise<void> {
    if (ruleset !== undefined) peer.ruleset = ruleset;
    await start().forRequest(ctx);
    await settled();
  }

  test("an isolate that starts while Bunting is away serves the last ruleset, says stale, and goes on trying", async () => {
    await written();
    await peer.stop();
    const bunting = start();
    const flags = await bunting.forRequest(ctx);
    expect(flags.boolean("new-checkout", false, user)).toBe(true);
    expect(flags.status()).toMatchObject({ source: "cache", stale: true, revision: 10, ready: false });
    await settled();
    expect(flags.status().circuits).toMatchObject({ polling: { failures: 1 } });
    peer.change(off(2));
    await peer.start();
    aheadMs += 1_100;
    await bunting.refresh(ctx);
    expect(flags.boolean("new-checkout", true, user)).toBe(false);
    expect(flags.status()).toMatchObject({ source: "snapshot", stale: false, revision: 11, ready: true, circuits: {} });
  });

  test("an isolate that starts costs the server a 304, and then is as fresh as any", async () => {
    await written();
    const bunting = start({ waitMs: 5_000 });
    const flags = await bunting.forRequest(ctx);
    expect(peer.requests.at(-1)).toMatchObject({
      url: "/sdk/v1/ruleset?revision=10",
      headers: { "if-none-match": '"10"' },
    });
    expect(flags.status()).toMatchObject({ source: "snapshot", stale: false, revision: 10, ready: true });
    peer.change(off(2));
    aheadMs += 1_100;
    await bunting.refresh(ctx);
    expect(flags.boolean("new-checkout", true, user)).toBe(false);
  });

  test("a server that hangs is not waited for like the first time, once the cache has something", async () => {
    await written();
    peer.silent = true;
    // Else the test would take that long.
    const bunting = start({ startMs: 1_000_000 });
    const answers = await Promise.all(Array.from({ length: 50 }, () => bunting.forRequest(ctx)));
    for (const flags of answers) expect(flags.boolean("new-checkout", false, user)).toBe(true);
    await peer.stop();
  });

  test("is not written where the same or a later one is, and at most once a minute", async () => {
    await written(rulesetOf(12, [on(1)]));
    // An edge that is behind, and an isolate that saw nothing else.
    peer.ruleset = rulesetOf(11, [off(1)]);
    const late = start({ waitMs: 0, startMs: 1 });
    await late.refresh(ctx);
    await settled();
    const revisionNow = async () => {
      await peer.stop();
      const { revision } = (await start().forRequest(ctx)).status();
      await peer.start();
      return revision;
    };
    expect(await revisionNow()).toBe(12);
    peer.ruleset = rulesetOf(13, [on(2)]);
    const bunting = start();
    await bunting.forRequest(ctx);
    await settled();
    for (const ahead of [1_100, 20_000]) {
      peer.change(off(3));
      aheadMs += ahead;
      await bunting.refresh(ctx);
      await bunting.forRequest(ctx);
      await settled();
    }
    expect(bunting.client.status().revision).toBe(15);
    expect(await revisionNow()).toBe(13);
    aheadMs += 60_000;
    await bunting.forRequest(ctx);
    await settled();
    expect(await revisionNow()).toBe(15);
  });

  test("of another environment's key nothing is used, and a newer bootstrap comes first and is not confirmed by a 304", async () => {
    await written();
    const other = `bnt_srv_other${number}_0123456789abcdef`;
    peer.serverKeys.add(other);
    await peer.stop();
    expect((await start({ serverKey: other }).forRequest(ctx)).status()).toMatchObject({ source: "none" });
    await settled();
    await peer.start();
    const flags = await start({ bootstrap: rulesetOf(11, [off(2)]), waitMs: 5_000 }).forRequest(ctx);
    expect(flags.status()).toMatchObject({ source: "snapshot", revision: 10 });
    expect(peer.requests.at(-1)?.headers["if-none-match"]).toBeUndefined();
  });
});

test.each([
  ["cut off", '{"schema":1,"revision":10,"fl', { revision: 10, etag: '"10"' }],
  ["of another revision than it says", JSON.stringify(rulesetOf(9, [])), { revision: 10, etag: '"10"' }],
  ["without its label", JSON.stringify(rulesetOf(10, [])), undefined],
  ["somebody else's", "hello", { revision: "x" }],
])("what is in KV and %s is not used, and replaced", async (_, value, metadata) => {
  await kv.put("bunting:env-1", value, { metadata: metadata as never });
  peer.ruleset = rulesetOf(11, [on(1)]);
  const bunting = isolate({ cache: { kv } });
  const flags = await bunting.forRequest(ctx);
  expect(flags.status()).toMatchObject({ source: "snapshot", revision: 11 });
  await settled();
  expect(await kv.get("bunting:env-1")).toBe(JSON.stringify(peer.ruleset));
});

test("a place that fails or hangs costs nothing but the cache", async () => {
  const failing: KVBinding = {
    getWithMetadata: () => Promise.reject(new Error("no")),
    put: () => Promise.reject(new Error("no")),
  };
  const hanging: KVBinding = { getWithMetadata: () => new Promise(() => {}), put: () => new Promise(() => {}) };
  for (const cache of [failing, hanging]) {
    const flags = await isolate({ cache: { kv: cache } }).forRequest(ctx);
    expect(flags.status()).toMatchObject({ source: "snapshot", revision: 10 });
  }
  kept = [];
  const flags = await isolate({ cache: false }).forRequest(ctx);
  expect(flags.status()).toMatchObject({ source: "snapshot" });
});
