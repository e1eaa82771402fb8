/// <reference lib="esnext.disposable" preserve="true" />
import {
  type Context,
  type Decision,
  type ErrorCode,
  type Evaluator,
  exposureOf,
  type Json,
  Referrers,
  type Ruleset,
} from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import type { Events } from "../events/events.ts";
import type { Clock } from "../sync/clock.ts";
import type { Feed, FeedStatus, Store } from "../sync/driver.ts";
import type { News } from "../sync/state.ts";
import type { RulesetMessage } from "../transports/ruleset-protocol.ts";
import { adviceOn, adviceOnTrouble, type Trouble } from "./advice.ts";
import { type BoundFlags, boundTo } from "./bound-flags.ts";
import { type Change, CurrentRuleset, type Origin } from "./current-ruleset.ts";
import { type Emitter, emitter } from "./emitter.ts";
import type { FlagTypes, GivenContext, IfJson, KeyOf, Like } from "./flag-types.ts";
import type { Filters } from "./segment-filters.ts";
import {
  checkFor,
  contextOf,
  isAny,
  isBoolean,
  isNumber,
  isString,
  targetingKeyOf,
  unknownFlag,
} from "./value-types.ts";
import { resolveAll, type Waiting, within } from "./waiting.ts";
import { type Logger, warnOnce } from "./warnings.ts";

export type { FlagTypes, GivenContext, IfJson, KeyOf, Like } from "./flag-types.ts";

export type ClientEvents = {
  /** The first ruleset has come from the server, with the filters of its big segments. */
  ready: { revision: number };
  change: Change;
  /** Nobody has confirmed the ruleset for a while; it is still evaluated with. 0 for one that the server never has. */
  stale: { forMs: number };
  connected: { transport: string };
  disconnected: { transport: string; reason: string };
  /** REFUSED: the key. UNREACHABLE: the server. INVALID_RESPONSE: a response that could not be used. EVENTS: telemetry is not being taken. */
  error: { code: Trouble; message: string };
};

export type Status = FeedStatus & {
  ready: boolean;
  /** The server does not take the key. */
  refused: boolean;
  revision: number | null;
  /** Where the ruleset came from; `snapshot` too for one from a cache that the server has confirmed. */
  source: Origin;
  closed: boolean;
  events: { buffered: number; dropped: number };
};

export type { Logger } from "./warnings.ts";

const DEFAULT_READY_MS = 5_000;
/** Often enough to send early when a buffer fills, too seldom to cost anything. */
const FLUSH_CHECK_MS = 1_000;

type Wiring = {
  clock: Clock;
  logger: Logger;
  events: Events | null;
  filters: Filters;
  /** Evaluated with until the server has answered; of the two the later revision. */
  cached?: Ruleset | null;
  bootstrap?: Ruleset | undefined;
  timers: boolean;
  /** Where revisions that the server has sent outlive the client. */
  keep?: Keep;
};
/** Receives each revision; calls `current` for the ruleset when it is about to write. `flush` resolves once that is done. */
type Keep = { changed(current: () => Ruleset): void; flush?(): Promise<void> };
export type RulesetStore = Store<RulesetMessage, PatchMessage> & {
  /** There is nothing to evaluate with, not even from elsewhere. */
  readonly isEmpty: boolean;
  /** From a cache: whether it was taken, which it never is in place of what the server has sent. */
  restore(ruleset: Ruleset): boolean;
};
/** What can be listened for. */
export type Listeners<Flags extends object> = ClientEvents & {
  [Key in keyof Flags & string as `change:${Key}`]: Change;
};

/**
 * Flags, evaluated in memory: every getter is synchronous, never throws and never waits.
 * Made by the `createClient` of a platform's entry.
 */
