/** The steps of OpenFeature's scenarios, for both of its SDKs. */
import type { BaseHook, EvaluationContext, EvaluationDetails, FlagValue, HookHints } from "@openfeature/core";
import { expect } from "vitest";
import type { Step } from "./gherkin.ts";

export type ProviderState = "stable" | "not ready" | "error" | "fatal" | "stale";
export type Evaluation = { type: "boolean" | "string" | "number" | "object"; key: string; fallback: FlagValue };
export type Details = EvaluationDetails<FlagValue>;
export type AnyHook = BaseHook<FlagValue>;

/** The parts that differ between the SDKs. */
export type Sdk = {
  /** Registers one of Bunting's providers, in this state. */
  provide(state: ProviderState): Promise<void>;
  status(): string;
  addHooks(...hooks: AnyHook[]): void;
  /** @throws Error for a level that the SDK does not have. */
  addToLevel(level: string, entry: EvaluationContext): void | Promise<void>;
  evaluate(evaluation: Evaluation, context: EvaluationContext, hooks: AnyHook[]): Details | Promise<Details>;
  /** The context of the provider's last evaluation. */
  evaluatedWith(): EvaluationContext;
};

export class World {
  readonly sdk: Sdk;
  evaluation: Evaluation = { type: "boolean", key: "boolean-flag", fallback: false };
  context: EvaluationContext = {};
  /** A copy of the context from before the evaluation. */
  given: EvaluationContext = {};
  details: Details | null = null;
  pending: Details | Promise<Details> | null = null;
  levels: string[] = [];
  optionHooks: AnyHook[] = [];
  readonly called: string[] = [];
  readonly calledWith: Record<string, Details> = {};

  constructor(sdk: Sdk) {
    this.sdk = sdk;
  }

  hook(name = ""): AnyHook {
    const call = (stage: string) => void this.called.push(`${name}${stage}`);
    const callWith = (stage: string, details: Details) => {
      call(stage);
      this.calledWith[stage] = details;
    };
    return {
      before: () => call("before"),
      after: (_context, details) => callWith("after", details),
      error: () => call("error"),
      finally: (_context: object, details: Details, _hints?: HookHints) => callWith("finally", details),
    };
  }

  set(known: Partial<Pick<World, "context" | "pending" | "levels">>): void {
    Object.assign(this, known);
  }

  async evaluate(): Promise<void> {
    this.details = await this.sdk.evaluate(this.evaluation, this.context, this.optionHooks);
  }

  get seen(): Details {
    if (this.details === null) throw new Error("Nothing was evaluated");
    return this.details;
  }

  setEvaluation(type: string, key: string, fallback: string): void {
    this.evaluation = { type: typeOf(type), key, fallback: parseAs(type, fallback) };
  }
}

function typeOf(name: string): Evaluation["type"] {
  const type = name.toLowerCase();
  return type === "integer" || type === "float" ? "number" : (type as Evaluation["type"]);
}

/** In the scenarios, quotes of JSON have a backslash before them. */
function parseAs(type: string, text: string): FlagValue {
  if (text === "null") return null;
  switch (typeOf(type)) {
    case "boolean":
      return text === "true";
    case "number":
      return Number(text);
    case "object":
      return JSON.parse(text.replaceAll('\\"', '"')) as FlagValue;
    default:
      return text;
  }
}

const inHook: Record<string, (details: Details) => unknown> = {
  flag_key: (details) => details.flagKey,
  value: (details) => details.value,
  variant: (details) => details.variant ?? null,
  reason: (details) => details.reason,
  error_code: (details) => details.errorCode ?? null,
};

