import { type Clock, pause } from "./clock.ts";
import type { Feed, FeedStatus, Store } from "./driver.ts";
import type { Filters } from "./filters.ts";
import { answered, type Freshness, failed, isStale, type Limits, plan } from "./freshness.ts";
import type { Incoming } from "./messages.ts";
import type { End } from "./sync-state.ts";
import type { Transport } from "./transports.ts";

/** What a handler's third argument can do. */
export type RequestContext = { waitUntil(promise: Promise<unknown>): void };

/** Keeps a store fresh from request to request. Shared state is plain data; what belongs to a request stays with it. */
export class Revalidator implements Feed {
  readonly #store: Store;
  readonly #polling: Transport;
  readonly #filters: Filters;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #random: () => number;
  #freshness: Freshness;
  #answer: Promise<boolean> = Promise.resolve(false);
  #staleTold = false;
  /** Until when requests wait for the filters of the first ruleset, which may be here before they are. */
  #startsUntil = 0;

  constructor(store: Store, polling: Transport, filters: Filters, clock: Clock, limits: Limits, random: () => number) {
    this.#store = store;
    this.#polling = polling;
    this.#filters = filters;
    this.#clock = clock;
    this.#limits = limits;
    this.#random = random;
    this.#freshness = { held: !store.isEmpty, verifiedAt: null, askingSince: null, notBefore: 0, failures: 0 };
  }

  start(): void {}

  close(): void {
    this.#polling.close();
  }

  async prepare(ctx: RequestContext): Promise<void> {
    const { ask, waitMs } = plan(this.#freshness, this.#clock.elapsed(), this.#limits);
    if (ask) this.#ask(ctx);
    // The answer may belong to another request, which may end without it: never awaited without a time limit of one's own.
    if (waitMs > 0) await Promise.race([this.#answer, pause(this.#clock, waitMs)]);
    const leftMs = this.#startsUntil - this.#clock.elapsed();
    if (leftMs > 0 && this.#filters.lacksFirst)
      await Promise.race([this.#filters.underWay, pause(this.#clock, leftMs)]);
    this.#tellIfStale();
  }

  async refresh(ctx: RequestContext): Promise<boolean> {
    this.#ask(ctx);
    return this.#answer;
  }

  status(): FeedStatus {
    const now = this.#clock.elapsed();
    const { verifiedAt, failures } = this.#freshness;
    return {
      transport: "polling",
      connected: verifiedAt !== null && failures === 0,
      stale: isStale(this.#freshness, now, this.#limits),
      verifiedAgeMs: verifiedAt === null ? null : Math.round(now - verifiedAt),
      circuits: {},
      garbage: 0,
    };
  }

  #ask(ctx: RequestContext): void {
    const now = this.#clock.elapsed();
    if (!this.#freshness.held) this.#startsUntil = now + this.#limits.startMs;
    this.#freshness = { ...this.#freshness, askingSince: now };
    const resume = { since: this.#store.revision, atLeast: this.#store.revision };
    this.#answer = new Promise((resolve) => {
      this.#polling.open(resume, {
        message: (message) => resolve(this.#takeWhole(message)),
        closed: (end) => {
          if (!end.clean) this.#fail(end);
          resolve(false);
        },
      });
    });
    ctx.waitUntil(this.#answer);
  }

  /** With the filters of big segments: nobody else has the time to fetch them. */
  async #takeWhole(message: Incoming): Promise<boolean> {
    const taken = this.#take(message);
    await this.#filters.fetchMissing();
    return taken;
  }

  #take(message: Incoming): boolean {
    const own = this.#store.revision ?? -1;
    try {
      if (message.type === "ruleset" && message.ruleset.revision > own) this.#store.install(message.ruleset);
    } catch (error) {
      this.#store.report({ type: "error", code: "GARBAGE", message: `the ruleset could not be used: ${error}` });
      this.#fail({ reason: "" });
      return false;
    }
    const { verifiedAt } = this.#freshness;
    this.#freshness = answered(this.#clock.elapsed(), this.#limits);
    // An older ruleset than the one held confirms nothing: that place of the edge is behind.
    if (message.type === "ruleset" && message.ruleset.revision < own) this.#freshness.verifiedAt = verifiedAt;
    else this.#staleTold = false;
    return true;
  }

  #fail(end: End): void {
    if (end.reason !== "" && (this.#freshness.failures === 0 || end.refused)) {
      this.#store.report({ type: "error", code: end.refused ? "REFUSED" : "UNREACHABLE", message: end.reason });
    }
    this.#freshness = failed(this.#freshness, end, this.#clock.elapsed(), this.#limits, this.#random);
  }

  #tellIfStale(): void {
    const now = this.#clock.elapsed();
    if (this.#staleTold || this.#store.revision === null || !isStale(this.#freshness, now, this.#limits)) return;
    this.#staleTold = true;
    this.#store.report({ type: "stale", forMs: Math.round(now - (this.#freshness.verifiedAt ?? now)) });
  }
}
