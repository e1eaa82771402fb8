/** Clients for tests: the same types as the real ones, flags that the test sets, no network and nothing to wait for. */
import type { Context, Json } from "@bunting/core";
import type { BrowserClient, BrowserEvents, Values } from "./browser.ts";
import { boundTo } from "./client/bound-flags.ts";
import type { Client, ClientEvents, GivenContext } from "./client/client.ts";
import { emitter } from "./client/emitter.ts";
import type { FlagTypes } from "./client/flag-types.ts";
import { type TestControls, TestFlags, type TestValues } from "./testing/flags.ts";

export type { Context, Decision, Json } from "@bunting/core";
export type { BrowserClient } from "./browser.ts";
export type { Client, FlagTypes } from "./client/client.ts";
export type { Evaluation, TestControls, TestValue, TestValues, Tracked } from "./testing/flags.ts";

type Options<Flags extends object> = { flags?: TestValues<NoInfer<Flags>> | null };

export type TestClient<Flags extends object = FlagTypes> = Client<Flags> & TestControls<Flags>;

/**
 * Takes the place of what `/node` and `/workers` make:
 *
 *     const bunting = createTestClient({ flags: { "new-checkout": true } });
 *     bunting.set("theme", ({ plan }) => (plan === "gold" ? "dark" : "light"));
 *
 * A flag that is not set answers its default with `FLAG_NOT_FOUND`, as one that does not exist.
 */
export function createTestClient<Flags extends object = FlagTypes>(options?: Options<Flags> | null): TestClient<Flags> {
  const held = new TestFlags<Flags>(options?.flags ?? {});
  const events = emitter<ClientEvents & { [Name in `change:${string}`]: ClientEvents["change"] }>(rethrow);
  let closed = false;
  held.changed = (flags) => {
    const { revision } = held;
    const change = { revision, previous: revision - 1, publishedAt: null, ageMs: null, flags, segments: [] };
    events.emit("change", change);
    for (const key of flags) events.emit(`change:${key}`, change);
  };
  const close = async () => {
    closed = true;
  };
  // Of the type it answers but for the class's private parts, which no caller can reach.
  const client: Pick<Client<Flags>, keyof Client<Flags>> = {
    boolean: (key, defaultValue, context = {}) =>
      held.evaluate(key, defaultValue as Json, context as Context, "boolean").value as boolean,
    string: (key, defaultValue, context = {}) =>
      held.evaluate(key, defaultValue as Json, context as Context, "string").value as string,
    number: (key, defaultValue, context = {}) =>
      held.evaluate(key, defaultValue as Json, context as Context, "number").value as number,
    json: (key, defaultValue, context = {}) =>
      held.evaluate(key, defaultValue as Json, context as Context, "any").value as never,
    details: (key, defaultValue, context = {}) => held.evaluate(key, defaultValue as Json, context as Context) as never,
    all: (context = {}) => held.all(context as Context),
    track(metric, context, value = 1) {
      if (!closed) held.track(metric, context as Context, value);
    },
    forContext: (context) => boundTo(client, context),
    on: events.on as never,
    once: events.once as never,
    ready: async () => !closed,
    evaluator: null,
    status: () => ({
      ...connected(closed),
      revision: held.revision,
      source: "snapshot",
    }),
    flush: async () => {},
    close,
    [Symbol.asyncDispose]: close,
  };
  return Object.assign(client, held.controls()) as unknown as TestClient<Flags>;
}

export type TestBrowserClient<Flags extends object = FlagTypes> = BrowserClient<Flags> & TestControls<Flags>;

/** Takes the place of what `/browser` makes, in `/react` too. A function of the context is called again for a new one. */
export function createTestBrowserClient<Flags extends object = FlagTypes>(
  options?: (Options<Flags> & { context?: GivenContext | null }) | null,
): TestBrowserClient<Flags> {
  const held = new TestFlags<Flags>(options?.flags ?? {});
  const events = emitter<BrowserEvents & { [Name in `change:${string}`]: BrowserEvents["change"] }>(rethrow);
  let closed = false;
  let context = contextFor(options?.context);
  const close = async () => {
    closed = true;
  };
  const changed = (flags: string[]) => {
    const change = { revision: held.revision, flags };
    if (flags.length > 0) events.emit("change", change);
    for (const key of flags) events.emit(`change:${key}`, change);
  };
  let values: Values;
  const read = () => {
    const before: Values = values ?? Object.create(null);
    const entries = Object.entries(held.all(context)).map(([key, { value, variation, reason, flagVersion }]) => {
      const flag = { value, variation, reason, version: flagVersion };
      const held = before[key];
      return [key, held && JSON.stringify({ ...held, version: flagVersion }) === JSON.stringify(flag) ? held : flag];
    });
    values = Object.assign(Object.create(null), Object.fromEntries(entries));
  };
  held.changed = (keys) => {
    const before = values;
    read();
    changed(keys.filter((key) => values[key] !== before[key]));
  };
  read();
  const bootstrap = values!;
  const client: BrowserClient<Flags> = {
    boolean: (key, defaultValue) => held.evaluate(key, defaultValue, context, "boolean").value as boolean,
    string: (key, defaultValue) => held.evaluate(key, defaultValue, context, "string").value as string,
    number: (key, defaultValue) => held.evaluate(key, defaultValue, context, "number").value as number,
    json: (key, defaultValue) => held.evaluate(key, defaultValue as Json, context, "any").value as never,
    details: (key, defaultValue) => held.evaluate(key, defaultValue as Json, context) as never,
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
      context = contextFor(typeof given === "function" ? given(context) : given);
      const before = values;
      read();
      const differs = (key: string) => JSON.stringify(values[key]?.value) !== JSON.stringify(before[key]?.value);
      changed(Object.keys(values).filter(differs));
      return true;
    },
    on: events.on as never,
    once: events.once as never,
    ready: async () => !closed,
    status: () => ({ ...connected(closed), refused: false, revision: held.revision }),
    flush: async () => {},
    close,
    [Symbol.asyncDispose]: close,
  };
  // Not a spread, which would read `context` once and for all.
  return Object.assign(client, held.controls());
}

/** As the real one adds it, for a visitor who is always the same. */
function contextFor(given?: GivenContext | null): Context {
  const context: Context = { anonymousId: "anonymous", ...(given as Context) };
  if (typeof context.targetingKey !== "string" || context.targetingKey === "") context.targetingKey = "anonymous";
  return context;
}

const connected = (closed: boolean) => ({
  transport: "polling" as const,
  connected: !closed,
  stale: false,
  verifiedAgeMs: 0,
  circuits: {},
  invalidResponses: 0,
  ready: !closed,
  refused: false,
  closed,
  events: { buffered: 0, dropped: 0 },
});

/** What a listener throws goes to the test. */
const rethrow = (_: unknown, error: unknown) => {
  throw error;
};
