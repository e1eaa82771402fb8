/**
 * Who is served something else by an edit, place by place: never fewer than are, and "unknown" where the flag alone does not
 * tell. Users that are targeted one by one, or are listed in a segment, are not counted. Pure.
 */
import { type Flag, type Movement, movements, type Range, type Serve } from "@bunting/core";
import type { Touched } from "./changed-document.ts";
import { isFlag, isSegment } from "./changed-document.ts";
import { same } from "./diff.ts";

/**
 * `rule` is where the users are decided on: the id of a rule, null for the fallthrough. Weights are thousandths of a percent of
 * those who get there; a null variation is the code's default, and one that stays the same has another value.
 */
export type Moved = { rule: string | null; movements: Movement[] | "unknown" };
export type MovedIn = Moved & { environment: string; kind: "flag" | "segment"; key: string };

export function movedIn(touched: Touched[]): MovedIn[] {
  return touched.flatMap(({ environment, kind, key, before, after }) => {
    // What all environments have in common beside their documents is not evaluated.
    if (environment === "") return [];
    const at = { environment, kind, key };
    if (isSegment(before) && isSegment(after)) {
      return same(before.rules, after.rules) ? [] : [{ ...at, rule: null, movements: "unknown" as const }];
    }
    if (!isFlag(before) && !isFlag(after)) return [];
    const [was, will] = [isFlag(before) ? before : null, isFlag(after) ? after : null];
    return movedBetween(was, will).map((one) => ({ ...at, ...one }));
  });
}

/** At most this part of all users, in thousandths of a percent. Nobody is in two places of a flag. */
export function shareMoved(moved: readonly Moved[]): number | "unknown" {
  let share = 0;
  for (const { movements } of moved) {
    if (movements === "unknown") return "unknown";
    share = Math.max(
      share,
      movements.reduce((sum, { weight }) => sum + weight, 0),
    );
  }
  return share;
}

/** A place of a flag at which users end. `asks`: the conditions of those who do. */
type Place = {
  id: string | null;
  asks: Flag["rules"][number]["conditions"];
  ranges: Range[];
  bucketing: object | null;
};

/** null stands for no flag: not there yet, archived or deleted. */
export function movedBetween(before: Flag | null, next: Flag | null): Moved[] {
  // A flag that is new and off serves what nobody requests yet.
  if (before === null && !next?.on) return [];
  if (before !== null && next !== null && isUnknown(before, next)) return [{ rule: null, movements: "unknown" }];
  const revalued = revaluedBetween(before, next);
  const [was, will] = [placesOf(before), placesOf(next)];
  let common = 0;
  while (common < was.length && common < will.length && same(was[common]!.asks, will[common]!.asks)) common++;
  const between = (from: Place, to: Place, { id }: Place): Moved => ({
    rule: id,
    movements: movementsBetween(from, to, revalued),
  });
  const [wasElse, willElse] = [was.slice(common), will.slice(common)];
  return [
    ...will.slice(0, common).map((place, index) => between(was[index]!, place, place)),
    ...(isUniform(wasElse)
      ? willElse.map((place) => between(wasElse[0]!, place, place))
      : isUniform(willElse)
        ? wasElse.map((place) => between(place, willElse[0]!, place))
        : unknownIn(willElse)),
  ].filter(({ movements }) => movements.length > 0);
}

/** Whoever lacks a prerequisite is elsewhere, and client-side SDKs may come to lack the flag: nothing here says who. */
function isUnknown(before: Flag, next: Flag): boolean {
  if (before.clientSide !== next.clientSide) return true;
  if (!before.on || !next.on) return false;
  const has = before.prerequisites.length > 0 || next.prerequisites.length > 0;
  return !same(before.prerequisites, next.prerequisites) || (has && before.offVariation !== next.offVariation);
}

function placesOf(flag: Flag | null): Place[] {
  const everybody = { id: null, asks: [] };
  if (flag === null) return [{ ...everybody, ranges: [], bucketing: null }];
  const { on, offVariation, rules, fallthrough } = flag;
  if (!on) {
    const ranges = offVariation === null ? [] : [{ variation: offVariation, from: 0, to: EVERYBODY }];
    return [{ ...everybody, ranges, bucketing: null }];
  }
  const places = [
    ...rules.map(({ id, conditions, serve }) => ({ id, asks: conditions, ...rangesOf(serve, offVariation) })),
    { ...everybody, ...rangesOf(fallthrough, offVariation) },
  ];
  // Nobody gets past a rule without conditions.
  return places.slice(0, places.findIndex(({ asks }) => asks.length === 0) + 1);
}

const EVERYBODY = 100_000;

/** `bucketing` is null where every bucket is served the same. Whoever is in no range is served the off variation (EV-31). */
function rangesOf(serve: Serve, offVariation: string | null): Pick<Place, "ranges" | "bucketing"> {
  if (!("split" in serve)) {
    return { ranges: [{ variation: serve.variation, from: 0, to: EVERYBODY }], bucketing: null };
  }
  const { by, seed, hash, ranges: split } = serve.split;
  // The first range that holds a bucket counts, so the last one is for those in none.
  const ranges = offVariation === null ? split : [...split, { variation: offVariation, from: 0, to: EVERYBODY }];
  const isSame = (variation: string | null) =>
    movements(ranges, variation === null ? [] : [{ variation, from: 0, to: EVERYBODY }]).length === 0;
  const servesOne = [null, ...ranges.map(({ variation }) => variation)].some(isSame);
  return { ranges, bucketing: servesOne ? null : { by, seed, hash } };
}

const isUniform = ([first, ...others]: Place[]) =>
  first !== undefined &&
  others.every((one) => same(one.bucketing, first.bucketing) && movements(one.ranges, first.ranges).length === 0);

function movementsBetween(from: Place, to: Place, revalued: Set<string>): Movement[] | "unknown" {
  // The seed or the attribute differs, so users fall into other buckets, and ranges do not say who moves.
  if (from.bucketing !== null && to.bucketing !== null && !same(from.bucketing, to.bucketing)) return "unknown";
  const next = to.ranges.map((range) =>
    revalued.has(range.variation) ? { ...range, variation: REVALUED + range.variation } : range,
  );
  return movements(from.ranges, next).map((one) => ({ ...one, to: one.to?.replace(REVALUED, "") ?? null }));
}

/** No key of a variation begins with it. */
const REVALUED = "\0";

/** Variations that are there before and after, with another value. */
function revaluedBetween(before: Flag | null, next: Flag | null): Set<string> {
  const values = new Map(before?.variations.map(({ key, value }) => [key, value]));
  const changed = next?.variations.filter(({ key, value }) => values.has(key) && !same(values.get(key), value)) ?? [];
  return new Set(changed.map(({ key }) => key));
}

const unknownIn = ([first]: Place[]): Moved[] =>
  first === undefined ? [] : [{ rule: first.id, movements: "unknown" }];