export class Client<Flags extends object = FlagTypes> {
  readonly #wiring: Wiring;
  readonly #feed: Feed;
  readonly #emitter: Emitter<ClientEvents & { [Name in `change:${string}`]: Change }>;
  readonly #warnOnce: (about: string, message: string) => void;
  readonly #waiting: Waiting = new Set();
  readonly #current: CurrentRuleset;
  #ready = false;
  #refused = false;
  #closed = false;
  #cancelFlush: (() => void) | null = null;

  /** Applications call `createClient` instead. */
  constructor(wiring: Wiring, makeFeed: (store: RulesetStore) => Feed) {
    this.#wiring = wiring;
    this.#warnOnce = warnOnce(wiring.logger);
    this.#emitter = emitter((name, error) => wiring.logger.error(`Bunting: a listener for "${name}" threw: ${error}`));
    this.#current = new CurrentRuleset(wiring.clock);
    wiring.filters.onArrival((segment) => this.#filterArrived(segment));
    if (wiring.bootstrap) this.#hold(wiring.bootstrap, "bootstrap");
    if (wiring.cached) this.#restore(wiring.cached);
    this.#feed = makeFeed(this.#store());
    this.#feed.start();
    if (wiring.timers && wiring.events !== null)
      this.#flushLater(wiring.clock.elapsed() + wiring.events.nextWindow(Math.random));
  }

  boolean(key: KeyOf<Flags, boolean>, defaultValue: boolean, context: GivenContext = {}): boolean {
    return this.#typed(key, defaultValue, context, isBoolean).value as boolean;
  }

  string(key: KeyOf<Flags, string>, defaultValue: string, context: GivenContext = {}): string {
    return this.#typed(key, defaultValue, context, isString).value as string;
  }

  number(key: KeyOf<Flags, number>, defaultValue: number, context: GivenContext = {}): number {
    return this.#typed(key, defaultValue, context, isNumber).value as number;
  }

  /** Values of JSON flags are frozen, and of whatever shape the flag has: check them as you would any input. */
  json<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>, context: GivenContext = {}): Like<Value> {
    return this.#typed(key, defaultValue as Json, context, isAny).value as Like<Value>;
  }

  /**
   * The value and how it came about. A value that does not fit, which is one of another type than the default's (null, a
   * list or an object takes any), becomes the default with reason `ERROR` and `TYPE_MISMATCH`.
   */
  details<Value>(
    key: keyof Flags & string,
    defaultValue: Value & IfJson<Value>,
    context: GivenContext = {},
    fits: (value: Json) => boolean = checkFor(defaultValue as Json),
  ): Decision<Like<Value>> {
    return this.#typed(key, defaultValue as Json, context, fits) as Decision<Like<Value>>;
  }

  /** The getters for one context, which every call of theirs is then without: for a request, or a job. */
  forContext(context: GivenContext): BoundFlags<Flags> {
    return boundTo(this, context);
  }

  /** Every flag's decision for one context. Counts no evaluations and makes no exposures. */
  all(context: GivenContext = {}): Record<string, Decision> {
    return this.#current.evaluator?.all(contextOf(context)) ?? Object.create(null);
  }

