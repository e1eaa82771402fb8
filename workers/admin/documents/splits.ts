/** Weights come in, ranges are stored: computed from the ranges before, so that the fewest users move (EV-34). */
import { allocate, type Flag, type Range, type Rule, type SegmentRule, type Serve, type Split } from "@bunting/core";
import type { ValidationError } from "../../platform/problem.ts";
import { randomText } from "../../platform/random-id.ts";
import { pointer } from "../http/validation-errors.ts";
import type { z } from "../http/zod.ts";
import type { rule, ServeInput, segmentRule } from "./schema.ts";

/** Everybody, in thousandths of a percent. */
export const WHOLE = 100_000;

/** `previous` is what was served at the same place; its seed stays (EV-33). */
export function serveOf(input: ServeInput, previous: Serve | undefined, flag: Pick<Flag, "key" | "variations">): Serve {
  if ("variation" in input) return input;
  const before: Split | undefined = previous !== undefined && "split" in previous ? previous.split : undefined;
  const { weights, by = before?.by ?? "key", reshuffle = false } = input.split;
  // Ties go by the order of the flag's variations, not by the order in which somebody's JSON names them.
  const ordered = flag.variations.flatMap(({ key }) => (Object.hasOwn(weights, key) ? [[key, weights[key]!]] : []));
  const ranges = allocate(reshuffle ? [] : (before?.ranges ?? []), Object.fromEntries(ordered));
  const seed = reshuffle ? randomText(20) : (before?.seed ?? flag.key);
  return { split: { by, seed, hash: before?.hash ?? "xxh32", ranges } };
}

/** A rule is the same rule as before when it has the same id. */
export function rulesOf(input: z.infer<typeof rule>[], { rules, ...flag }: Flag): Rule[] {
  const before = new Map(rules.map((one) => [one.id, one.serve]));
  return input.map((one) => ruleOf(one, before.get(one.id ?? ""), flag));
}

/** `previous` is what the rule served before. */
export function ruleOf(
  { id = newRuleId(), description, conditions, serve }: z.infer<typeof rule>,
  previous: Serve | undefined,
  flag: Pick<Flag, "key" | "variations">,
): Rule {
  return {
    id,
    ...(description !== undefined && { description }),
    conditions,
    serve: serveOf(serve, previous, flag),
  };
}

export function segmentRulesOf(
  input: z.infer<typeof segmentRule>[],
  previous: SegmentRule[],
  segmentKey: string,
): SegmentRule[] {
  const before = new Map(previous.map((one) => [one.id, one.sample]));
  return input.map(({ id = newRuleId(), description, conditions, sample }) => {
    const { by = before.get(id)?.by ?? "key", buckets = 0, reshuffle = false } = sample ?? {};
    const seed = reshuffle ? randomText(20) : (before.get(id)?.seed ?? segmentKey);
    return {
      id,
      ...(description !== undefined && { description }),
      conditions,
      ...(sample && { sample: { by, seed, buckets } }),
    };
  });
}

const newRuleId = () => `r_${randomText(10)}`;

/** As answers show it: what was asked for, and what came of it. */
export function shownServe(serve: Serve) {
  if ("variation" in serve) return serve;
  return { split: { ...serve.split, weights: weightsOf(serve.split.ranges) } };
}

/** As the audit log tells it: people set weights; ranges follow from them. */
export function serveWithWeights(serve: Serve) {
  if ("variation" in serve) return serve;
  const { ranges, ...rest } = serve.split;
  return { split: { ...rest, weights: weightsOf(ranges) } };
}

export function weightsOf(ranges: Range[]): Record<string, number> {
  const weights = new Map<string, number>();
  for (const { variation, from, to } of ranges) weights.set(variation, (weights.get(variation) ?? 0) + to - from);
  return Object.fromEntries(weights);
}

/** What `allocate` must not be asked: looked at before it, because ranges no longer tell who asked for what. */
export function splitErrors(
  input: ServeInput,
  path: (string | number)[],
  variations: Flag["variations"],
): ValidationError[] {
  if ("variation" in input) return [];
  const { weights } = input.split;
  const at = [...path, "split", "weights"];
  const errors = Object.keys(weights)
    .filter((key) => !variations.some((variation) => variation.key === key))
    .map((key) => ({
      pointer: pointer([...at, key]),
      code: "unknown-variation",
      message: `The flag has no variation ${key}.`,
    }));
  const sum = Object.values(weights).reduce((total, weight) => total + weight, 0);
  if (sum === 100) {
    const message = `The weights add up to 100. They are thousandths of a percent: for 50 % send ${WHOLE / 2}.`;
    return [...errors, { pointer: pointer(at), code: "weights-in-percent", message }];
  }
  if (sum <= WHOLE) return errors;
  const message = `The weights add up to ${sum}, which is more than ${WHOLE} thousandths of a percent.`;
  return [...errors, { pointer: pointer(at), code: "too-much", message }];
}
