import fc from "fast-check";
import { expect, test } from "vitest";
import { liveFeed } from "./driver.ts";
import { ASLEEP_MS, sleep } from "./sleep.ts";
import type { News } from "./state.ts";
import type { Sink, Transport } from "./transport.ts";

/** A clock whose two hands a test moves, and a server that answers when the test says so. */
function made(options?: { lookMs: number; lateMs: number }) {
  let wall = 1_000_000;
  let elapsed = 0;
  const timers = new Set<{ at: number; fire: () => void }>();
  const clock = {
    now: () => wall,
    elapsed: () => elapsed,
    timer(ms: number, fire: () => void) {
      const one = { at: elapsed + ms, fire };
      timers.add(one);
      return () => void timers.delete(one);
    },
  };
  let sink: Sink | undefined;
  let polls = 0;
  const polling: Transport = {
    open: (_, given) => {
      polls += 1;
      sink = given;
    },
    close: () => {},
  };
  const news: News[] = [];
  const store = {
    revision: null as number | null,
    install({ revision }: { revision: number }) {
      store.revision = revision;
    },
    apply: () => {},
    confirm: () => {},
    report: (one: News) => void news.push(one),
  };
  const feed = liveFeed(store, { polling, streams: {} }, clock, () => 0.5, options);
  feed.start();
  const answer = () => {
    sink!.message({ type: "put", revision: 7 } as never);
    sink!.closed({ reason: "", clean: true });
  };
  answer();
  return {
    feed,
    news,
    answer,
    polls: () => polls,
    /** Time passes as seen by one clock or both; then the timers that are due fire, as they do when a process goes on. */
    pass(ms: { wall: number; elapsed: number }) {
      wall += ms.wall;
      elapsed += ms.elapsed;
      for (const one of [...timers].filter(({ at }) => at <= elapsed)) if (timers.delete(one)) one.fire();
    },
  };
}

const stale = (news: News[]) => news.filter(({ type }) => type === "stale");

test("a laptop or sandbox that slept, which the monotonic clock does not know, is stale at once and asks at once", () => {
  const { feed, news, polls, answer, pass } = made();
  pass({ wall: 20_000, elapsed: 0 });
  expect(feed.status()).toMatchObject({ stale: true, verifiedAgeMs: 20_000 });
  expect(stale(news)).toEqual([{ type: "stale", forMs: 20_000 }]);
  expect(polls()).toBe(2);
  answer();
  expect(feed.status()).toMatchObject({ stale: false, verifiedAgeMs: 0 });
});

test("without anybody asking, the sleep is found out with the next look at the clocks", () => {
  const { news, polls, pass } = made();
  pass({ wall: 20_000, elapsed: 0 });
  expect(polls()).toBe(1);
  pass({ wall: 5_000, elapsed: 5_000 });
  expect(stale(news)).toHaveLength(1);
  expect(polls()).toBe(2);
});

test("a process that was stopped, which both clocks know, finds it out by a look that is late", () => {
  const { news, polls, pass } = made({ lookMs: 1_000, lateMs: 1_000 });
  for (let second = 0; second < 10; second++) pass({ wall: 1_000, elapsed: 1_000 });
  expect(polls()).toBe(1);
  pass({ wall: 12_000, elapsed: 12_000 });
  expect(stale(news)).toHaveLength(1);
  expect(polls()).toBe(2);
});

test("in a page a late timer is a tab in the background, and no sleep", () => {
  const { news, polls, pass } = made();
  pass({ wall: 12_000, elapsed: 12_000 });
  expect(stale(news)).toEqual([]);
  expect(polls()).toBe(1);
});

test("an answer that was on its way through the sleep is not waited for", () => {
  const { polls, pass } = made();
  pass({ wall: 30_000, elapsed: 30_000 });
  expect(polls()).toBe(2);
  pass({ wall: 60_000, elapsed: 5_000 });
  expect(polls()).toBe(3);
});

test("a closed client neither looks nor asks", () => {
  const { feed, polls, pass } = made();
  feed.close();
  pass({ wall: 90_000, elapsed: 6_000 });
  expect(feed.status().connected).toBe(false);
  expect(polls()).toBe(1);
});

test("a clock that is set back, or corrected by less than a sleep, is no sleep", () => {
  fc.assert(
    fc.property(fc.integer({ min: -1e9, max: ASLEEP_MS - 1 }), fc.nat(1e6), (correction, passed) => {
      const before = { wall: 5_000, elapsed: 100 };
      const now = { wall: 5_000 + passed + correction, elapsed: 100 + passed };
      const { sleptMs, missedMs } = sleep(before, now, Number.POSITIVE_INFINITY);
      expect(sleptMs).toBeLessThan(ASLEEP_MS);
      expect(missedMs).toBe(Math.max(0, correction));
    }),
  );
});
