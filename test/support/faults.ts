/**
 * The one double that tests may use: real bindings that can be made to fail or to be slow, and to recover.
 * Durable Objects and the Worker share an isolate locally, so that one switch reaches both.
 */
import type { Env } from "../../workers/env.ts";

/**
 * `at` is a pattern that is matched against the method, followed by the SQL or by the first argument if that is text.
 * `fail`: every call fails, or every one that `at` matches.
 * `delay`: every call is made `ms` late or, with `when: "after"`, returns `ms` late.
 * `hang`: the first `times` calls (default 1) that `at` matches never return, and are made (`after`) or not (`before`).
 * `flaky`: this share of calls fails; half of them are made, and only their results are lost.
 */
type Fault =
  | { mode: "fail"; at?: string }
  | { mode: "delay"; ms: number; when?: "after" }
  | { mode: "flaky"; rate: number }
  | { mode: "hang"; at: string; when: "before" | "after"; times?: number };
const PARTS = [
  "DB",
  "KV",
  "HUB",
  "RELAY",
  "EVENTS_QUEUE",
  "EVENTS_BUCKET",
  "SEGMENTS_BUCKET",
  "REVISIONS_BUCKET",
] as const;
type Part = (typeof PARTS)[number];
export type Faults = Partial<Record<Part, Fault>>;

let faults: Faults | null = null;
let caught = 0;
let hung = 0;

/** How many calls hang now. A test that crashes a process in the middle of a call waits for this. */
export const hanging = (): number => hung;

/** How often each part has been called. */
export const calls: Partial<Record<Part, number>> = {};

export function setFaults(next: Faults): void {
  faults = next;
  caught = 0;
  hung = 0;
}

/** The binding `FAULTS`, as JSON, has the faults that a process starts with. */
export function withFaults(env: Env & { FAULTS?: string }): Env {
  faults ??= JSON.parse(env.FAULTS ?? "{}") as Faults;
  const broken = PARTS.map((part) => [part, faulty(env[part] as object, part)] as const);
  return { ...env, ...Object.fromEntries(broken) };
}

/** The target of each proxy: D1's `batch` accepts only its own statements. */
const real = new WeakMap<object, object>();

/** The SQL of each statement. */
const sqlOf = new WeakMap<object, string>();

/** These methods never fail: the statements and stubs that they return are faulty like the binding. */
const RETURNS_FAULTY = ["prepare", "bind", "get"];

/** A proxy of a real binding. */
function faulty<T extends object>(target: T, name: Part): T {
  const isNamespace = name === "HUB" || name === "RELAY";
  const proxy = new Proxy(target, {
    get(object, property) {
      const member = Reflect.get(object, property, object) as unknown;
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        const call = () => Reflect.apply(member, object, args.map(unwrapped)) as unknown;
        if (property === "idFromName") return call();
        if (RETURNS_FAULTY.includes(String(property)) && (property !== "get" || isNamespace)) {
          const out = faulty(call() as object, name);
          sqlOf.set(out, typeof args[0] === "string" && property === "prepare" ? args[0] : (sqlOf.get(proxy) ?? ""));
          return out;
        }
        return behind(name, `${String(property)} ${sqlOf.get(proxy) ?? ""} ${described(args[0])}`, call);
      };
    },
  });
  real.set(proxy, target);
  return proxy;
}

function described(argument: unknown): string {
  if (typeof argument === "string") return argument;
  if (!Array.isArray(argument)) return "";
  return argument.map((one) => (typeof one === "object" && one !== null ? (sqlOf.get(one) ?? "") : "")).join("; ");
}

function unwrapped(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrapped);
  return typeof value === "object" && value !== null ? (real.get(value) ?? value) : value;
}

async function behind(name: Part, what: string, call: () => unknown): Promise<unknown> {
  calls[name] = (calls[name] ?? 0) + 1;
  const fault = faults?.[name];
  if (fault?.mode === "fail" && new RegExp(fault.at ?? "").test(what))
    throw new Error(`${name} is down (a test says so)`);
  if (fault?.mode === "delay") {
    const answer = fault.when === "after" ? await call() : undefined;
    await new Promise((resolve) => setTimeout(resolve, fault.ms));
    if (fault.when === "after") return answer;
  }
  if (fault?.mode === "flaky" && Math.random() < fault.rate) {
    if (Math.random() < 0.5) await call();
    throw new Error(`${name} failed (a test says so)`);
  }
  if (fault?.mode !== "hang" || caught >= (fault.times ?? 1) || !new RegExp(fault.at).test(what)) return call();
  caught++;
  if (fault.when === "after") await call();
  hung++;
  return new Promise(() => {});
}
