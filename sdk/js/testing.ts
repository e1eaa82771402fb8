/** Clients for tests: the same types as the real ones, flags that the test sets, no network and nothing to wait for. */
import type { Context } from "@bunting/core";
import type { BrowserClient, Values } from "./browser.ts";
import type { Client, ClientEvents, FlagTypes } from "./client/client.ts";
import { type TestControls, TestFlags, type TestValues } from "./testing/flags.ts";

export type { Context, Decision, Json } from "@bunting/core";
export type { BrowserClient } from "./browser.ts";
export type { Client, FlagTypes } from "./client/client.ts";
export type { Evaluation, TestControls, TestValue, TestValues, Tracked } from "./testing/flags.ts";

type Options<Flags extends FlagTypes> = { flags?: TestValues<NoInfer<Flags>> };

export type TestClient<Flags extends FlagTypes = FlagTypes> = Client<Flags> & TestControls<Flags>;

/**
 * Takes the place of what `/node` and `/workers` make:
 *
 *     const bunting = createTestClient({ flags: { "new-checkout": true } });
 *     bunting.set("theme", ({ plan }) => (plan === "gold" ? "dark" : "light"));
 *
 * A flag that is not set answers its default with `FLAG_NOT_FOUND`, as one that does not exist.
 */
export function createTestClient<Flags extends FlagTypes = FlagTypes>({
  flags = {},
}: Options<Flags> = {}): TestClient<Flags> {
  const held = new TestFlags<Flags>(flags);
  const listeners = new Listeners();
  let closed = false;
  held.changed = (flags) => {
    const { revision } = held;
    listeners.emit("change", {
      revision,
      previous: revision - 1,
      publishedAt: null,
      ageMs: null,
      flags,
      segments: [],
    } satisfies ClientEvents["change"]);
  };
  // Of the type it answers but for the class's private parts, which no caller can reach.
  const client: Pick<Client<Flags>, keyof Client<Flags>> = {
    boolean: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue, context, "boolean").value as boolean,
    string: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue, context, "string").value as string,
    number: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue, context, "number").value as number,
    json: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue, context, "any").value as never,
    details: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue, context),
    all: (context = {}) => held.all(context),
    track(metric, context, value = 1) {
      if (!closed) held.track(metric, context, value);
    },
    on: (name, listener) => listeners.add(name, listener),
    ready: async () => true,
    evaluator: null,
    status: () => ({
      ...connected(closed),
      revision: held.revision,
      source: "snapshot",
    }),
    flush: async () => {},
    async close() {
      closed = true;
    },
  };
  return Object.assign(client, held.controls()) as unknown as TestClient<Flags>;
}

export type TestBrowserClient<Flags extends FlagTypes = FlagTypes> = BrowserClient<Flags> & TestControls<Flags>;

/** Takes the place of what `/browser` makes, in `/react` too. A function of the context is called again for a new one. */
export function createTestBrowserClient<Flags extends FlagTypes = FlagTypes>({
  flags = {},
  context: first = {},
}: Options<Flags> & { context?: Context } = {}): TestBrowserClient<Flags> {
  const held = new TestFlags<Flags>(flags);
  const listeners = new Listeners();
  let closed = false;
  let context = contextFor(first);
  let values: Values;
  const read = () => {
    const before: Values = values ?? {};
    const entries = Object.entries(held.all(context)).map(([key, { value, variation, reason, flagVersion }]) => {
      const flag = { value, variation, reason, version: flagVersion };
      return [key, JSON.stringify(flag) === JSON.stringify(before[key]) ? before[key] : flag];
    });
    values = Object.fromEntries(entries);
  };
  held.changed = (keys) => {
    read();
    listeners.emit("change", { revision: held.revision, flags: keys });
  };
  read();
  const bootstrap = values!;
  const client: BrowserClient<Flags> = {
    boolean: (key, defaultValue) => held.evaluate(key, defaultValue, context, "boolean").value as boolean,
    string: (key, defaultValue) => held.evaluate(key, defaultValue, context, "string").value as string,
    number: (key, defaultValue) => held.evaluate(key, defaultValue, context, "number").value as number,
    json: (key, defaultValue) => held.evaluate(key, defaultValue, context, "any").value as never,
    details: (key, defaultValue) => held.evaluate(key, defaultValue, context),
    all: () => values,
    shown: (key, flag, defaultValue = null) => held.show(key, flag, defaultValue, context),
    bootstrap,
    track(metric, value = 1) {
      if (!closed) held.track(metric, context, value);
    },
    get context() {
      return context;
    },
    async setContext(given) {
      context = contextFor(given);
      const before = values;
      read();
      const differs = (key: string) => JSON.stringify(values[key]?.value) !== JSON.stringify(before[key]?.value);
      const changed = Object.keys(values).filter(differs);
      if (changed.length > 0) listeners.emit("change", { revision: held.revision, flags: changed });
      return true;
    },
    on: (name, listener) => listeners.add(name, listener),
    ready: async () => true,
    status: () => ({ ...connected(closed), refused: false, revision: held.revision }),
    flush: async () => {},
    async close() {
      closed = true;
    },
  };
  // Not a spread, which would read `context` once and for all.
  return Object.assign(client, held.controls());
}

/** As the real one adds it, for a visitor who is always the same. */
function contextFor(given: Context): Context {
  const context = { anonymousId: "anonymous", ...given };
  context.targetingKey ??= "anonymous";
  return context;
}

const connected = (closed: boolean) => ({
  transport: "polling" as const,
  connected: !closed,
  stale: false,
  verifiedAgeMs: 0,
  circuits: {},
  invalidResponses: 0,
  ready: true,
  refused: false,
  closed,
  events: { buffered: 0, dropped: 0 },
});

/** What a listener throws goes to the test. */
class Listeners {
  readonly #all = new Map<string, Set<(detail: never) => void>>();

  add(name: string, listener: (detail: never) => void): () => void {
    const listeners = this.#all.get(name) ?? new Set();
    this.#all.set(name, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  emit(name: string, detail: object): void {
    for (const listener of [...(this.#all.get(name) ?? [])]) listener(detail as never);
  }
}
