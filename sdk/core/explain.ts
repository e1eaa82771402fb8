/**
 * A decision step by step and in words, for development: not part of what SDKs load to evaluate. Conditions are decided by
 * the evaluator itself, each as the only condition of a flag made up for it, so that there is nothing here to disagree with it.
 */

import { bucket, bucketable } from "./bucketing/bucket.ts";
import type { Decision } from "./decision.ts";
import { conditionInWords, shown } from "./describe/sentences.ts";
import { parseAttribute, targetingKeyOf } from "./evaluate/attributes.ts";
import { compile, type Evaluator } from "./evaluate/evaluate.ts";
import type { Condition, Context, Flag, Json, Prerequisite, Serve } from "./ruleset.ts";

export type Explanation = {
  decision: Decision;
  /** Sentences, in the order of evaluation. */
  steps: string[];
};

/** Where the walk through the document ends. */
type Outcome = Pick<Decision, "reason" | "variation">;

/** No flag can be called so. */
const PROBE = "?";
const PROBE_FLAG: Flag = {
  key: PROBE,
  version: 1,
  type: "boolean",
  on: true,
  variations: [
    { key: "yes", value: true },
    { key: "no", value: false },
  ],
  offVariation: "no",
  prerequisites: [],
  targets: [],
  rules: [],
  fallthrough: { variation: "no" },
  clientSide: false,
  trackExposures: false,
  experiment: null,
  killed: false,
};

/** Total, like evaluation; many times as slow. Changes nothing in the evaluator that it is given. */
export function explain(evaluator: Evaluator, key: string, context: Context, defaultValue: Json = null): Explanation {
  const decision = evaluator.evaluate(key, context, defaultValue);
  const flag = evaluator.ruleset.flags[key];
  const walk = new Walk(evaluator, context);
  if (flag === undefined)
    return { decision, steps: [`there is no flag ${shown(key)}: the caller's default is served`] };
  let outcome: Outcome | null = null;
  try {
    outcome = walk.through(flag);
  } catch {
    // A document whose shape is not a flag's: the decision says so.
  }
  if (outcome?.reason !== decision.reason || outcome.variation !== decision.variation)
    walk.steps.push("the document is malformed, or compares arrays with more values than an evaluation may");
  walk.steps.push(conclusion(decision));
  return { decision, steps: walk.steps };
}

function conclusion({ variation, value, reason, errorCode }: Decision): string {
  const because = `because of ${errorCode ?? reason}`;
  if (variation === null) return `the caller's default, ${shown(value)}, is served, ${because}`;
  return `variation ${shown(variation)}, ${shown(value)}, is served, ${because}`;
}

class Walk {
  readonly steps: string[] = [];
  readonly #evaluator: Evaluator;
  readonly #context: Context;

  constructor(evaluator: Evaluator, context: Context) {
    this.#evaluator = compile(evaluator.ruleset, evaluator);
    this.#context = typeof context === "object" && context !== null && !Array.isArray(context) ? context : {};
  }

  through(flag: Flag): Outcome {
    const off = flag.offVariation ?? null;
    if (flag.killed === true) return this.#end("it was killed", "KILLED", off);
    if (!flag.on) return this.#end("it is off", "OFF", off);
    this.steps.push("it is on, and nobody killed it");
    for (const prerequisite of flag.prerequisites ?? []) {
      const [holds, words] = this.#prerequisite(prerequisite);
      if (holds === null) return this.#end(`prerequisite: ${words}`, "ERROR", null);
      if (!holds) return this.#end(`prerequisite not met: ${words}`, "PREREQUISITE_FAILED", off);
      this.steps.push(`prerequisite met: ${words}`);
    }
    for (const { variation, values, attribute } of flag.targets ?? []) {
      const [holds, words] = this.#target(attribute ?? "targetingKey", values);
      if (holds) return this.#end(`a target of ${shown(variation)}: ${words}`, "TARGET_MATCH", variation);
      this.steps.push(`no target of ${shown(variation)}: ${words}`);
    }
    for (const [index, { id, conditions, serve }] of (flag.rules ?? []).entries()) {
      const name = `rule ${index + 1}${id === undefined ? "" : ` (${id})`}`;
      const [holds, words] = this.#conditions(conditions);
      if (holds === null) return this.#end(`${name} cannot be decided: ${words}`, "ERROR", null);
      this.steps.push(holds ? `${name} matches: ${words}` : `${name} does not match: ${words}`);
      if (holds) return this.#serve(flag, serve, "RULE_MATCH");
    }
    const stands = (flag.prerequisites?.length ?? 0) + (flag.targets?.length ?? 0) + (flag.rules?.length ?? 0) === 0;
    this.steps.push(stands ? "it has no targets and no rules" : "nothing above decided, so the fallthrough does");
    const reason = "split" in flag.fallthrough ? "SPLIT" : stands ? "STATIC" : "FALLTHROUGH";
    return this.#serve(flag, flag.fallthrough, reason);
  }

