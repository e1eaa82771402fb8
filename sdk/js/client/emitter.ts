/** A client's events: the listeners of each, and what they are called with. */
export type Emitter<Events> = {
  /** Each call is a subscription of its own, also of the same listener; the answer ends that one. */
  on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
  /** The same, until it has been called once. */
  once<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
  emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void;
  /** The names that have listeners. */
  names(): (keyof Events)[];
};

/** `failed` receives what a listener throws, which reaches neither the other listeners nor the emitter. */
export function emitter<Events>(failed: (name: keyof Events, error: unknown) => void): Emitter<Events> {
  type Subscription = { call(detail: never): void };
  const subscriptions = new Map<keyof Events, Set<Subscription>>();
  const on: Emitter<Events>["on"] = (name, call) => {
    const all = subscriptions.get(name) ?? new Set();
    const one: Subscription = { call };
    subscriptions.set(name, all.add(one));
    return () => {
      all.delete(one);
      if (!all.size && subscriptions.get(name) === all) subscriptions.delete(name);
    };
  };
  return {
    on,
    once(name, listener) {
      const end = on(name, (detail) => {
        end();
        listener(detail);
      });
      return end;
    },
    emit(name, detail) {
      const all = subscriptions.get(name);
      for (const one of [...(all ?? [])]) {
        // One that ended since the event began is over.
        if (!all!.has(one)) continue;
        try {
          one.call(detail as never);
        } catch (error) {
          failed(name, error);
        }
      }
    },
    names: () => [...subscriptions.keys()],
  };
}
