/** Where a change that was asked for and what has changed since get in each other's way. Pure. */
import type { Flag } from "@bunting/core";
import type { FieldChange } from "../store/schema.ts";
import { difference } from "./audit-diff.ts";
import { MAX_MISTAKES } from "./limits.ts";
import { toldServe } from "./splits.ts";

/** One place of a flag: what it was, what it has become since, and what the change would make of it. */
export type Conflict = { path: string; base?: unknown; current?: unknown; proposed?: unknown };

/**
 * The first hundred places that somebody has changed since `base` and publishing would change again. Whatever both have changed to the same is no
 * conflict, nor is a part of a list that an instruction leaves alone.
 */
export function conflictsBetween(base: Flag, current: Flag, proposed: Flag): Conflict[] {
  const lasting = [base, current, proposed].map(idsOf).reduce((all, ids) => all.intersection(ids));
  const told = (flag: Flag) => byIdentity(flag, lasting);
  const theirs = Object.entries(difference(told(base), told(current)));
  const ours = difference(told(current), told(proposed));
  const within = new Map(Object.keys(ours).flatMap((path) => above(path).map((part) => [part, path] as const)));
  return theirs
    .flatMap(([path, change]) => {
      const other = within.get(path) ?? above(path).find((part) => Object.hasOwn(ours, part));
      return other === undefined ? [] : [conflict(path, change, ours[other]!)];
    })
    .slice(0, MAX_MISTAKES);
}

const conflict = (path: string, theirs: FieldChange, ours: FieldChange): Conflict => ({
  path,
  ...("from" in theirs && { base: theirs.from }),
  ...("to" in theirs && { current: theirs.to }),
  ...("to" in ours && { proposed: ours.to }),
});

/** A path and whatever it is a part of. */
const above = (path: string): string[] => path.split(".").map((_, index, steps) => steps.slice(0, index + 1).join("."));

const idsOf = ({ rules }: Flag) => new Set(rules.map(({ id }) => id));

/** Rules by their id and targets by their value, so that the same thing has the same path wherever it stands. */
function byIdentity(flag: Flag, lasting: ReadonlySet<string>) {
  const { on, offVariation, prerequisites, targets, rules, fallthrough, trackExposures } = flag;
  const values = new Map<string, [string, string][]>();
  for (const { attribute = "targetingKey", variation, values: listed } of targets) {
    const all = values.get(attribute) ?? [];
    for (const value of listed) all.push([step(value), variation]);
    values.set(attribute, all);
  }
  return {
    on,
    offVariation,
    prerequisites: Object.fromEntries(prerequisites.map((one) => [step(one.flag), one.variations])),
    targets: Object.fromEntries(Array.from(values, ([attribute, all]) => [step(attribute), Object.fromEntries(all)])),
    rules: Object.fromEntries(rules.map(({ id, ...rule }) => [step(id), { ...rule, serve: toldServe(rule.serve) }])),
    order: rules.map(({ id }) => id).filter((id) => lasting.has(id)),
    fallthrough: toldServe(fallthrough),
    trackExposures,
  };
}

/** Dots part the steps of a path. */
const step = (name: string) => (/[."]/.test(name) ? JSON.stringify(name) : name);
