import type { Json } from "@bunting/core";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import type { BrowserClient, Values } from "./browser.ts";
import { isServed } from "./values-dialect.ts";

export type ProviderProps = {
  /** Of any flags: by its members, since one of known flags is no `BrowserClient` of just any. */
  client: Pick<BrowserClient, keyof BrowserClient>;
  /** The nearest Suspense boundary shows its fallback until there are values, for 5,000 ms at most; a bootstrap is values. */
  suspense?: boolean;
  children?: ReactNode;
};

/** What a flag's value can be, told from its default: any boolean for `false`, any string for `""`. */
export type Like<Value> = Value extends boolean
  ? boolean
  : Value extends number
    ? number
    : Value extends string
      ? string
      : Value;

type Scope = { client: BrowserClient; suspense: boolean; subscribe(changed: () => void): () => void };

const Scoped = createContext<Scope | null>(null);
/** What was thrown must be thrown again until it is over, and then never more. */
const waits = new WeakMap<BrowserClient, { until: Promise<unknown> | null }>();

/** Gives the components below it a client, which it neither makes nor closes. */
export function BuntingProvider({ client, suspense = false, children }: ProviderProps): ReactNode {
  const scope = useMemo<Scope>(
    () => ({ client, suspense, subscribe: (changed) => client.on("change", changed) }),
    [client, suspense],
  );
  return <Scoped.Provider value={scope}>{children}</Scoped.Provider>;
}

/** @throws Error outside a `BuntingProvider`. */
export const useBunting = (): BrowserClient => useScope().client;

/**
 * A flag's value. The component is drawn again when this value changes, and not when another does. What a browser has
 * drawn is counted and exposed once; what a server draws never is.
 */
export function useFlag<Value extends Json>(key: string, defaultValue: Value): Like<Value> {
  const { client, subscribe } = useScope();
  const read = (values: Values): Json => {
    const flag = values[key];
    return isServed(flag, typeof defaultValue) ? flag.value : defaultValue;
  };
  const value = useSyncExternalStore(
    subscribe,
    () => read(client.all()),
    () => read(client.bootstrap),
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: another default is no other value to have been shown
  useEffect(() => void client.details(key, defaultValue), [client, key, value]);
  return value as Like<Value>;
}

/** All values as they came; drawn again when any of them changes. Counts and exposes nothing. */
export function useFlags(): Values {
  const { client, subscribe } = useScope();
  return useSyncExternalStore(subscribe, client.all, () => client.bootstrap);
}

function useScope(): Scope {
  const scope = useContext(Scoped);
  if (!scope) throw new Error("Bunting: there is no BuntingProvider above this component");
  const { client, suspense } = scope;
  if (suspense && client.status().revision === null) {
    const wait = waits.get(client) ?? { until: client.ready().finally(() => (wait.until = null)) };
    waits.set(client, wait);
    // This is how a component suspends.
    if (wait.until) throw wait.until;
  }
  return scope;
}
