/** What a change changed, in words that a person reads: `rules[0].conditions[0].values` from … to …. Pure. */
import type { FieldChange } from "../../store/schema/index.ts";

type Fields = { [name: string]: unknown };
export type Changes = Record<string, FieldChange>;

/** Longer lists of plain values are shown as what came and what went. */
const WHOLE_LIST = 50;

export function difference(before: Fields, after: Fields): Changes {
  const changes: Changes = {};
  compareFields("", before, after, changes);
  return changes;
}

export const isEmpty = (changes: Changes) => Object.keys(changes).length === 0;

function compare(path: string, before: unknown, after: unknown, changes: Changes): void {
  if (same(before, after)) return;
  if (isFields(before) && isFields(after)) compareFields(path, before, after, changes);
  else if (areFields(before) && areFields(after)) compareItems(path, before, after, changes);
  else if (isLong(before) && isLong(after)) compareMembers(path, before, after, changes);
  else changes[path] = { ...(before !== undefined && { from: before }), ...(after !== undefined && { to: after }) };
}

const areFields = (value: unknown): value is Fields[] => Array.isArray(value) && value.every(isFields);
const isLong = (value: unknown): value is unknown[] => Array.isArray(value) && value.length > WHOLE_LIST;

function compareFields(path: string, before: Fields, after: Fields, changes: Changes): void {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    compare(path === "" ? name : `${path}.${name}`, own(before, name), own(after, name), changes);
  }
}

/** Things with an id or a key are the same thing wherever they moved; others are compared place by place. */
function compareItems(path: string, before: Fields[], after: Fields[], changes: Changes): void {
  const identity = (item: Fields) => item.id ?? item.key;
  const named = [...before, ...after].every((item) => identity(item) !== undefined);
  const partner = (item: Fields, index: number, others: Fields[]) =>
    named ? others.find((other) => identity(other) === identity(item)) : others[index];
  after.forEach((item, index) => {
    compare(`${path}[${index}]`, partner(item, index, before), item, changes);
  });
  before.forEach((item, index) => {
    // Its place may have been taken by a newcomer: both are shown.
    if (partner(item, index, after) !== undefined) return;
    changes[`${path}[${index}]`] = { from: item, ...changes[`${path}[${index}]`] };
  });
  if (!named) return;
  const stayed = (list: Fields[], others: Fields[]) =>
    list.filter((item, index) => partner(item, index, others) !== undefined).map(identity);
  compare(`${path}.order`, stayed(before, after), stayed(after, before), changes);
}

function compareMembers(path: string, before: unknown[], after: unknown[], changes: Changes): void {
  const [was, is] = [new Set(before), new Set(after)];
  const from = before.filter((item) => !is.has(item));
  const to = after.filter((item) => !was.has(item));
  changes[`${path}.removed`] = { from };
  changes[`${path}.added`] = { to };
  if (from.length === 0) delete changes[`${path}.removed`];
  if (to.length === 0) delete changes[`${path}.added`];
}

const own = (fields: Fields, name: string) => (Object.hasOwn(fields, name) ? fields[name] : undefined);

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function same(one: unknown, other: unknown): boolean {
  if (Array.isArray(one)) {
    return Array.isArray(other) && one.length === other.length && one.every((item, index) => same(item, other[index]));
  }
  if (!isFields(one) || !isFields(other)) return Object.is(one, other);
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]))
  );
}
