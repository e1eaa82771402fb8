/** What each step of a ramp serves. Computed once, each from the one before: nobody leaves a variation that does not shrink. */
import type { Flag, Serve } from "@bunting/core";
import type { RampStep } from "../../../store/schema/index.ts";
import { serveOf, WHOLE, weightsOf } from "../../documents/splits.ts";

type Widened = { variation: string; others: string[] | null; steps: Pick<RampStep, "weight">[] };
type Weights = Record<string, number>;

/** What was there before, then what each step serves. Throws RangeError where `others` have too little to give. */
export function servesOf(began: Serve, { variation, others, steps }: Widened, flag: Pick<Flag, "key" | "variations">) {
  const serves = [began];
  for (const { weight } of steps) {
    const before = serves.at(-1)!;
    const weights = widened(weightsServed(before), variation, weight, others);
    serves.push(serveOf({ split: { weights } }, before, flag));
  }
  return serves;
}

export const weightsServed = (serve: Serve): Weights =>
  "split" in serve ? weightsOf(serve.split.ranges) : { [serve.variation]: WHOLE };

/**
 * The weights with `variation` at `weight`. What it gains comes from `others`, in proportion to what they have; where they are
 * not named, first from those who are in no range, then from all others.
 */
export function widened(before: Weights, variation: string, weight: number, others: string[] | null): Weights {
  const has = (key: string) => (Object.hasOwn(before, key) ? before[key]! : 0);
  const unassigned = WHOLE - Object.values(before).reduce((sum, one) => sum + one, 0);
  const wanted = weight - has(variation);
  const taken = Math.max(0, wanted - (others === null ? unassigned : 0));
  const givers = (others ?? Object.keys(before)).filter((key) => key !== variation && has(key) > 0);
  const total = givers.reduce((sum, key) => sum + has(key), 0);
  if (taken > total) throw new RangeError(`The others have ${total} to give, and ${taken} are needed.`);
  const losses = shared(taken, givers.map(has), total);
  const after = { ...before, [variation]: weight };
  for (const [index, key] of givers.entries()) after[key] = has(key) - losses[index]!;
  return after;
}

/** Whole numbers that add up to `amount`, in proportion to `parts`, which add up to `total`: none more than its part. */
function shared(amount: number, parts: number[], total: number): number[] {
  if (total === 0) return parts;
  const whole = parts.map((part) => Math.floor((amount * part) / total));
  const rest = amount - whole.reduce((sum, one) => sum + one, 0);
  const byRemainder = parts
    .map((part, index) => ({ index, remainder: (amount * part) % total }))
    .sort((one, other) => other.remainder - one.remainder || one.index - other.index);
  for (const { index } of byRemainder.slice(0, rest)) whole[index]! += 1;
  return whole;
}
