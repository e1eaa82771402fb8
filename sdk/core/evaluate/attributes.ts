import { lowerCase } from "../operators/strings.ts";

/** How documents name a context's attributes (EV-10). Reading is total: a hostile context has missing attributes. */
export class Attribute {
  readonly name: string;
  /** Both `key` and `targetingKey` mean the targeting key, whatever else the context holds under those names. */
  readonly isTargetingKey: boolean;
  /** The steps after the first, for a path. */
  readonly #path: readonly string[];
  // All conditions of an evaluator share one Attribute for one text, and read it once an evaluation.
  #epoch = 0;
  #value: unknown;
  #elements: ReadonlySet<unknown> | null = null;
  #text = "";
  #lower = "";

  constructor(name: string, path: readonly string[]) {
    this.name = name;
    this.isTargetingKey = path.length === 0 && isTargetingKeyName(name);
    this.#path = path;
  }

  /** As `read`, remembered for as long as the epoch, which stands for one context. */
  readOnce(context: object, targetingKey: string, epoch: number): unknown {
    if (this.isTargetingKey) return targetingKey === "" ? undefined : targetingKey;
    if (this.#epoch !== epoch) {
      const value = this.read(context, targetingKey);
      // Only now: a getter may evaluate too.
      this.#epoch = epoch;
      this.#value = value;
      this.#elements = null;
    }
    return this.#value;
  }

  /** In lower case, remembered for the text: some take thirty microseconds. */
  lower(text: string): string {
    if (text !== this.#text) {
      this.#lower = lowerCase(text);
      this.#text = text;
    }
    return this.#lower;
  }

  /** The elements of `array` as a set. `array` is the value that `readOnce` last returned; the set is kept as long as that. */
  elementsOf(array: readonly unknown[]): ReadonlySet<unknown> {
    if (this.#elements === null) {
      const elements = new Set<unknown>();
      for (let i = 0, length = lengthOf(array); i < length; i++) elements.add(elementOf(array, i));
      this.#elements = elements;
    }
    return this.#elements;
  }

  /** `undefined` where missing or null. `targetingKey` is the context's own, "" where it has none. */
  read(context: object, targetingKey: string): unknown {
    if (this.isTargetingKey) return targetingKey === "" ? undefined : targetingKey;
    const value = isTargetingKeyName(this.name) ? targetingKey : ownValue(context, this.name);
    return this.#path.length === 0 ? value : follow(value, this.#path);
  }
}

/** `undefined` for "", and for a path with an empty step or with a `~` that is neither `~0` nor `~1`. */
export function parseAttribute(text: unknown): Attribute | undefined {
  if (typeof text !== "string" || text === "") return undefined;
  if (text[0] !== "/") return new Attribute(text, []);
  const steps = text.slice(1).split("/");
  if (steps.some((step) => step === "" || /~(?![01])/.test(step))) return undefined;
  const [name, ...path] = steps.map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return new Attribute(name!, path);
}

/** The targeting key, or "" where it is absent, empty or not a string. */
export function targetingKeyOf(context: object): string {
  const key = ownValue(context, "targetingKey");
  return typeof key === "string" ? key : "";
}

function isTargetingKeyName(name: string): boolean {
  return name === "targetingKey" || name === "key";
}

// Getters and proxies may throw: what cannot be read is missing.
function ownValue(object: object, name: string): unknown {
  try {
    return Object.hasOwn(object, name) ? inJson((object as Record<string, unknown>)[name], name) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What is in its place once it has been JSON, as the context of a page or of a remote evaluation has (EV-10): of a date its
 * text, of NaN nothing. Functions, symbols and bigints have no JSON and are missing.
 */
function inJson(value: unknown, name: string): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : undefined;
    case "object":
      return value === null ? undefined : objectInJson(value, name);
    default:
      return undefined;
  }
}

function objectInJson(value: object, name: string): unknown {
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") {
    const json: unknown = toJSON.call(value, name);
    return typeof json === "object" && json !== null ? unwrapped(json) : inJson(json, name);
  }
  return unwrapped(value);
}

/** `new String("a")` is "a" to JSON. */
const unwrapped = (value: object): unknown =>
  value instanceof String || value instanceof Number || value instanceof Boolean ? inJson(value.valueOf(), "") : value;

function follow(start: unknown, path: readonly string[]): unknown {
  let value = start;
  for (const step of path) {
    if (typeof value !== "object" || value === null || isArray(value)) return undefined;
    value = ownValue(value, step);
  }
  return value;
}

/** Array.isArray throws on a revoked proxy. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** One element, `undefined` where it cannot be read or has no JSON. */
export function elementOf(array: readonly unknown[], index: number): unknown {
  try {
    return inJson(array[index], "");
  } catch {
    return undefined;
  }
}

export function lengthOf(array: readonly unknown[]): number {
  try {
    return array.length;
  } catch {
    return 0;
  }
}