export const steps: Step<World>[] = [
  [/a (stable|not ready|error|fatal|stale) provider/, ({ sdk }, [state]) => sdk.provide(state as ProviderState)],
  [/a stable provider with retrievable context is registered/, ({ sdk }) => sdk.provide("stable")],

  // evaluation_v2, hooks, metadata
  [
    /a (\w+)-flag with key "(.*)" and a fallback value "(.*)"/,
    (world, [type, key, fallback]) => world.setEvaluation(type!, key!, fallback!),
  ],
  [
    /a context containing a key "(.*)", with type "(.*)" and with value "(.*)"/,
    (world, [key, type, value]) => world.set({ context: { ...world.context, [key!]: parseAs(type!, value!) } }),
  ],
  [
    /a context containing a key "(.*)" with null value/,
    (world, [key]) => world.set({ context: { ...world.context, [key!]: null } }),
  ],
  [
    /an evaluation context with modifiable data/,
    (world) => {
      world.context = { targetingKey: "user-42", at: new Date(0), nested: { at: new Date(0), list: [new Date(0)] } };
      world.given = structuredClone(world.context);
    },
  ],
  [/a client with added hook/, (world) => world.sdk.addHooks(world.hook())],
  [
    /evaluation options containing specific hooks/,
    (world) => {
      world.sdk.addHooks(world.hook("client "));
      world.optionHooks = [world.hook("first "), world.hook("second ")];
    },
  ],
  [/(?:the|Some) flag was evaluated(?: with details)?(?: using the evaluation options)?/, (world) => world.evaluate()],
  [
    /the flag was evaluated with details asynchronously/,
    (world) => world.set({ pending: world.sdk.evaluate(world.evaluation, world.context, []) }),
  ],
  [
    /the evaluation should complete without blocking/,
    async (world) => {
      expect(world.pending).toBeInstanceOf(Promise);
      world.details = await world.pending;
    },
  ],
  [
    /the resolved details value should be "(.*)"/,
    ({ evaluation, seen }, [value]) => expect(seen.value).toEqual(parseAs(evaluation.type, value!)),
  ],
  [/the reason should be "(.*)"/, ({ seen }, [reason]) => expect(seen.reason).toBe(reason)],
  [/the variant should be "([^"]*)"/, ({ seen }, [variant]) => expect(seen.variant).toBe(variant)],
  [/the flag key should be "(.*)"/, ({ seen }, [key]) => expect(seen.flagKey).toBe(key)],
  [/the error-code should be "(.*)"/, ({ seen }, [code]) => expect(seen.errorCode).toBe(code)],
  [/the provider status should be "(.*)"/, ({ sdk }, [status]) => expect(sdk.status()).toBe(status)],
  [
    /the resolved metadata should contain/,
    ({ seen }, _groups, [, ...rows]) => {
      const expected = Object.fromEntries(rows.map(([key, type, value]) => [key, parseAs(type!, value!)]));
      expect(seen.flagMetadata).toMatchObject(expected);
    },
  ],
  [/the resolved metadata is empty/, ({ seen }) => expect(seen.flagMetadata).toEqual({})],
  [/the "(before|error)" hook should have been executed/, ({ called }, [stage]) => expect(called).toContain(stage)],
  [
    /the "(.*)" hooks should be called with evaluation details/,
    ({ calledWith }, [stages], [, ...rows]) => {
      for (const stage of stages!.split(", "))
        for (const [type, key, value] of rows)
          expect(inHook[key!]!(calledWith[stage]!)).toEqual(parseAs(type!, value!));
    },
  ],
  [
    /the specified hooks should execute during evaluation/,
    ({ called }) => expect(called).toEqual(expect.arrayContaining(["first before", "second finally"])),
  ],
  [
    // Specification 4.4.2: before goes from client to invocation, all others the other way.
    /the hook order should be maintained/,
    ({ called }) => {
      const around = (stage: string) => ["client ", "first ", "second "].map((name) => name + stage);
      const back = (stage: string) => around(stage).reverse();
      expect(called).toEqual([...around("before"), ...back("after"), ...back("finally")]);
    },
  ],
  [/the original evaluation context should remain unmodified/, ({ context, given }) => expect(context).toEqual(given)],
  [
    // By the scenario's own words and tag, 1.4.15.1: the metadata.
    /the evaluation details should be immutable/,
    ({ seen }) => expect(Object.isFrozen(seen.flagMetadata)).toBe(true),
  ],

  // evaluation
  [
    /an? (boolean|string|integer|float) flag with key "(.*)" is evaluated with (?:details and )?default value "?(.*?)"?/,
    (world, [type, key, fallback]) => {
      world.setEvaluation(type!, key!, fallback!);
      return world.evaluate();
    },
  ],
  [
    /an object flag with key "(.*)" is evaluated with (?:details and )?a null default value/,
    (world, [key]) => {
      world.setEvaluation("object", key!, "null");
      return world.evaluate();
    },
  ],
  [
    /a non-existent string flag with key "(.*)" is evaluated with details and a fallback value "(.*)"/,
    (world, [key, fallback]) => {
      world.setEvaluation("string", key!, fallback!);
      return world.evaluate();
    },
  ],
  [
    /a string flag with key "(.*)" is evaluated as an integer, with details and a fallback value (\d+)/,
    (world, [key, fallback]) => {
      world.setEvaluation("integer", key!, fallback!);
      return world.evaluate();
    },
  ],
  [
    /context contains keys (".*") with values (".*")/,
    (world, [keys, values]) => {
      const parsed = JSON.parse(`[${values}]`) as unknown[];
      const typed = parsed.map((value) => (value === "false" ? false : value));
      const names = JSON.parse(`[${keys}]`) as string[];
      world.context = Object.fromEntries(names.map((name, index) => [name, typed[index]])) as EvaluationContext;
    },
  ],
  [
    /a flag with key "(.*)" is evaluated with default value "(.*)"/,
    (world, [key, fallback]) => {
      world.setEvaluation("string", key!, fallback!);
      return world.evaluate();
    },
  ],
  [
    /the resolved (?:boolean|string|integer|float) (?:value|response) should be "?(.*?)"?/,
    ({ evaluation, seen }, [value]) => expect(seen.value).toEqual(parseAs(evaluation.type, value!)),
  ],
  [
    /the resolved (?:boolean|string|integer|float) details value should be "?(.*?)"?, the variant should be "(.*)", and the reason should be "(.*)"/,
    ({ evaluation, seen }, [value, variant, reason]) =>
      expect(seen).toMatchObject({ value: parseAs(evaluation.type, value!), variant, reason }),
  ],
  [
    /the resolved object (?:details )?value should be contain fields (.*), with values "true", "Check out these pics!" and 100, respectively/,
    ({ seen }) => expect(seen.value).toEqual({ showImages: true, title: "Check out these pics!", imagesPerPage: 100 }),
  ],
  [
    /the variant should be "(.*)", and the reason should be "(.*)"/,
    ({ seen }, [variant, reason]) => expect(seen).toMatchObject({ variant, reason }),
  ],
  [
    /the resolved flag value is "(.*)" when the context is empty/,
    async (world, [value]) => {
      world.context = {};
      await world.evaluate();
      expect(world.seen.value).toBe(value);
    },
  ],
  [
    /the default (?:string|integer) value should be returned/,
    ({ evaluation, seen }) => expect(seen.value).toBe(evaluation.fallback),
  ],
  [
    /the reason should indicate an error and the error code should indicate .* with "(.*)"/,
    ({ seen }, [errorCode]) => expect(seen).toMatchObject({ reason: "ERROR", errorCode }),
  ],

  // contextMerging
  [
    /A context entry with key "(.*)" and value "(.*)" is added to the "(.*)" level/,
    ({ sdk }, [key, value, level]) => sdk.addToLevel(level!, { [key!]: value! }),
  ],
  [/A table with levels of increasing precedence/, (world, _groups, table) => world.set({ levels: table.flat() })],
  [
    /Context entries for each level from API level down to the "(.*)" level, with key "(.*)" and value "(.*)"/,
    async ({ sdk, levels }, [last, key]) => {
      // The scenario expects the name of the last level as the merged value.
      for (const level of levels.slice(0, levels.indexOf(last!) + 1)) await sdk.addToLevel(level, { [key!]: level });
    },
  ],
  [
    /The merged context contains an entry with key "(.*)" and value "(.*)"/,
    ({ sdk }, [key, value]) => expect(sdk.evaluatedWith()).toMatchObject({ [key!]: value }),
  ],
];
