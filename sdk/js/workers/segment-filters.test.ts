/** Big segments in a Worker (EV-20): nobody but its requests has the time to fetch their filters. */
import { emptyFilter, filterSize, placeOf, type Segment, setBits } from "@bunting/core";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { type Clock, systemClock } from "../sync/clock.ts";
import { WorkersClient, type WorkersOptions } from "../workers.ts";

const flag = booleanFlag("for-members", false, 1, {
  rules: [{ id: "r", conditions: [{ segment: ["s"] }], serve: { variation: "on" } }],
});
let peer: Peer;
let aheadMs: number;
let kept: Promise<unknown>[];
let pauses: number[];
/** Real timers and sockets; only the hands of the clock are moved. */
const clock: Clock = {
  ...systemClock,
  elapsed: () => performance.now() + aheadMs,
  timer(ms, fire) {
    pauses.push(ms);
    return systemClock.timer(ms, fire);
  },
};
const ctx = { waitUntil: (promise: Promise<unknown>) => void kept.push(promise) };

/** A new revision in which the segment has a generation with these members. */
function publish(generation: number, members: string[], lists: { added?: string[]; removed?: string[] } = {}): void {
  const size = filterSize(members.length);
  const filter = emptyFilter(size);
  for (const member of members) setBits(filter, size, ...placeOf(member));
  const url = `/sdk/v1/segments/s/${generation}`;
  const big = { generation, count: members.length, ...size, url, added: [], removed: [], ...lists };
  const segment: Segment = { key: "s", version: 1, included: [], excluded: [], rules: [], big };
  peer.ruleset = { ...peer.ruleset, revision: peer.ruleset.revision + 1, segments: { s: segment } };
  peer.filters.set(url, filter);
}

/** Holds filters back until it is called. */
function hold(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  peer.filtersAfter = promise;
  return resolve;
}

function connect(options: Partial<WorkersOptions> = {}): WorkersClient {
  const logger = { warn: () => {}, error: () => {} };
  return new WorkersClient(
    { serverKey: SERVER_KEY, url: peer.url, logger, events: false, ...options },
    clock,
    Math.random,
  );
}

const ask = async (bunting: WorkersClient, ...users: string[]) => {
  const flags = await bunting.forRequest(ctx);
  return users.map((targetingKey) => flags.boolean("for-members", false, { targetingKey }));
};

beforeEach(async () => {
  peer = await new Peer(rulesetOf(1, [flag])).start();
  aheadMs = 0;
  kept = [];
  pauses = [];
});
afterEach(() => peer.stop());

test("all that ask an isolate that has just started wait for the filter, which is fetched once", async () => {
  publish(1, ["ada", "grace"]);
  const release = hold();
  const bunting = connect({ startMs: 20_000 });
  const first = ask(bunting, "ada", "eve");
  // The ruleset is there by now, and what the first one waits for is the filter.
  await vi.waitFor(() => expect(peer.count("segments")).toBe(1));
  const others = Array.from({ length: 50 }, () => ask(bunting, "grace", "eve"));
  // Nor does an answer to the question whether the ruleset is still the same end the wait.
  aheadMs += 1_100;
  others.push(ask(bunting, "grace", "eve"));
  await vi.waitFor(() => expect(peer.count("ruleset")).toBe(2));
  others.push(ask(bunting, "grace", "eve"));
  setTimeout(release, 20);
  expect(await first).toEqual([true, false]);
  expect(new Set((await Promise.all(others)).map(String))).toEqual(new Set(["true,false"]));
  expect([peer.count("ruleset"), peer.count("segments")]).toEqual([2, 1]);
});

test("a filter that does not come is waited for once, and not by each request", async () => {
  publish(1, ["ada"], { added: ["listed"] });
  const release = hold();
  const bunting = connect({ startMs: 20_000, revalidateMs: 100_000, verifyMs: 100_000 });
  const first = ask(bunting, "ada", "listed");
  await vi.waitFor(() => expect(peer.count("segments")).toBe(1));
  // Its own patience is over.
  aheadMs += 20_000;
  expect(await first).toEqual([false, true]);
  pauses = [];
  expect(await ask(bunting, "ada", "listed")).toEqual([false, true]);
  expect(pauses).toEqual([]);
  release();
  await Promise.all(kept);
  expect(await ask(bunting, "ada", "listed")).toEqual([true, true]);
});

test("a newer generation replaces the older one, which answers meanwhile with all that is known to have changed", async () => {
  publish(1, ["ada", "grace"]);
  const bunting = connect({ waitMs: 20_000 });
  expect(await ask(bunting, "ada", "grace", "eve")).toEqual([true, true, false]);
  publish(2, ["grace", "eve"], { added: ["new"], removed: ["grace"] });
  const release = hold();
  aheadMs += 1_100;
  await ask(bunting);
  await vi.waitFor(() => expect(peer.count("segments/s/2")).toBe(1));
  expect(await ask(bunting, "ada", "grace", "eve", "new")).toEqual([true, false, false, true]);
  release();
  await Promise.all(kept);
  expect(await ask(bunting, "ada", "grace", "eve", "new")).toEqual([false, false, true, true]);
});

test("a filter that could not be fetched is fetched with a later request", async () => {
  publish(1, ["ada"]);
  const filter = peer.filters.get("/sdk/v1/segments/s/1")!;
  peer.filters.clear();
  const bunting = connect();
  expect(await ask(bunting, "ada")).toEqual([false]);
  peer.filters.set("/sdk/v1/segments/s/1", filter);
  aheadMs += 1_100;
  await ask(bunting);
  await Promise.all(kept);
  expect(await ask(bunting, "ada")).toEqual([true]);
});