  /** A metric of the unit that the context's targeting key names; `value` is 1 by default. */
  track(metric: string, context: GivenContext, value = 1): void {
    if (this.#closed || this.#wiring.events === null) return;
    const unit = targetingKeyOf(contextOf(context));
    if (unit === null) {
      this.#warnOnce(`track:${metric}`, `metric "${metric}" was not recorded: pass a context with a targetingKey`);
    } else if (!Number.isFinite(value)) {
      this.#warnOnce(`track:${metric}`, `metric "${metric}" was not recorded: pass a finite number as its value`);
    } else this.#wiring.events.metric(metric, unit, value);
  }

  /**
   * Calls the listener from now on, until the answer is called. What a listener throws is logged and goes no further.
   * `change:<flag>` is a change that may change this flag's answers: of itself, or of what it depends on.
   */
  on<Name extends keyof Listeners<Flags>>(name: Name, listener: (detail: Listeners<Flags>[Name]) => void): () => void {
    return this.#emitter.on(name as "change", listener as (detail: Change) => void);
  }

  /** The same, for the next time alone. */
  once<Name extends keyof Listeners<Flags>>(
    name: Name,
    listener: (detail: Listeners<Flags>[Name]) => void,
  ): () => void {
    return this.#emitter.once(name as "change", listener as (detail: Change) => void);
  }

  /**
   * Waits for the first ruleset, with the filters of its big segments: true once they are there, false when the time is up, the key is refused or the client
   * closed. Never rejects, and evaluation works throughout. Holds the process for `timeoutMs` (5,000) at most.
   */
  async ready(options?: { timeoutMs?: number | null } | null): Promise<boolean> {
    if (this.#closed) return false;
    if (this.#ready || this.#refused) return this.#ready;
    // Its timer holds the process: unreferenced, it would let one end in the middle of `await ready()`.
    return within(options?.timeoutMs ?? DEFAULT_READY_MS, this.#waiting);
  }

  /** The rules as they are now, for `explain()` of `@bunting/sdk/explain`; null before the first ruleset. */
  get evaluator(): Evaluator | null {
    return this.#current.evaluator;
  }

  status(): Status {
    const events = { buffered: this.#wiring.events?.buffered ?? 0, dropped: this.#wiring.events?.dropped ?? 0 };
    const { source, ruleset, isConfirmed } = this.#current;
    const feed = this.#feed.status();
    const stale = ruleset !== null && (feed.stale || !isConfirmed);
    const revision = ruleset?.revision ?? null;
    const refused = this.#refused && !feed.connected;
    return {
      ...feed,
      stale,
      ready: this.#ready && !this.#closed,
      refused,
      revision,
      source,
      closed: this.#closed,
      events,
    };
  }

  /** Sends the buffered events. Never rejects: what the server does not take is kept and sent with a later flush. */
  async flush(): Promise<void> {
    await this.#wiring.events?.flush();
  }

  /** Ends every connection and sends the buffered events, once. The last ruleset goes on being evaluated with. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelFlush?.();
    this.#feed.close();
    this.#wiring.filters.close();
    resolveAll(this.#waiting, false);
    await Promise.all([this.flush(), this.#wiring.keep?.flush?.()]);
  }

  /** `await using client = createClient(…)` closes it at the end of the block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #typed(key: string, defaultValue: Json, given: GivenContext, fits: (value: Json) => boolean): Decision {
    const context = contextOf(given);
    let decision = this.#current.evaluator?.evaluate(key, context, defaultValue) ?? unknownFlag(defaultValue);
    if (decision.errorCode === undefined && decision.value !== defaultValue && !fits(decision.value)) {
      const { flagVersion } = decision;
      decision = { value: defaultValue, variation: null, reason: "ERROR", errorCode: "TYPE_MISMATCH", flagVersion };
    }
    if (decision.errorCode !== undefined) this.#warn(key, decision.errorCode, typeof defaultValue);
    if (!this.#closed) this.#record(key, decision, context);
    return decision;
  }

  #record(key: string, decision: Decision, context: Context): void {
    try {
      const { ruleset } = this.#current;
      const flag = ruleset?.flags[key];
      const exposure = flag && exposureOf(flag, decision, context, ruleset.events.exposureSampleRate);
      this.#wiring.events?.evaluated(key, decision, context, exposure);
    } catch {
      // A context whose getters throw cannot be recorded; the value is answered all the same.
    }
  }

  /** EV-2, EV-8. Before the first ruleset nothing is known, which the caller cannot correct. */
  #warn(key: string, error: ErrorCode, type: string): void {
    if (this.#current.evaluator !== null)
      this.#warnOnce(`${error} ${key}`, `${adviceOn(error, key, type)}. Its default is used.`);
  }

  #store(): RulesetStore {
    const current = this.#current;
    return {
      get revision() {
        return current.revision;
      },
      get isEmpty() {
        return current.ruleset === null;
      },
      restore: (ruleset) => this.#restore(ruleset),
      install: ({ ruleset }) => this.#install(ruleset),
      apply: (patch) => this.#changed(this.#current.apply(patch)),
      confirm: () => this.#confirm(),
      report: (news) => this.#report(news),
    };
  }

  /** From a cache, where it is newer than what came with the code and the server has not answered yet. */
  #restore(ruleset: Ruleset): boolean {
    const held = this.#current.ruleset;
    if (this.#current.isConfirmed || (held !== null && held.revision > ruleset.revision)) return false;
    const change = this.#hold(ruleset, "cache");
    if (change !== null) this.#emitChange(change);
    return true;
  }

  #install(ruleset: Ruleset): void {
    const change = this.#hold(ruleset, "snapshot");
    this.#refused = false;
    this.#keep();
    this.#becomeReady();
    if (change !== null) this.#emitChange(change);
  }

  #hold(ruleset: Ruleset, source: Origin): Change | null {
    const change = this.#current.install(ruleset, source);
    this.#fetchFilters();
    this.#wiring.events?.configure(ruleset.events);
    return change;
  }

  #changed(change: Change): void {
    this.#fetchFilters();
    this.#keep();
    this.#emitChange(change);
  }

  #confirm(): void {
    if (this.#current.ruleset === null || this.#current.isConfirmed) return;
    this.#current.confirm();
    this.#becomeReady();
  }

  #keep(): void {
    this.#wiring.keep?.changed(() => this.#current.ruleset!);
  }

