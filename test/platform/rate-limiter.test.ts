import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Env } from "../../workers/env.ts";
import { takeTokens } from "../../workers/platform/rate-limit.ts";
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";

const bindings: Env = env;

describe("the bucket", () => {
  const limits = fc.record({
    perSecond: fc.double({ min: 0.01, max: 10_000, noNaN: true }),
    burst: fc.integer({ min: 1, max: 10_000 }),
  });
  // Waits may be negative: a clock can be set back.
  const requests = fc.array(
    fc.record({ waitMs: fc.integer({ min: -1_000, max: 60_000 }), cost: fc.integer({ min: 0, max: 100 }) }),
    { maxLength: 200 },
  );

  test("never lets through more than its burst plus what refilled since", () => {
    fc.assert(
      fc.property(limits, requests, (limit, sequence) => {
        let bucket: Bucket | null = null;
        let now = 1_760_000_000_000;
        const start = now;
        let latest = now;
        let spent = 0;
        for (const { waitMs, cost } of sequence) {
          now += waitMs;
          latest = Math.max(latest, now);
          const taken = takeFrom(bucket, cost, limit, now);
          bucket = taken.bucket;
          if (taken.allowed) spent += Math.min(cost, limit.burst);
          expect(bucket.tokens).toBeGreaterThanOrEqual(0);
          expect(bucket.tokens).toBeLessThanOrEqual(limit.burst);
        }
        // The first request sets the clock, so a first step back counts from there.
        const refilled = ((latest - Math.min(start, start + (sequence[0]?.waitMs ?? 0))) * limit.perSecond) / 1_000;
        expect(spent).toBeLessThanOrEqual((limit.burst + refilled) * (1 + 1e-9));
      }),
    );
  });

  test("allows what it refused once the time it named has passed", () => {
    fc.assert(
      fc.property(limits, requests, fc.integer({ min: 1, max: 20_000 }), (limit, sequence, cost) => {
        let bucket: Bucket | null = null;
        let now = 1_760_000_000_000;
        for (const request of sequence) {
          now += request.waitMs;
          bucket = takeFrom(bucket, request.cost, limit, now).bucket;
        }
        const refused = takeFrom(bucket, cost, limit, now);
        if (refused.allowed) return;
        expect(refused.retryAfterMs).toBeGreaterThan(0);
        // One millisecond for what binary fractions lose.
        expect(takeFrom(refused.bucket, cost, limit, now + refused.retryAfterMs + 1).allowed).toBe(true);
      }),
    );
  });
});

/** The real namespace, with something in the way of every request. */
function disturbed(namespace: Env["RATE_LIMITER"], disturb: () => Promise<void>): Env["RATE_LIMITER"] {
  const get = (id: DurableObjectId) => {
    const stub = namespace.get(id);
    return { fetch: (request: Request) => disturb().then(() => stub.fetch(request)) };
  };
  return { idFromName: (name: string) => namespace.idFromName(name), get } as unknown as Env["RATE_LIMITER"];
}

/** Starts the object of a name: on a busy machine that alone takes longer than RATE_LIMITER_MS, after which all may pass. */
async function started(name: string): Promise<string> {
  const stub = bindings.RATE_LIMITER.get(bindings.RATE_LIMITER.idFromName(name));
  await stub.fetch("https://itty-durable/do/get-prop/bucket");
  return name;
}

describe("the limiter", () => {
  test("allows the burst, then refuses and says when to come back", async () => {
    const limit = { perSecond: 0.1, burst: 3 };
    const name = await started("events:one");
    const take = () => takeTokens(bindings, name, limit);
    expect([await take(), await take(), await take()]).toEqual(Array(3).fill({ allowed: true }));
    const refused = await take();
    expect(refused.allowed).toBe(false);
    if (!refused.allowed) expect(refused.retryAfterSeconds).toSatisfy((s: number) => s > 0 && s <= 10);
  });

  test("keeps a bucket for each name", async () => {
    const limit = { perSecond: 0.01, burst: 1 };
    const [two, three] = [await started("events:two"), await started("events:three")];
    expect((await takeTokens(bindings, two, limit)).allowed).toBe(true);
    expect((await takeTokens(bindings, two, limit)).allowed).toBe(false);
    expect((await takeTokens(bindings, three, limit)).allowed).toBe(true);
  });

  test("takes any text as a name", async () => {
    const limit = { perSecond: 0.01, burst: 1 };
    for (const name of ["a".repeat(64), "bücket 🚩\r\n", "__proto__", "x".repeat(900)]) {
      await started(name);
      expect((await takeTokens(bindings, name, limit)).allowed).toBe(true);
      expect((await takeTokens(bindings, name, limit)).allowed).toBe(false);
    }
  });

  test("charges the cost", async () => {
    const limit = { perSecond: 0.01, burst: 10 };
    const name = await started("events:cost");
    expect((await takeTokens(bindings, name, limit, 8)).allowed).toBe(true);
    expect((await takeTokens(bindings, name, limit, 3)).allowed).toBe(false);
    expect((await takeTokens(bindings, name, limit, 2)).allowed).toBe(true);
  });

  test("lets everything through when it is misconfigured, fails or is slow", async () => {
    expect(await takeTokens(bindings, "events:nan", { perSecond: Number("fifty"), burst: 1 })).toEqual({
      allowed: true,
    });
    const faulty = (disturb: () => Promise<void>) => ({ RATE_LIMITER: disturbed(bindings.RATE_LIMITER, disturb) });
    const failing = faulty(() => Promise.reject(new Error("the object was reset")));
    const slow = faulty(() => scheduler.wait(1_000));
    const limit = { perSecond: 1, burst: 1 };
    for (const unwell of [failing, slow]) {
      expect(await takeTokens(unwell, "events:unwell", limit)).toEqual({ allowed: true });
    }
  });
});