  #end(step: string, reason: Decision["reason"], variation: string | null): Outcome {
    this.steps.push(step);
    return { reason, variation };
  }

  #serve(flag: Flag, serve: Serve, reason: Decision["reason"]): Outcome {
    if (!("split" in serve)) return { reason, variation: serve.variation };
    const { by, seed, ranges } = serve.split;
    const value = bucketable(this.#read(by));
    if (value === undefined) {
      const isUnit = parseAttribute(by)?.isTargetingKey === true;
      const without = `the split is by ${shown(by)}, which the context does not have`;
      return isUnit
        ? this.#end(without, "ERROR", null)
        : this.#end(`${without}: the off variation`, reason, flag.offVariation ?? null);
    }
    const at = bucket(seed, value);
    const found = ranges.find(({ from, to }) => at >= from && at < to);
    const where = `bucket ${number(at)} of ${shown(by)} ${shown(value)}`;
    return found === undefined
      ? this.#end(`${where} lies in no range: the off variation`, reason, flag.offVariation ?? null)
      : this.#end(
          `${where} lies in ${number(found.from)}–${number(found.to)}, which is ${shown(found.variation)}`,
          reason,
          found.variation,
        );
  }

  #target(attribute: string, values: string[]): [boolean, string] {
    const value = bucketable(this.#read(attribute));
    if (value === undefined) return [false, `attribute ${shown(attribute)} is missing`];
    const isListed = this.#probe({ targets: [{ variation: "yes", values, attribute }] }) === true;
    return [isListed, `${shown(attribute)} ${shown(value)} is ${isListed ? "" : "not "}among its ${values.length}`];
  }

  #read(attribute: string): unknown {
    return parseAttribute(attribute)?.read(this.#context, targetingKeyOf(this.#context));
  }

  /** Null where the evaluator calls the flag malformed, or meets a cycle. */
  #probe(fields: Partial<Flag>): boolean | null {
    const { revision } = this.#evaluator;
    const flags = { [PROBE]: { ...PROBE_FLAG, ...fields } };
    this.#evaluator.apply({ revision, previous: revision, flags, segments: {} });
    const { variation, reason } = this.#evaluator.evaluate(PROBE, this.#context, null);
    return reason === "ERROR" ? null : variation === "yes";
  }

  #hold(conditions: Condition[]): boolean | null {
    return this.#probe({ rules: [{ id: "r", conditions, serve: { variation: "yes" } }] });
  }

  #prerequisite({ flag, variations }: Prerequisite): [boolean | null, string] {
    const holds = this.#probe({ prerequisites: [{ flag, variations }], fallthrough: { variation: "yes" } });
    return [holds, this.#otherFlag(flag, variations)];
  }

  #otherFlag(flag: string, variations: string[]): string {
    const { variation, reason } = this.#evaluator.evaluate(flag, this.#context, null);
    return `flag ${shown(flag)} is ${shown(variation)} by ${reason}, required is ${variations.map(shown).join(" or ")}`;
  }

  /** Whether all of them hold, and why: the first that does not, or each. */
  #conditions(conditions: Condition[]): [boolean | null, string] {
    const holds = this.#hold(conditions);
    const each = conditions.map((condition) => this.#condition(condition));
    return [holds, together(holds === true ? each : each.filter(([one]) => one === holds).slice(0, 1))];
  }

  #condition(condition: Condition): [boolean | null, string] {
    const holds = this.#hold([condition]);
    // As little is taken for granted of its shape as the evaluator does.
    const { attribute, op, segment, flag, variations, all, any, not } = Object(condition) as Partial<
      Record<string, never>
    >;
    if (op !== undefined || attribute !== undefined) {
      const leaf = condition as Extract<Condition, { attribute: string }>;
      return [holds, conditionInWords(leaf, this.#read(leaf.attribute), holds)];
    }
    if (Array.isArray(segment)) {
      const inside = (segment as string[]).filter((key) => this.#hold([{ segment: [key] }]));
      const names = (inside.length > 0 ? inside : (segment as string[])).map(shown).join(", ");
      return [holds, `the context is ${inside.length > 0 ? "" : "not "}in segment ${names}`];
    }
    if (typeof flag === "string" && Array.isArray(variations)) return [holds, this.#otherFlag(flag, variations)];
    if (Array.isArray(all)) return [holds, this.#conditions(all)[1]];
    if (Array.isArray(any)) {
      const each = (any as Condition[]).map((child) => this.#condition(child));
      return [holds, together(holds === false ? each : each.filter(([one]) => one === holds).slice(0, 1))];
    }
    if (not !== undefined) return [holds, this.#condition(not)[1]];
    return [holds, `${shown(condition)} is not a condition, so it never holds`];
  }
}

const together = (said: [boolean | null, string][]): string =>
  said.length === 0 ? "there is no condition" : said.map(([, words]) => words).join(", and ");

const number = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