  #fetchFilters(): void {
    this.#wiring.filters.serve(this.#current.evaluator!);
    if (this.#wiring.timers && !this.#closed) void this.#wiring.filters.keepFetching();
  }

  /** The documents are what they were; what they answer is not. */
  #filterArrived(segment: string): void {
    const { revision } = this.#current.ruleset!;
    const wasReady = this.#ready;
    this.#becomeReady();
    if (!wasReady) return;
    this.#emitChange({
      revision,
      previous: revision,
      publishedAt: null,
      ageMs: null,
      flags: [],
      segments: [segment],
    });
  }

  /** Once: with a ruleset, and a filter for each of its big segments. */
  #becomeReady(): void {
    const { isConfirmed, evaluator, ruleset } = this.#current;
    if (this.#ready || !isConfirmed || evaluator!.missingFilters().some(({ first }) => first)) return;
    const { revision } = ruleset!;
    this.#ready = true;
    resolveAll(this.#waiting, true);
    this.#emitter.emit("ready", { revision });
  }

  #report(news: News): void {
    if (news.type === "error") {
      this.#wiring.logger.error(`Bunting: ${adviceOnTrouble[news.code](news.message)}`);
      this.#emitter.emit("error", { code: news.code, message: news.message });
      if (news.code !== "REFUSED") return;
      this.#refused = true;
      resolveAll(this.#waiting, false);
    } else if (news.type === "connected") this.#emitter.emit("connected", { transport: news.transport });
    else if (news.type === "disconnected")
      this.#emitter.emit("disconnected", { transport: news.transport, reason: news.reason });
    else if (this.#current.ruleset !== null) this.#emitter.emit("stale", { forMs: news.forMs });
  }

  #emitChange(change: Change): void {
    this.#emitter.emit("change", change);
    const names = this.#emitter.names().filter((name): name is `change:${string}` => name.startsWith("change:"));
    if (names.length === 0) return;
    const reached = new Referrers(this.#current.ruleset!).flagsReached(change);
    for (const name of names) if (reached.has(name.slice("change:".length))) this.#emitter.emit(name, change);
  }

  #flushLater(dueAt: number): void {
    this.#cancelFlush = this.#wiring.clock.timer(FLUSH_CHECK_MS, () => {
      const now = this.#wiring.clock.elapsed();
      const due = now >= dueAt || this.#wiring.events!.isFull;
      if (due) void this.flush();
      this.#flushLater(due ? now + this.#wiring.events!.nextWindow(Math.random) : dueAt);
    });
  }
}
