/** Clients for tests: the same types as the real ones, flags that the test sets, no network and nothing to wait for. */
import type { Client, ClientEvents, FlagTypes } from "./client.ts";
import { type TestControls, TestFlags, type TestValues } from "./testing-flags.ts";

export type { Context, Decision, Json } from "@bunting/core";
export type { Client, FlagTypes } from "./client.ts";
export type { Evaluation, TestControls, TestValue, TestValues, Tracked } from "./testing-flags.ts";

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
}: {
  flags?: TestValues<NoInfer<Flags>>;
} = {}): TestClient<Flags> {
  const held = new TestFlags<Flags>(flags);
  const listeners = new Map<string, Set<(detail: never) => void>>();
  let closed = false;
  held.changed = (keys) => {
    const { revision } = held;
    const change: ClientEvents["change"] = {
      revision,
      previous: revision - 1,
      publishedAt: null,
      ageMs: null,
      flags: keys,
      segments: [],
    };
    for (const listener of [...(listeners.get("change") ?? [])]) listener(change as never);
  };
  // Of the type it answers but for the class's private parts, which nobody can ask for.
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
    on(name, listener) {
      const all = listeners.get(name) ?? new Set();
      listeners.set(name, all);
      all.add(listener);
      return () => void all.delete(listener);
    },
    ready: async () => true,
    evaluator: null,
    status: () => ({
      transport: "polling",
      connected: !closed,
      stale: false,
      verifiedAgeMs: 0,
      circuits: {},
      garbage: 0,
      ready: true,
      refused: false,
      revision: held.revision,
      source: "snapshot",
      closed,
      events: { buffered: 0, dropped: 0 },
    }),
    flush: async () => {},
    async close() {
      closed = true;
    },
  };
  return Object.assign(client, held.controls()) as unknown as TestClient<Flags>;
}
