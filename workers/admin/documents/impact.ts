/**
 * How many users an edit can affect, in thousandths of a percent, never too few: what it cannot know counts as everybody.
 * Pure.
 */
import { type Flag, movements, type Range, type Rule, type Segment, type Serve } from "@bunting/core";
import { same } from "./diff.ts";

const EVERYBODY = 100_000;
const NOBODY = 0;

/**
 * null stands for no flag: not there yet, archived or deleted. Individual targets are counted apart (`listedInFlag`); a switch, what is served
 * while off, prerequisites, and rules that came, went, moved or ask otherwise count everybody; a split counts what moves.
 */
export function shareOfFlag(before: Flag | null, next: Flag | null): number {
  // A flag that is new and off serves what nobody asks for yet.
  if (before === null) return next?.on ? EVERYBODY : NOBODY;
  if (next === null) return EVERYBODY;
  if (before.on !== next.on || before.offVariation !== next.offVariation) return EVERYBODY;
  if (before.clientSide !== next.clientSide || valuesDiffer(before, next)) return EVERYBODY;
  if (!next.on) return NOBODY;
  if (!same(before.prerequisites, next.prerequisites)) return EVERYBODY;
  if (!same(asking(before.rules), asking(next.rules)) && !same(deciding(before), deciding(next))) return EVERYBODY;
  // Nobody is in two places: the share of all is at most the largest share of one.
  return Math.max(...placesOf(before, next).map(({ from, to }) => shareOfPlace(from, to)));
}

/**
 * How many users are listed one by one for something else than before: nobody knows what share of all they are. null stands
 * for no flag.
 */
export function listedInFlag(before: Flag | null, next: Flag | null): number {
  if (before?.on !== true && next?.on !== true) return 0;
  return differing(targetsOf(before), targetsOf(next));
}

export const listedInSegment = (before: Segment | null, next: Segment | null): number =>
  differing(membersOf(before), membersOf(next));

const targetsOf = (flag: Flag | null) =>
  new Map(
    (flag?.targets ?? []).flatMap(({ variation, values, ...more }) =>
      values.map((value) => [JSON.stringify([more, value]), variation] as const),
    ),
  );

const membersOf = (segment: Segment | null) =>
  new Map([
    ...(segment?.included ?? []).map((member) => [member, "included"] as const),
    ...(segment?.excluded ?? []).map((member) => [member, "excluded"] as const),
  ]);

function differing(before: Map<string, string>, next: Map<string, string>): number {
  let count = 0;
  for (const [user, place] of next) if (before.get(user) !== place) count += 1;
  for (const user of before.keys()) if (!next.has(user)) count += 1;
  return count;
}

/** Of all that somebody has moved of one document within a day: `listed` beyond a few may be anybody, and everybody. */
export const shareOfAll = ({ share, listed }: { share: number; listed: number }): number =>
  listed > MAX_LISTED ? EVERYBODY : Math.min(EVERYBODY, share);

/** Testers and colleagues; more is a rollout. */
const MAX_LISTED = 100;

/** Of a segment's rules; members that are listed one by one are counted apart, as targets are. */
export function shareOfSegment(before: Segment | null, next: Segment | null): number {
  return same(before?.rules ?? [], next?.rules ?? []) ? NOBODY : EVERYBODY;
}

const asking = (rules: readonly Rule[]) => rules.map(({ id, conditions }) => ({ id, conditions }));

/** Without the last rules that serve what everybody else is served anyway. */
const deciding = ({ rules, fallthrough }: Flag) =>
  asking(rules.slice(0, rules.findLastIndex((rule) => !same(rule.serve, fallthrough)) + 1));

function placesOf(before: Flag, next: Flag): { rule: string | null; from: Serve; to: Serve }[] {
  const places = next.rules.flatMap((rule: Rule): { rule: string | null; from: Serve; to: Serve }[] => {
    const known = before.rules.find(({ id }) => id === rule.id);
    return known === undefined ? [] : [{ rule: rule.id, from: known.serve, to: rule.serve }];
  });
  return [...places, { rule: null, from: before.fallthrough, to: next.fallthrough }];
}

function shareOfPlace(from: Serve, to: Serve): number {
  // The seed or the attribute differs, so users fall into other buckets, and ranges do not say who moves.
  if (bucketsDiffer(from, to) && !(servesOne(from) && servesOne(to))) return EVERYBODY;
  return movements(rangesOf(from), rangesOf(to)).reduce((sum, { weight }) => sum + weight, 0);
}

function bucketsDiffer(from: Serve, to: Serve): boolean {
  if (!("split" in from) || !("split" in to)) return false;
  const [one, other] = [from.split, to.split];
  return one.by !== other.by || one.seed !== other.seed || one.hash !== other.hash;
}

/** The whole of it, whatever the bucket. */
function servesOne(serve: Serve): boolean {
  const ranges = rangesOf(serve).filter(({ from, to }) => from < to);
  return (
    new Set(ranges.map(({ variation }) => variation)).size === 1 &&
    ranges.reduce((sum, { from, to }) => sum + to - from, 0) === EVERYBODY
  );
}

const rangesOf = (serve: Serve): Range[] =>
  "split" in serve ? serve.split.ranges : [{ variation: serve.variation, from: 0, to: EVERYBODY }];

/** A variation that came or went is served to nobody by that alone. */
const valuesDiffer = (before: Flag, next: Flag) =>
  next.variations.some(({ key, value }) => {
    const known = before.variations.find((variation) => variation.key === key);
    return known !== undefined && !same(known.value, value);
  });
