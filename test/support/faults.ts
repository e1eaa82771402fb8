/**
 * The one double that tests may use: real bindings that can be made to fail or to be slow, and to recover.
 * Durable Objects and the Worker share an isolate locally, so that one switch reaches both.
 */
import type { Env } from "../../workers/env.ts";

/**
 * `fail`: every call, or those that `at` matches. `hang`: the first call, or so many `times`, that `at` (a pattern) matches never returns, before it is made or after; what
 * is matched is the method, then the SQL or the first text that goes in. `hanging` tells how many do: when a crash there can be made.
 * `flaky` fails that share of calls; half of these were carried out, and only their answers are lost.
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

export const hanging = (): number => hung;

/** How often each part has been called. */
export const calls: Partial<Record<Part, number>> = {};

export function setFaults(next: Faults): void {
  faults = next;
  caught = 0;
  hung = 0;
}

/** `FAULTS` in the bindings is how a process starts with something broken already. */
export function withFaults(env: Env & { FAULTS?: string }): Env {
  faults ??= JSON.parse(env.FAULTS ?? "{}") as Faults;
  const broken = PARTS.map((part) => [part, faulty(env[part] as object, part)] as const);
  return { ...env, ...Object.fromEntries(broken) };
}

/** D1's batch takes the statements it made and not a proxy of them. */
const real = new WeakMap<object, object>();

/** What a statement asks, for faults at one step of many. */
const sqlOf = new WeakMap<object, string>();

/** Answered at once: what they hand out (statements, objects) is as faulty as the binding. */
const HANDS_OUT = ["prepare", "bind", "get"];

/** The object behind is always the real one. */
function faulty<T extends object>(target: T, name: Part): T {
  const isNamespace = name === "HUB" || name === "RELAY";
  const proxy = new Proxy(target, {
    get(object, property) {
      const member = Reflect.get(object, property, object) as unknown;
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        const call = () => Reflect.apply(member, object, args.map(unwrapped)) as unknown;
        if (property === "idFromName") return call();
        if (HANDS_OUT.includes(String(property)) && (property !== "get" || isNamespace)) {
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
