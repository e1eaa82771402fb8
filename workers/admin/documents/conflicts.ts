/** Where a change that was asked for and what has changed since get in each other's way. Pure. */
import type { Flag, Rule, Segment } from "@bunting/core";
import type { Base, DocumentKind, FieldChange } from "../../store/schema/index.ts";
import { MAX_VALIDATION_ERRORS } from "../limits.ts";
import { type Document, isFlag, isSegment, type Source, type Touched } from "./changed-document.ts";
import { difference } from "./diff.ts";
import { serveWithWeights } from "./splits.ts";

/** One place of a document: what it was, what it has become since, and what the change would make of it. */
type Place = { path: string; base?: unknown; current?: unknown; proposed?: unknown };
/** `environment` is null for what all of them have in common of a flag. */
export type Conflict = Place & { environment: string | null; kind: DocumentKind; key: string };

/**
 * The first hundred places that somebody has changed since and publishing would change again, and whatever it is made of or takes
 * away that is another by now.
 */
export function conflictsOf(bases: Base[], touched: Touched[], sources: Source[]): Conflict[] {
  const known = new Map(bases.map((one) => [addressOf(one), one]));
  const inWay = (one: Touched): Place[] => {
    const base = known.get(addressOf(one));
    const version = (one.before as { version?: number } | null)?.version ?? null;
    if (base !== undefined && base.document === undefined) return otherVersion(base.version, version);
    return conflictsBetween((base?.document ?? null) as Document, one.before, one.after);
  };
  const conflictsAt = ({ environment, kind, key }: Omit<Touched, "before" | "after">, places: Place[]): Conflict[] =>
    places.map((place) => ({ environment: environment === "" ? null : environment, kind, key, ...place }));
  return [
    ...touched.flatMap((one) => conflictsAt(one, inWay(one))),
    ...sources.flatMap((one) =>
      conflictsAt(one, otherVersion(known.get(addressOf(one))?.version ?? null, one.version)),
    ),
  ].slice(0, MAX_VALIDATION_ERRORS);
}

const addressOf = ({ environment, kind, key }: Omit<Touched, "before" | "after">) =>
  JSON.stringify([environment, kind, key]);

const otherVersion = (base: number | null, current: number | null): Place[] =>
  base === current ? [] : [{ path: "version", base, current }];

/**
 * Whatever both have changed to the same is no conflict, nor is a part of a list that an instruction leaves alone. What turns
 * a flag on serves all of it, of which nobody was moved, nor had to approve, while it was off. Null is a document that is not there.
 */
export function conflictsBetween(base: Document, current: Document, proposed: Document): Place[] {
  const lasting = [base, current, proposed].map(idsOf).reduce((all, ids) => all.intersection(ids));
  const identified = (document: Document) => byIdentity(document, lasting);
  const theirs = Object.entries(difference(identified(base), identified(current)));
  const ours = difference(identified(current), identified(proposed));
  const within = new Map(Object.keys(ours).flatMap((path) => prefixesOf(path).map((part) => [part, path] as const)));
  return theirs
    .flatMap(([path, change]) => {
      const other = within.get(path) ?? prefixesOf(path).find((part) => Object.hasOwn(ours, part));
      if (other !== undefined) return [conflict(path, change, ours[other]!)];
      return isTurnedOn(current, proposed) ? [conflict(path, change, change)] : [];
    })
    .slice(0, MAX_VALIDATION_ERRORS);
}

const isTurnedOn = (current: Document, proposed: Document): boolean =>
  isFlag(current) && isFlag(proposed) && !current.on && proposed.on;

const conflict = (path: string, theirs: FieldChange, ours: FieldChange): Place => ({
  path,
  ...("from" in theirs && { base: theirs.from }),
  ...("to" in theirs && { current: theirs.to }),
  ...("to" in ours && { proposed: ours.to }),
});

/** A path and whatever it is a part of. */
const prefixesOf = (path: string): string[] =>
  path.split(".").map((_, index, steps) => steps.slice(0, index + 1).join("."));

const idsOf = (document: Document): Set<string> =>
  new Set(isFlag(document) || isSegment(document) ? document.rules.map(({ id }) => id ?? "") : []);

/** Things by their key or id, and lists by their values, so that the same thing has the same path wherever it stands. */
function byIdentity(document: Document, lasting: ReadonlySet<string>): Record<string, unknown> {
  if (isFlag(document)) return flagByIdentity(document, lasting);
  if (isSegment(document)) return segmentByIdentity(document, lasting);
  return document === null ? {} : { ...document };
}

function flagByIdentity(flag: Flag, lasting: ReadonlySet<string>) {
  const { on, offVariation, prerequisites, targets, fallthrough, trackExposures, variations, clientSide } = flag;
  const values = new Map<string, [string, string][]>();
  for (const { attribute = "targetingKey", variation, values: listed } of targets) {
    const all = values.get(attribute) ?? [];
    for (const value of listed) all.push([step(value), variation]);
    values.set(attribute, all);
  }
  const rules = flag.rules.map((rule) => ({ ...rule, serve: serveWithWeights(rule.serve) }));
  return {
    on,
    offVariation,
    prerequisites: Object.fromEntries(prerequisites.map((one) => [step(one.flag), one.variations])),
    targets: Object.fromEntries(Array.from(values, ([attribute, all]) => [step(attribute), Object.fromEntries(all)])),
    ...rulesByIdentity(rules, lasting),
    fallthrough: serveWithWeights(fallthrough),
    trackExposures,
    variations: Object.fromEntries(variations.map(({ key, ...variation }) => [step(key), variation])),
    clientSide,
  };
}

function segmentByIdentity({ included, excluded, rules }: Segment, lasting: ReadonlySet<string>) {
  const members = (list: readonly string[]) => Object.fromEntries(list.map((one) => [step(one), true]));
  return { included: members(included), excluded: members(excluded), ...rulesByIdentity(rules, lasting) };
}

const rulesByIdentity = (rules: readonly Partial<Pick<Rule, "id">>[], lasting: ReadonlySet<string>) => ({
  rules: Object.fromEntries(rules.map(({ id = "", ...rule }) => [step(id), rule])),
  order: rules.map(({ id = "" }) => id).filter((id) => lasting.has(id)),
});

/** Dots part the steps of a path. */
const step = (name: string) => (/[."]/.test(name) ? JSON.stringify(name) : name);
