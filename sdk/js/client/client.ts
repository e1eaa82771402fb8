import { type Context, type Decision, type Evaluator, exposureOf, type Json, type Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import type { Events } from "../events/events.ts";
import type { Clock } from "../sync/clock.ts";
import type { Feed, FeedStatus, Store } from "../sync/driver.ts";
import type { News } from "../sync/state.ts";
import type { RulesetMessage } from "../transports/ruleset-protocol.ts";
import { type Change, CurrentRuleset, type Origin } from "./current-ruleset.ts";
import type { Filters } from "./segment-filters.ts";

/** The flags of an application and the types of their values, as a `type` and no `interface`; with none given, any key and any type. */
export type FlagTypes = Record<string, Json>;
export type KeyOf<Flags extends FlagTypes, Value> = string extends keyof Flags
  ? string
  : { [Key in keyof Flags & string]: Flags[Key] extends Value ? Key : never }[keyof Flags & string];

export type ClientEvents = {
  /** The first ruleset has come from the server, with the filters of its big segments. */
  ready: { revision: number };
  change: Change;
  /** Nobody has confirmed the ruleset for a while; it is still evaluated with. 0 for one that the server never has. */
  stale: { forMs: number };
  connected: { transport: string };
  disconnected: { transport: string; reason: string };
  /** REFUSED: the key. UNREACHABLE: the server. INVALID_RESPONSE: a response that could not be used. EVENTS: telemetry is not being taken. */
  error: { code: "REFUSED" | "UNREACHABLE" | "INVALID_RESPONSE" | "EVENTS"; message: string };
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

export type Logger = { warn(message: string): void; error(message: string): void };

const DEFAULT_READY_MS = 5_000;
/** Keys made up at run time must not fill the memory. */
const MAX_WARNINGS = 1_000;
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
type Listener<Name extends keyof ClientEvents> = (detail: ClientEvents[Name]) => void;

/**
 * Flags, evaluated in memory: every getter is synchronous, never throws and never waits.
 * Made by the `createClient` of a platform's entry.
 */
export class Client<Flags extends FlagTypes = FlagTypes> {
  readonly #wiring: Wiring;
  readonly #feed: Feed;
  readonly #listeners = new Map<keyof ClientEvents, Set<(detail: never) => void>>();
  readonly #warned = new Set<string>();
  readonly #waiting = new Set<(ready: boolean) => void>();
  readonly #current: CurrentRuleset;
  #ready = false;
  #refused = false;
  #closed = false;
  #cancelFlush: (() => void) | null = null;

  /** Applications call `createClient` instead. */
  constructor(wiring: Wiring, makeFeed: (store: RulesetStore) => Feed) {
    this.#wiring = wiring;
    this.#current = new CurrentRuleset(wiring.clock);
    wiring.filters.onArrival((segment) => this.#filterArrived(segment));
    if (wiring.bootstrap !== undefined) this.#hold(wiring.bootstrap, "bootstrap");
    if (wiring.cached != null) this.#restore(wiring.cached);
    this.#feed = makeFeed(this.#store());
    this.#feed.start();
    if (wiring.timers && wiring.events !== null)
      this.#flushLater(wiring.clock.elapsed() + wiring.events.nextWindow(Math.random));
  }

  boolean(key: KeyOf<Flags, boolean>, defaultValue: boolean, context: Context = {}): boolean {
    return this.#typed(key, defaultValue, context, isBoolean).value as boolean;
  }

  string(key: KeyOf<Flags, string>, defaultValue: string, context: Context = {}): string {
    return this.#typed(key, defaultValue, context, isString).value as string;
  }

  number(key: KeyOf<Flags, number>, defaultValue: number, context: Context = {}): number {
    return this.#typed(key, defaultValue, context, isNumber).value as number;
  }

  /** Values of JSON flags are frozen, and of whatever shape the flag has: check them as you would any input. */
  json<Value extends Json>(key: KeyOf<Flags, Json>, defaultValue: Value, context: Context = {}): Value {
    return this.#typed(key, defaultValue, context, isAny).value as Value;
  }

  /**
   * The value and how it came about. A value that does not fit, which is one of another type than the default's (null, a
   * list or an object takes any), becomes the default with reason `ERROR` and `TYPE_MISMATCH`.
   */
  details(
    key: keyof Flags & string,
    defaultValue: Json,
    context: Context = {},
    fits: (value: Json) => boolean = checkFor(defaultValue),
  ): Decision {
    return this.#typed(key, defaultValue, context, fits);
  }

  /** Every flag's decision for one context. Counts no evaluations and makes no exposures. */
  all(context: Context = {}): Record<string, Decision> {
    return this.#current.evaluator?.all(contextOf(context)) ?? {};
  }

  /** A metric of the unit that the context's targeting key names; `value` is 1 by default. */
  track(metric: string, context: Context, value = 1): void {
    if (this.#closed || this.#wiring.events === null) return;
    const unit = targetingKeyOf(contextOf(context));
    if (unit === null) {
      this.#warnOnce(`track:${metric}`, `metric "${metric}" was not recorded: pass a context with a targetingKey`);
    } else if (!Number.isFinite(value)) {
      this.#warnOnce(`track:${metric}`, `metric "${metric}" was not recorded: pass a finite number as its value`);
    } else this.#wiring.events.metric(metric, unit, value);
  }

  /** Calls the listener from now on, until the answer is called. What a listener throws is logged and goes no further. */
  on<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener as (detail: never) => void);
    return () => void listeners.delete(listener as (detail: never) => void);
  }

  /**
   * Waits for the first ruleset, with the filters of its big segments: true once they are there, false when the time is up, the key is refused or the client
   * closed. Never rejects, and evaluation works throughout. Holds the process for `timeoutMs` (5,000) at most.
   */
  ready({ timeoutMs = DEFAULT_READY_MS }: { timeoutMs?: number } = {}): Promise<boolean> {
    if (this.#ready || this.#refused || this.#closed) return Promise.resolve(this.#ready);
    return new Promise((resolve) => {
      // An unreferenced timer would let a process end in the middle of `await ready()`.
      const timer = setTimeout(() => finish(false), Math.min(timeoutMs, 2 ** 31 - 1));
      const finish = (ready: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(finish);
        resolve(ready);
      };
      this.#waiting.add(finish);
    });
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
    return { ...feed, stale, ready: this.#ready, refused, revision, source, closed: this.#closed, events };
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
    for (const finish of [...this.#waiting]) finish(false);
    await Promise.all([this.flush(), this.#wiring.keep?.flush?.()]);
  }

  #typed(key: string, defaultValue: Json, given: Context, fits: (value: Json) => boolean): Decision {
    const context = contextOf(given);
    let decision = this.#current.evaluator?.evaluate(key, context, defaultValue) ?? unknownFlag(defaultValue);
    if (decision.errorCode === undefined && decision.value !== defaultValue && !fits(decision.value)) {
      const { flagVersion } = decision;
      decision = { value: defaultValue, variation: null, reason: "ERROR", errorCode: "TYPE_MISMATCH", flagVersion };
    }
    if (decision.errorCode === "FLAG_NOT_FOUND") this.#warnUnknown(key);
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

  /** EV-2. Before the first ruleset nothing is known, which the caller cannot correct. */
  #warnUnknown(key: string): void {
    if (this.#current.evaluator === null) return;
    this.#warnOnce(
      key,
      `flag "${key}" does not exist in this environment: its default is used; create it, or check its spelling`,
    );
  }

  #warnOnce(about: string, message: string): void {
    if (this.#warned.has(about) || this.#warned.size >= MAX_WARNINGS) return;
    this.#warned.add(about);
    this.#wiring.logger.warn(`Bunting: ${message}`);
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
    if (change !== null) this.#emit("change", change);
    return true;
  }

  #install(ruleset: Ruleset): void {
    const change = this.#hold(ruleset, "snapshot");
    this.#refused = false;
    this.#keep();
    this.#becomeReady();
    if (change !== null) this.#emit("change", change);
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
    this.#emit("change", change);
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
    this.#emit("change", {
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
    for (const finish of [...this.#waiting]) finish(true);
    this.#emit("ready", { revision });
  }

  #report(news: News): void {
    if (news.type === "error") {
      this.#wiring.logger.error(`Bunting: ${advice[news.code](news.message)}`);
      this.#emit("error", { code: news.code, message: news.message });
      if (news.code !== "REFUSED") return;
      this.#refused = true;
      for (const finish of [...this.#waiting]) finish(false);
    } else if (news.type === "connected") this.#emit("connected", { transport: news.transport });
    else if (news.type === "disconnected")
      this.#emit("disconnected", { transport: news.transport, reason: news.reason });
    else if (this.#current.ruleset !== null) this.#emit("stale", { forMs: news.forMs });
  }

  #emit<Name extends keyof ClientEvents>(name: Name, detail: ClientEvents[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as Listener<Name>)(detail);
      } catch (error) {
        this.#wiring.logger.error(`Bunting: a listener for "${name}" threw: ${error}`);
      }
    }
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

/** Log messages: what is wrong, its effect and what to do. The reason alone says neither effect nor remedy. */
const advice: Record<ClientEvents["error"]["code"], (reason: string) => string> = {
  REFUSED: (reason) => `${reason}; give this process a valid key`,
  UNREACHABLE: (reason) =>
    `the server cannot be reached (${reason}); flags stay as they were and it is tried again: check url and the network`,
  INVALID_RESPONSE: (reason) => `${reason}; flags stay as they were: check that url is a Bunting Worker`,
  EVENTS: (reason) => reason,
};

/** JavaScript callers may pass anything. */
const contextOf = (given: unknown): Context => (typeof given === "object" && given !== null ? (given as Context) : {});

function targetingKeyOf(context: Context): string | null {
  try {
    const { targetingKey } = context;
    return typeof targetingKey === "string" && targetingKey !== "" ? targetingKey : null;
  } catch {
    return null;
  }
}

const isBoolean = (value: Json): boolean => typeof value === "boolean";
const isString = (value: Json): boolean => typeof value === "string";
const isNumber = (value: Json): boolean => typeof value === "number";
const isAny = (): boolean => true;

function checkFor(defaultValue: Json): (value: Json) => boolean {
  if (typeof defaultValue === "boolean") return isBoolean;
  if (typeof defaultValue === "string") return isString;
  return typeof defaultValue === "number" ? isNumber : isAny;
}

const unknownFlag = (value: Json): Decision => ({
  value,
  variation: null,
  reason: "ERROR",
  errorCode: "FLAG_NOT_FOUND",
  flagVersion: 0,
});
