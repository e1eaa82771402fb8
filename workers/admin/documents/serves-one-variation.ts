/** Whether a flag serves everybody the same, and since when. Pure; kills are laid over it by whoever asks. */
import type { Flag, Serve } from "@bunting/core";
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
  if ("variation" in serve) return [serve.variation];
  const shares = sharesOf(serve);
  const sum = shares.reduce((total, { weight }) => total + weight, 0);
  return [...shares.map(({ variation }) => variation), ...(sum < EVERYBODY ? [offVariation] : [])];
}

function sharesOf(serve: Serve): { variation: string; weight: number }[] {
  if ("variation" in serve) return [{ variation: serve.variation, weight: EVERYBODY }];
  const weights = new Map<string, number>();
  for (const { variation, from, to } of serve.split.ranges) {
    if (to > from) weights.set(variation, (weights.get(variation) ?? 0) + to - from);
  }
  return [...weights].map(([variation, weight]) => ({ variation, weight }));
}

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
  const [most] = sharesOf(flag.fallthrough).sort((one, other) => other.weight - one.weight);
  return most === undefined ? null : { variation: most.variation, share: most.weight };
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
