import type { Context, Decision, Json } from "@bunting/core";
import type { EvaluatedFlag } from "@bunting/core/wire";

/** A flag in a test: its value for everybody, or who gets which. */
export type TestValue<Value = Json> = Value | ((context: Context) => Value);
export type TestValues<Flags extends object> = { [Key in keyof Flags]?: TestValue<Flags[Key]> };

/** One call of a getter and its decision. */
export type Evaluation = { key: string; context: Context; decision: Decision };
export type Tracked = { metric: string; unit: string; value: number; context: Context };

/** What a test does with a client of its making, and sees of what was done with it. */
export type TestControls<Flags extends object> = {
  /** Notifies the listeners for `change`, as a change in the dashboard would. */
  set<Key extends keyof Flags & string>(key: Key, value: TestValue<Flags[Key]>): void;
  /** From now on there is no such flag: its default is answered. */
  remove(key: keyof Flags & string): void;
  /** The flags that the client was made with, and nothing recorded. Listeners stay. */
  reset(): void;
  /** Every call of a getter, in order. */
  readonly evaluations: readonly Evaluation[];
  /** Every metric that would be sent, in order: the real clients send none without a unit or of no finite value. */
  readonly tracked: readonly Tracked[];
};

/** Flags that are set and not evaluated, and a record of their use: what the test clients have in common. */
export class TestFlags<Flags extends object> {
  readonly evaluations: Evaluation[] = [];
  readonly tracked: Tracked[] = [];
  /** Called with the keys that have changed. */
  changed: (keys: string[]) => void = () => {};
  revision = 1;
  readonly #initial: TestValues<Flags>;
  #flags: Map<string, { value: TestValue; version: number }>;

  constructor(initial: TestValues<Flags>) {
    this.#initial = { ...initial };
    this.#flags = this.#start();
  }

  /** @throws whatever a function of the test throws, so that the test fails. */
  decide(key: string, defaultValue: Json, context: Context, type = typeOf(defaultValue)): Decision {
    const flag = this.#flags.get(key);
    return typed(flag && decisionOf(flag, context), defaultValue, type);
  }

  /** As `decide`, on the record. */
  evaluate(key: string, defaultValue: Json, context: Context, type?: string): Decision {
    const decision = this.decide(key, defaultValue, context, type);
    this.evaluations.push({ key, context, decision });
    return decision;
  }

  /** As `evaluate`, of what was read from all values. */
  show(key: string, flag: EvaluatedFlag | undefined, defaultValue: Json, context: Context): Decision {
    const decision = typed(flag && { ...flag, flagVersion: flag.version }, defaultValue, typeOf(defaultValue));
    this.evaluations.push({ key, context, decision });
    return decision;
  }

  all(context: Context): Record<string, Decision> {
    const decisions: Record<string, Decision> = Object.create(null);
    for (const [key, flag] of this.#flags) decisions[key] = decisionOf(flag, context);
    return decisions;
  }

  track(metric: string, context: Context, value: number): void {
    const unit = context.targetingKey;
    if (typeof unit === "string" && unit !== "" && Number.isFinite(value))
      this.tracked.push({ metric, unit, value, context });
  }

  set(key: string, value: TestValue): void {
    this.#flags.set(key, { value: frozen(value), version: ++this.revision });
    this.changed([key]);
  }

  remove(key: string): void {
    if (!this.#flags.delete(key)) return;
    this.revision += 1;
    this.changed([key]);
  }

  reset(): void {
    this.evaluations.length = 0;
    this.tracked.length = 0;
    const before = this.#flags.keys();
    this.revision += 1;
    this.#flags = this.#start();
    this.changed([...new Set([...before, ...this.#flags.keys()])]);
  }

  /** The controls of whoever has these flags. */
  controls(): TestControls<Flags> {
    return {
      set: (key, value) => this.set(key, value as TestValue),
      remove: (key) => this.remove(key),
      reset: () => this.reset(),
      evaluations: this.evaluations,
      tracked: this.tracked,
    };
  }

  #start() {
    const version = this.revision;
    const entries = Object.entries(this.#initial as Record<string, TestValue | undefined>);
    return new Map(
      entries.flatMap(([key, value]) =>
        value === undefined ? [] : [[key, { value: frozen(value), version }] as const],
      ),
    );
  }
}

function decisionOf({ value, version }: { value: TestValue; version: number }, context: Context): Decision {
  return typeof value === "function"
    ? { value: frozen(value(context)) as Json, variation: "test", reason: "RULE_MATCH", flagVersion: version }
    : { value, variation: "test", reason: "STATIC", flagVersion: version };
}

/** The default where there is no flag, or none of this type. */
function typed(decision: Decision | undefined, defaultValue: Json, type: string): Decision {
  if (decision !== undefined && decision.variation !== null && (type === "any" || typeOf(decision.value) === type)) {
    const { value, variation, reason, flagVersion } = decision;
    return { value, variation, reason, flagVersion };
  }
  return {
    value: defaultValue,
    variation: null,
    reason: "ERROR",
    errorCode: decision === undefined ? "FLAG_NOT_FOUND" : "TYPE_MISMATCH",
    flagVersion: decision?.flagVersion ?? 0,
  };
}

/** As the typed getters distinguish values: a default that is null, a list or an object takes any. */
function typeOf(value: Json): string {
  const type = typeof value;
  return type === "object" ? "any" : type;
}

/** Values of JSON flags are frozen, so that a test finds out who writes to them. */
function frozen(value: TestValue): TestValue {
  if (typeof value !== "object" || value === null) return value;
  const copy = structuredClone(value);
  const freeze = (one: Json): void => {
    if (typeof one !== "object" || one === null) return;
    for (const inner of Object.values(one)) freeze(inner);
    Object.freeze(one);
  };
  freeze(copy);
  return copy;
}
