import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../test/support/peer.ts";
import { systemClock } from "./sync/clock.ts";
import { createClient, WorkersClient, type WorkersOptions } from "./workers.ts";

const user = { targetingKey: "user-42" };
let peer: Peer;
let logged: string[];
let aheadMs: number;
/** What the wall clock knows alone. */
let sleptMs: number;
let kept: Promise<unknown>[];

/** Real timers and sockets; only the hands of the clock are moved. */
const clock = { ...systemClock, now: () => Date.now() + aheadMs + sleptMs, elapsed: () => performance.now() + aheadMs };
const ctx = { waitUntil: (promise: Promise<unknown>) => void kept.push(promise) };

beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", true, 1)])).start();
  logged = [];
  kept = [];
  aheadMs = 0;
  sleptMs = 0;
});
afterEach(async () => {
  await Promise.race([Promise.all(kept), new Promise((resolve) => setTimeout(resolve, 100))]);
  await peer.stop();
});

function connect(options: Partial<WorkersOptions> = {}): WorkersClient {
  const logger = { warn: (text: string) => logged.push(text), error: (text: string) => logged.push(text) };
  return new WorkersClient(
    { serverKey: SERVER_KEY, url: peer.url, logger, flushMs: 5, ...options },
    clock,
    Math.random,
  );
}

describe("a Worker's ruleset (R14)", () => {
  test("is there for the first request, and a thousand at once cost one fetch", async () => {
    const bunting = connect();
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, async () => (await bunting.forRequest(ctx)).boolean("new-checkout", false, user)),
    );
    expect(answers.every(Boolean)).toBe(true);
    expect(peer.count("ruleset")).toBe(1);
  });

  test("is asked for again in the background, at most once a second, with the ETag and the revision held", async () => {
    const bunting = connect();
    await bunting.forRequest(ctx);
    peer.change(booleanFlag("new-checkout", false, 2));
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", false, user)).toBe(true);
    expect(peer.count("ruleset")).toBe(1);
    aheadMs += 1_100;
    const changed = new Promise((resolve) => bunting.client.on("change", resolve));
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", false, user)).toBe(true);
    expect(await changed).toMatchObject({ revision: 11, flags: ["new-checkout"] });
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", true, user)).toBe(false);
    expect(peer.requests.filter(({ url }) => url.includes("ruleset"))[1]).toMatchObject({
      url: "/sdk/v1/ruleset?revision=10",
      headers: { "if-none-match": '"10"' },
    });
  });

  test("not verified for over 5 s is verified before it is used", async () => {
    const bunting = connect({ waitMs: 5_000 });
    await bunting.forRequest(ctx);
    peer.change(booleanFlag("new-checkout", false, 2));
    aheadMs += 5_100;
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", true, user)).toBe(false);
  });

  test("of an isolate that slept, which its monotonic clock does not know, is verified before it is used", async () => {
    const bunting = connect();
    await bunting.forRequest(ctx);
    peer.change(booleanFlag("new-checkout", false, 2));
    sleptMs = 60_000;
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", true, user)).toBe(false);
    expect(bunting.client.status()).toMatchObject({ stale: false, revision: 11 });
  });

  test("is used as last known and reported stale, once, when the server is away (Q7)", async () => {
    const bunting = connect();
    await bunting.forRequest(ctx);
    await peer.stop();
    const stale: unknown[] = [];
    bunting.client.on("stale", (detail) => stale.push(detail));
    for (let n = 0; n < 5; n++) {
      aheadMs += 5_100;
      expect((await bunting.forRequest(ctx)).boolean("new-checkout", false, user)).toBe(true);
    }
    expect(stale).toHaveLength(1);
    expect(bunting.client.status()).toMatchObject({ stale: true, connected: false, revision: 10 });
    expect(logged.filter((text) => !text.includes("events"))).toHaveLength(1);
  });

  test("is never replaced by an older one (Q8)", async () => {
    const bunting = connect();
    await bunting.forRequest(ctx);
    peer.ruleset = rulesetOf(9, [booleanFlag("new-checkout", false, 1)]);
    await bunting.refresh(ctx);
    expect(bunting.client.status()).toMatchObject({ revision: 10 });
  });

  test("asked for by several at once, each has an answer to its own question", async () => {
    const bunting = connect();
    const asking = [bunting.forRequest(ctx), bunting.refresh(ctx), bunting.refresh(ctx)];
    expect(await Promise.all(asking)).toEqual([bunting.client, true, true]);
    expect(peer.count("ruleset")).toBe(3);
    // Nobody's `waitUntil` is left with what will never end.
    await Promise.all(kept);
  });

  test("survives a request that was ended before its answer came", async () => {
    const never = new Promise<Response>(() => {});
    let hang = true;
    const binding = {
      fetch: (url: string, init: object) => (hang ? never : fetch(url.replace("https://bunting", peer.url), init)),
    };
    const bunting = connect({ binding, url: undefined, startMs: 5 });
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", false, user)).toBe(false);
    hang = false;
    aheadMs += 15_000;
    expect(await bunting.refresh(ctx)).toBe(true);
    expect((await bunting.forRequest(ctx)).boolean("new-checkout", false, user)).toBe(true);
  });
});

test("by a service binding the same requests are made", async () => {
  const seen: string[] = [];
  const binding = {
    fetch(url: string, init: object) {
      seen.push(url);
      return fetch(url.replace("https://bunting", peer.url), init);
    },
  };
  const bunting = connect({ binding, url: undefined });
  expect(await bunting.ready(ctx)).toBe(true);
  expect(seen).toEqual(["https://bunting/sdk/v1/ruleset"]);
});

test("ready() is false, in time, while there is no ruleset", async () => {
  await peer.stop();
  expect(await connect({ startMs: 20 }).ready(ctx)).toBe(false);
});

test("a refused key is reported, and asked with no more than about once a minute", async () => {
  const bunting = connect({ serverKey: "bnt_srv_env-1_other" });
  expect(await bunting.ready(ctx)).toBe(false);
  aheadMs += 20_000;
  await bunting.forRequest(ctx);
  expect(peer.count("ruleset")).toBe(1);
  expect(logged).toEqual([expect.stringContaining("refused the server key (401)")]);
});

test("events of many requests leave in one batch, by waitUntil", async () => {
  const bunting = connect();
  for (let n = 0; n < 50; n++) (await bunting.forRequest(ctx)).boolean("new-checkout", false, user);
  await Promise.all(kept);
  await vi.waitFor(() => expect(peer.batches).toHaveLength(1));
  expect(peer.batches[0]?.events).toMatchObject([{ kind: "summary", counts: [{ flag: "new-checkout", count: 50 }] }]);
});

test("misuse throws where the Worker starts", () => {
  expect(() => createClient({ serverKey: "bnt_cli_env-1_abc", url: "https://flags.example.com" })).toThrow(
    "client key",
  );
  expect(() => createClient({ serverKey: SERVER_KEY })).toThrow("url is missing");
});
