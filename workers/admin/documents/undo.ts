/** Taking a change back from whatever a document has become since. Pure; by identity, so that what was moved is found. */
import type { Undo } from "../../store/schema/index.ts";
import { same } from "./diff.ts";

type Fields = Record<string, unknown>;

/** What tells an item of a list from the others. Other lists are one value, or, where long, members. */
const identities: Record<string, (item: Fields) => string> = {
  rules: (rule) => String(rule.id),
  variations: (variation) => String(variation.key),
  prerequisites: (prerequisite) => String(prerequisite.flag),
  targets: (target) => `${target.attribute ?? "targetingKey"} ${target.variation}`,
};

/** Longer lists of plain text are kept as what came and what left. */
const WHOLE_LIST = 50;

/** `taken` has been put back, but for `conflicts`: there something else has been written since. */
export type Reverted = { next: Fields | null; conflicts: Conflict[] };

/** What the change wrote, and what is there now. `gone`: there is nothing to put it back onto. */
type Conflict = { at: string; written?: unknown; now?: unknown; gone?: true };

export function undoOf(before: Fields, after: Fields): Undo[] {
  return namesOf(before, after).flatMap((name) => {
    const [was, is] = [before[name], after[name]];
    if (same(was, is)) return [];
    const identity = Object.hasOwn(identities, name) ? identities[name] : undefined;
    return identity !== undefined && areItems(was, identity) && areItems(is, identity)
      ? undoOfItems(name, was, is, identity)
      : [undoOfValue([name], was, is)];
  });
}

/** Fields first, then items that came go, then the order, then those that left are back in their places. */
function undoOfItems(name: string, before: Fields[], after: Fields[], identity: (item: Fields) => string): Undo[] {
  const was = new Map(before.map((item) => [identity(item), item]));
  const is = new Map(after.map((item) => [identity(item), item]));
  const fields = [...is].flatMap(([id, item]) => {
    const old = was.get(id);
    if (old === undefined) return [];
    return namesOf(old, item)
      .filter((field) => !same(old[field], item[field]))
      .map((field) => undoOfValue([name, id, field], old[field], item[field]));
  });
  const came = [...is].filter(([id]) => !was.has(id)).map(([id, item]): Undo => ({ at: [name, id], to: item }));
  const left = before.flatMap((item, place): Undo[] => {
    const id = identity(item);
    return is.has(id) ? [] : [{ at: [name, id], from: item, place }];
  });
  const from = [...was.keys()].filter((id) => is.has(id));
  const to = [...is.keys()].filter((id) => was.has(id));
  return [...fields, ...came, ...(same(from, to) ? [] : [{ at: [name], order: { from, to } }]), ...left];
}

function undoOfValue(at: string[], from: unknown, to: unknown): Undo {
  if (isLong(from) && isLong(to)) {
    const [was, is] = [new Set(from), new Set(to)];
    return { at, left: from.filter((one) => !is.has(one)), came: to.filter((one) => !was.has(one)) };
  }
  return { at, ...(from !== undefined && { from }), ...(to !== undefined && { to }) };
}

/** Of a document that came or went. */
export const undoOfWhole = (from: Fields | null, to: Fields | null): Undo[] => [
  { at: [], ...(from && { from }), ...(to && { to }) },
];

/** `force` also overwrites what was written since. Null is a document that is not there. */
export function revert(taken: readonly Undo[], document: Fields | null, force: boolean): Reverted {
  const whole = taken.find((undo): undo is Value => undo.at.length === 0);
  if (whole !== undefined) {
    const now = document ?? undefined;
    if (isConflict(now, whole, force)) return { next: document, conflicts: [conflictOf(whole, now)] };
    return { next: (whole.from as Fields | undefined) ?? null, conflicts: [] };
  }
  if (document === null) return { next: null, conflicts: [{ at: "", gone: true }] };
  const reverted = { next: structuredClone(document), conflicts: [] };
  for (const undo of taken) {
    if ("order" in undo) reorder(reverted, undo, force);
    else if ("left" in undo || undo.at.length !== 2) revertField(reverted, undo, force);
    else revertItem(reverted, undo, force);
  }
  return reverted;
}

