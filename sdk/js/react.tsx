import type { Json } from "@bunting/core";
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useSyncExternalStore,
} from "react";
import type { BrowserClient, EvaluatedFlag, Values } from "./browser.ts";
import type { IfJson, Like } from "./client/flag-types.ts";
import { isServed } from "./transports/values-protocol.ts";

export type { Like } from "./client/flag-types.ts";

export type ProviderProps = {
  /** A client with any flag types: `Pick`, because a `BrowserClient<Flags>` is not assignable to a `BrowserClient`. */
  client: Pick<BrowserClient, keyof BrowserClient>;
  /** The nearest Suspense boundary shows its fallback until there are values, for 5,000 ms at most; a bootstrap is values. */
  suspense?: boolean;
  children?: ReactNode;
};

type Scope = { client: BrowserClient; suspense: boolean; subscribe(changed: () => void): () => void };

/**
 * Effects of the layout are those of what is on the page: none of a drawing that is given up or hidden, and no change
 * of values between the drawing and them. On a server there is no page, and older Reacts warn of them there.
 */
const useOnPage = "document" in globalThis ? useLayoutEffect : useEffect;

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
 * A flag's value. The component is drawn again when this flag changes for its visitor, and not when another does. What a
 * browser shows is counted and exposed once it is on the page, and again when the flag changes; what a server draws never is.
 */
export function useFlag<Value>(key: string, defaultValue: Value & IfJson<Value>): Like<Value> {
  const { client, subscribe } = useScope();
  // The flag and not its value: the same value may be another variation's, or another visitor's.
  const flag = useSyncExternalStore(
    subscribe,
    () => client.all()[key],
    () => client.bootstrap[key],
  );
  const show = useShow(client);
  useOnPage(() => show(key, flag, defaultValue as Json));
  return (isServed(flag, typeof defaultValue) ? flag.value : defaultValue) as Like<Value>;
}

/**
 * All values as they came, the same object until one changes; drawn again then. Of these, the flags that were read are
 * counted and exposed, as by `useFlag`, once what was drawn with them is on the page.
 */
export function useFlags(): Values {
  const { client, subscribe } = useScope();
  const values = useSyncExternalStore(subscribe, client.all, () => client.bootstrap);
  const show = useShow(client);
  const read = useMemo(() => watchReads(values, show), [values, show]);
  const drawnWith = new Set<string>();
  read.into = drawnWith;
  useOnPage(() => {
    read.into = null;
    for (const key of drawnWith) show(key, values[key]);
  });
  return read.values;
}

type Show = (key: string, flag: EvaluatedFlag | undefined, defaultValue?: Json) => void;

type Reads = { values: Values; into: Set<string> | null };

/** What a drawing reads goes `into` its set, since it may never come onto the page. What is read later is shown at once. */
function watchReads(all: Values, show: Show): Reads {
  const read: Reads = {
    into: null,
    values: new Proxy(all, {
      get(_, name) {
        // Symbols and what every object has are no flags.
        const key = name as string;
        if (Object.hasOwn(all, key)) {
          if (read.into) read.into.add(key);
          else show(key, all[key]);
        }
        return all[key];
      },
    }),
  };
  return read;
}

/** Once for each flag until it changes, however often the component is drawn, hidden or (in Strict Mode) mounted. */
const useShow = (client: BrowserClient): Show =>
  useMemo(() => {
    const shown = new Map<string, EvaluatedFlag | undefined>();
    return (key, flag, defaultValue) => {
      if (shown.has(key) && shown.get(key) === flag) return;
      shown.set(key, flag);
      client.shown(key, flag, defaultValue);
    };
  }, [client]);

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
