import type { Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import type { RulesetStore } from "../client/client.ts";
import type { Filters } from "../client/segment-filters.ts";
import { type Clock, pause } from "../sync/clock.ts";
import type { Feed, FeedStatus } from "../sync/driver.ts";
import { ASLEEP_MS, type Clocks, lookAt, sleep } from "../sync/sleep.ts";
import type { End, Incoming } from "../sync/state.ts";
import type { Transport } from "../sync/transport.ts";
import type { RulesetMessage } from "../transports/ruleset-protocol.ts";
import { ABANDONED_MS, answered, type Freshness, failed, isAsking, isStale, type Limits, plan } from "./freshness.ts";

/** What a handler's third argument can do. */
export type RequestContext = { waitUntil(promise: Promise<unknown>): void };

/** Nobody waits longer than this much over what it took. */
const LATER_BY = 1 / 8;

/** Whether the ruleset, which comes from a cache, is evaluated with. */
export type Take = (ruleset: Ruleset) => boolean;

/** Keeps a store fresh from request to request. Shared state is plain data; what belongs to a request stays with it. */
export class Revalidator implements Feed {
  readonly #store: RulesetStore;
  readonly #polling: Transport<RulesetMessage, PatchMessage>;
  readonly #restore: ((take: Take) => Promise<void>) | null;
  readonly #filters: Filters;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #random: () => number;
  #freshness: Freshness;
  /** Looking for a ruleset in the cache comes before the first request to the server. */
  #restoring: "later" | "now" | "done";
  #staleReported = false;
  #closed = false;
  #clocks: Clocks;
  /** Until when requests wait for the filters of the first ruleset, which may be here before they are. */
  #startsUntil = 0;

  constructor(
    store: RulesetStore,
    polling: Transport<RulesetMessage, PatchMessage>,
    restore: ((take: Take) => Promise<void>) | null,
    filters: Filters,
    clock: Clock,
    limits: Limits,
    random: () => number,
  ) {
    this.#store = store;
    this.#polling = polling;
    this.#restore = restore;
    this.#restoring = restore === null ? "done" : "later";
    this.#filters = filters;
    this.#clock = clock;
    this.#limits = limits;
    this.#random = random;
    this.#clocks = lookAt(clock);
    this.#freshness = { held: !store.isEmpty, verifiedAt: null, askingSince: null, notBefore: 0, failures: 0 };
  }

  start(): void {}

  close(): void {
    this.#closed = true;
    this.#polling.close();
  }

  async prepare(ctx: RequestContext): Promise<void> {
    if (this.#closed) return;
    const { ask } = this.#plan();
    if (ask) void this.#ask(ctx);
    const isAnswered = () =>
      this.#freshness.askingSince === null && (this.#restoring !== "now" || !this.#store.isEmpty);
    // What the cache has shortens the wait for the server.
    await this.#until(() => isAnswered() || this.#restoring !== "now", this.#plan().waitMs);
    if (!isAnswered()) await this.#until(isAnswered, this.#plan().waitMs);
    const leftMs = this.#startsUntil - this.#clock.elapsed();
    await this.#until(() => !this.#filters.isFetching || !this.#filters.lacksFirst, leftMs);
    this.#reportIfStale();
  }

  async refresh(ctx: RequestContext): Promise<boolean> {
    if (this.#closed) return false;
    const isFree = () => !isAsking(this.#freshness, this.#clock.elapsed());
    // A poll in the middle of another one would leave that one without its response.
    while (!isFree()) await this.#until(isFree, ABANDONED_MS);
    return this.#ask(ctx);
  }

  #plan(): { ask: boolean; waitMs: number } {
    const before = this.#clocks;
    this.#clocks = lookAt(this.#clock);
    const { missedMs } = sleep(before, this.#clocks, Number.POSITIVE_INFINITY);
    const { verifiedAt } = this.#freshness;
    // What the monotonic clock missed counts as well.
    if (missedMs >= ASLEEP_MS && verifiedAt !== null)
      this.#freshness = { ...this.#freshness, verifiedAt: verifiedAt - missedMs, notBefore: 0 };
    return plan(this.#freshness, this.#clock.elapsed(), this.#limits);
  }

  /**
   * Looks again and again, by timers of the request that waits. A promise of another request may never resolve, since
   * the platform may end that request, and workerd warns of promises that resolve once nobody waits any more.
   */
  async #until(isSo: () => boolean, waitMs: number): Promise<void> {
    const since = this.#clock.elapsed();
    for (let waited = 0; waited < waitMs && !isSo(); waited = this.#clock.elapsed() - since)
      await pause(this.#clock, Math.min(Math.max(1, waited * LATER_BY), waitMs - waited));
  }

  status(): FeedStatus {
    const now = this.#clock.elapsed();
    const { verifiedAt, failures, notBefore } = this.#freshness;
    const openForMs = Math.round(Math.max(0, notBefore - now));
    return {
      transport: "polling",
      connected: !this.#closed && verifiedAt !== null && failures === 0,
      stale: isStale(this.#freshness, now, this.#limits),
      verifiedAgeMs: verifiedAt === null ? null : Math.round(now - verifiedAt),
      circuits: failures === 0 ? {} : { polling: { failures, openForMs } },
      invalidResponses: 0,
    };
  }

  #ask(ctx: RequestContext): Promise<boolean> {
    const now = this.#clock.elapsed();
    if (!this.#freshness.held) this.#startsUntil = now + this.#limits.startMs;
    this.#freshness = { ...this.#freshness, askingSince: now };
    const answer = this.#restoring === "done" ? this.#poll() : this.#restoreAndPoll(ctx);
    ctx.waitUntil(answer);
    return answer;
  }

  #poll(): Promise<boolean> {
    const { revision } = this.#store;
    return new Promise((resolve) => {
      this.#polling.open(
        { since: revision, atLeast: revision },
        {
          message: (message) => resolve(this.#takeWhole(message)),
          closed: (end) => {
            if (!end.clean) this.#fail(end);
            resolve(false);
          },
        },
      );
    });
  }

  /** The cache has as long as a request waits for what it could do without; what comes later is used if nothing else has come. */
  async #restoreAndPoll(ctx: RequestContext): Promise<boolean> {
    this.#restoring = "now";
    const restored = this.#restore!((ruleset) => {
      if (!this.#store.restore(ruleset)) return false;
      const { held, askingSince } = this.#freshness;
      if (!held)
        this.#freshness = { ...this.#freshness, held: true, askingSince: askingSince && this.#clock.elapsed() };
      return true;
    }).then(() => {
      this.#restoring = "done";
    });
    ctx.waitUntil(restored);
    await Promise.race([restored, pause(this.#clock, this.#limits.waitMs)]);
    return this.#poll();
  }

  /** With the filters of big segments: nobody else has the time to fetch them. */
  async #takeWhole(message: Incoming<RulesetMessage, PatchMessage>): Promise<boolean> {
    const taken = this.#take(message);
    await this.#filters.fetchMissing();
    return taken;
  }

  #take(message: Incoming<RulesetMessage, PatchMessage>): boolean {
    const own = this.#store.revision ?? -1;
    const isFirst = this.#freshness.verifiedAt === null;
    try {
      // Of a revision that came from a cache, the server's own copy is news as well.
      if (message.type === "put" && (message.revision > own || (message.revision === own && isFirst)))
        this.#store.install(message);
    } catch (error) {
      this.#store.report({
        type: "error",
        code: "INVALID_RESPONSE",
        message: `the ruleset could not be used: ${error}`,
      });
      this.#fail({ reason: "" });
      return false;
    }
    const { verifiedAt } = this.#freshness;
    this.#freshness = answered(this.#clock.elapsed(), this.#limits);
    // An older ruleset than the one held confirms nothing: that place of the edge is behind.
    if (message.type === "put" && message.revision < own) this.#freshness.verifiedAt = verifiedAt;
    else {
      this.#staleReported = false;
      this.#store.confirm();
    }
    return true;
  }

  #fail(end: End): void {
    if (end.reason !== "" && (this.#freshness.failures === 0 || end.refused)) {
      const code = end.refused ? "REFUSED" : end.invalid ? "INVALID_RESPONSE" : "UNREACHABLE";
      this.#store.report({ type: "error", code, message: end.reason });
    }
    this.#freshness = failed(this.#freshness, end, this.#clock.elapsed(), this.#limits, this.#random);
  }

  #reportIfStale(): void {
    const now = this.#clock.elapsed();
    if (this.#staleReported || this.#store.isEmpty || !isStale(this.#freshness, now, this.#limits)) return;
    this.#staleReported = true;
    this.#store.report({ type: "stale", forMs: Math.round(now - (this.#freshness.verifiedAt ?? now)) });
  }
}