type Open = { next: Fields; conflicts: Conflict[] };

type Of<Field extends string> = Extract<Undo, { [K in Field]: unknown }>;
type Value = Exclude<Undo, Of<"order"> | Of<"left">>;

function revertField({ next, conflicts }: Open, undo: Value | Of<"left">, force: boolean): void {
  const [name = "", id, field] = undo.at;
  const holder = id === undefined ? next : itemsOf(next, name).find((item) => identities[name]?.(item) === id);
  if (holder === undefined) {
    conflicts.push({ at: shownPath(undo.at), gone: true });
    return;
  }
  const last = field ?? name;
  const now = holder[last];
  if ("left" in undo) {
    const came = new Set<unknown>(undo.came);
    const kept = (Array.isArray(now) ? now : []).filter((one) => !came.has(one));
    holder[last] = [...kept, ...undo.left.filter((one) => !kept.includes(one))];
  } else if (isConflict(now, undo, force)) conflicts.push(conflictOf(undo, now));
  else if (undo.from === undefined) delete holder[last];
  else holder[last] = undo.from;
}

function revertItem({ next, conflicts }: Open, undo: Value, force: boolean): void {
  const [name = "", id = ""] = undo.at;
  const items = itemsOf(next, name);
  const index = items.findIndex((item) => identities[name]?.(item) === id);
  if (isConflict(items[index], undo, force)) {
    conflicts.push(conflictOf(undo, items[index]));
    return;
  }
  if (undo.from === undefined) next[name] = items.filter((_, at) => at !== index);
  else if (index >= 0) next[name] = items.with(index, undo.from as Fields);
  else next[name] = items.toSpliced(undo.place ?? items.length, 0, undo.from as Fields);
}

/** Those that were moved go back to the order they had, in the places that they have among others. */
function reorder({ next, conflicts }: Open, { at, order }: Of<"order">, force: boolean): void {
  const [name = ""] = at;
  const items = itemsOf(next, name);
  const there = new Map(items.map((item) => [identities[name]?.(item) ?? "", item]));
  const now = [...there.keys()].filter((id) => order.to.includes(id));
  const wanted = order.from.filter((id) => there.has(id));
  const written = order.to.filter((id) => there.has(id));
  if (same(now, wanted)) return;
  if (!force && !same(now, written)) {
    conflicts.push({ at: `${name}.order`, written, now });
    return;
  }
  const queue = wanted.map((id) => there.get(id) as Fields);
  next[name] = items.map((item) => (now.includes(identities[name]?.(item) ?? "") ? (queue.shift() ?? item) : item));
}

const isConflict = (now: unknown, { from, to }: Value, force: boolean) => !force && !same(now, from) && !same(now, to);

const conflictOf = ({ at, to }: Value, now: unknown): Conflict => ({
  at: shownPath(at),
  ...(to !== undefined && { written: to }),
  ...(now !== undefined && { now }),
});

const shownPath = ([name, id, field]: string[]) =>
  `${name}${id === undefined ? "" : `[${id}]`}${field === undefined ? "" : `.${field}`}`;

const namesOf = (one: Fields, other: Fields) => [...new Set([...Object.keys(one), ...Object.keys(other)])];

const itemsOf = (fields: Fields, name: string): Fields[] => (Array.isArray(fields[name]) ? fields[name] : []);

function areItems(value: unknown, identity: (item: Fields) => string): value is Fields[] {
  return Array.isArray(value) && new Set(value.map(identity)).size === value.length;
}

const isLong = (value: unknown): value is string[] =>
  Array.isArray(value) && value.length > WHOLE_LIST && value.every((one) => typeof one === "string");
