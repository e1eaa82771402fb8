/** Whether a flag serves everybody the same, and since when. Pure; kills are laid over it by whoever asks. */
import type { Flag, Range, Serve } from "@bunting/core";
import { same } from "./diff.ts";

type Served = Pick<Flag, "on" | "offVariation" | "prerequisites" | "targets" | "rules" | "fallthrough">;

const EVERYBODY = 100_000;

/** Everything that somebody may be served. Null is the code's default. */
function outcomes({ on, offVariation, prerequisites, targets, rules, fallthrough }: Served): Set<string | null> {
  if (!on) return new Set([offVariation]);
  const serves = [fallthrough, ...rules.map(({ serve }) => serve)];
  return new Set([
    ...serves.flatMap((serve) => outcomesOf(serve, offVariation)),
    ...targets.filter(({ values }) => values.length > 0).map(({ variation }) => variation),
    ...(prerequisites.length > 0 ? [offVariation] : []),
  ]);
}

function outcomesOf(serve: Serve, offVariation: string | null): (string | null)[] {
  return "variation" in serve ? [serve.variation] : outcomesOfSplit(weightsOf(serve.split.ranges), offVariation);
}

/** Whom no range reaches is served the off variation. */
export function outcomesOfSplit(weights: Map<string, number>, offVariation: string | null): (string | null)[] {
  const sum = [...weights.values()].reduce((total, weight) => total + weight, 0);
  return [...weights.keys(), ...(sum < EVERYBODY ? [offVariation] : [])];
}

/** In thousandths of a percent, without variations that nobody is served. */
export function weightsOf(ranges: readonly Range[]): Map<string, number> {
  const weights = new Map<string, number>();
  for (const { variation, from, to } of ranges) {
    if (to > from) weights.set(variation, (weights.get(variation) ?? 0) + to - from);
  }
  return weights;
}

const sharesOf = (serve: Serve): Map<string, number> =>
  "variation" in serve ? new Map([[serve.variation, EVERYBODY]]) : weightsOf(serve.split.ranges);

/** The one variation that everybody is served; undefined where it depends on who asks. */
function servedToAll(flag: Served): string | null | undefined {
  const all = outcomes(flag);
  return all.size === 1 ? [...all][0] : undefined;
}

/** What most are served, and to which share of all, in thousandths of a percent; null where rules, targets or prerequisites decide. */
export function mostServed(flag: Served): { variation: string | null; share: number } | null {
  const everybody = servedToAll(flag);
  if (everybody !== undefined) return { variation: everybody, share: EVERYBODY };
  if (flag.rules.length > 0 || flag.targets.length > 0 || flag.prerequisites.length > 0) return null;
  const [most] = [...sharesOf(flag.fallthrough)].sort(([, one], [, other]) => other - one);
  return most === undefined ? null : { variation: most[0], share: most[1] };
}

/** Whether all who were served one value are served that value still. True where it depended on who asked before. */
export function isServedTheSame(before: Flag, next: Flag): boolean {
  const was = servedToAll(before);
  if (was === undefined) return true;
  const is = servedToAll(next);
  return was === is && same(valueIn(before, was), valueIn(next, was));
}

const valueIn = ({ variations }: Flag, variation: string | null) =>
  variations.find(({ key }) => key === variation)?.value;

/** `since`: what it was before the edit. Epoch milliseconds. */
export function fullSinceAfter(before: Flag, next: Flag, since: number | null, now: number): number | null {
  if (servedToAll(next) === undefined) return null;
  return since !== null && isServedTheSame(before, next) ? since : now;
}
