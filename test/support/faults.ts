/**
 * The one double that tests may use: real bindings that can be made to fail or to be slow, and to recover.
 * Durable Objects and the Worker share an isolate locally, so that one switch reaches both.
 */
import type { Env } from "../../workers/env.ts";

type Fault = { mode: "fail" } | { mode: "delay"; ms: number };
export type Faults = Partial<
  Record<"DB" | "KV" | "EVENTS_QUEUE" | "EVENTS_BUCKET" | "SEGMENTS_BUCKET" | "REVISIONS_BUCKET", Fault>
>;

let faults: Faults | null = null;

export function setFaults(next: Faults): void {
  faults = next;
}

/** `FAULTS` in the bindings is how a process starts with something broken already. */
export function withFaults(env: Env & { FAULTS?: string }): Env {
  faults ??= JSON.parse(env.FAULTS ?? "{}") as Faults;
  const { DB, KV, EVENTS_QUEUE, EVENTS_BUCKET, SEGMENTS_BUCKET, REVISIONS_BUCKET } = env;
  return {
    ...env,
    DB: faulty(DB, "DB"),
    KV: faulty(KV, "KV"),
    EVENTS_QUEUE: faulty(EVENTS_QUEUE, "EVENTS_QUEUE"),
    EVENTS_BUCKET: faulty(EVENTS_BUCKET, "EVENTS_BUCKET"),
    SEGMENTS_BUCKET: faulty(SEGMENTS_BUCKET, "SEGMENTS_BUCKET"),
    REVISIONS_BUCKET: faulty(REVISIONS_BUCKET, "REVISIONS_BUCKET"),
  };
}

/** D1's batch takes the statements it made and not a proxy of them. */
const real = new WeakMap<object, object>();

/** What a binding hands out (prepared statements) is as faulty as itself; the object behind is always the real one. */
function faulty<T extends object>(target: T, name: keyof Faults): T {
  const proxy = new Proxy(target, {
    get(object, property) {
      const member = Reflect.get(object, property, object) as unknown;
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        const call = () => Reflect.apply(member, object, args.map(unwrapped)) as unknown;
        if (property === "prepare" || property === "bind") return faulty(call() as object, name);
        return behind(name, call);
      };
    },
  });
  real.set(proxy, target);
  return proxy;
}

function unwrapped(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrapped);
  return typeof value === "object" && value !== null ? (real.get(value) ?? value) : value;
}

async function behind(name: keyof Faults, call: () => unknown): Promise<unknown> {
  const fault = faults?.[name];
  if (fault?.mode === "fail") throw new Error(`${name} is down (a test says so)`);
  if (fault?.mode === "delay") await new Promise((resolve) => setTimeout(resolve, fault.ms));
  return call();
}
