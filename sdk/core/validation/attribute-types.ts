// Which types the conditions of a ruleset expect each attribute to have: the only schema that there is of contexts.

import type { Documents, Kind } from "../references/graph.ts";
import type { Fields, Path } from "./report.ts";

/** The types that all documents but one expect of an attribute. */
export type Census = { of(attribute: unknown): ReadonlySet<string> };

type Names = Map<string, Set<string>>;
const NUMBERS: readonly unknown[] = ["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "modulo"];
const DATES: readonly unknown[] = ["before", "after"];
const NOTHING: ReadonlySet<string> = new Set();
const STRING: ReadonlySet<string> = new Set(["string"]);

// Validating a whole ruleset needs this once for each document: the result is cached by the documents, which never change.
const counted = new WeakMap<Documents, Map<string, Names>>();

export function censusOf(documents: Documents, kind: Kind, key: string): Census {
  let attributes = counted.get(documents);
  if (attributes === undefined) {
    attributes = new Map();
    for (const [name, flag] of Object.entries(documents.flags)) count(flag, `flag ${name}`, attributes);
    for (const [name, segment] of Object.entries(documents.segments)) count(segment, `segment ${name}`, attributes);
    counted.set(documents, attributes);
  }
  const found = attributes;
  const itself = `${kind} ${key}`;
  return {
    of(attribute) {
      if (attribute === "key" || attribute === "targetingKey") return STRING;
      const types = found.get(attribute as string);
      if (types === undefined) return NOTHING;
      return new Set([...types].filter(([, users]) => users.size > 1 || !users.has(itself)).map(([type]) => type));
    },
  };
}

// Without the places that leavesOf knows: a ruleset has a hundred thousand conditions, and only one document is reported on.
function count(document: unknown, user: string, attributes: Map<string, Names>): void {
  const open: (Fields | null)[] = [];
  for (const rule of list((document as Fields | null)?.rules)) for (const one of list(rule?.conditions)) open.push(one);
  for (let i = 0; i < open.length; i++) {
    const condition = open[i];
    if (typeof condition !== "object" || condition === null) continue;
    if (typeof condition.attribute === "string") {
      for (const type of expectedTypesOf(condition)) note(attributes, condition.attribute, type, user);
      continue;
    }
    for (const child of list(condition.all)) open.push(child);
    for (const child of list(condition.any)) open.push(child);
    if (condition.not !== undefined) open.push(condition.not as Fields);
  }
}

function note(attributes: Map<string, Names>, attribute: string, type: string, user: string): void {
  let types = attributes.get(attribute);
  if (types === undefined) {
    types = new Map();
    attributes.set(attribute, types);
  }
  const users = types.get(type);
  if (users === undefined) types.set(type, new Set([user]));
  // Two users are enough to know that another document than the validated one is among them.
  else if (users.size < 2) users.add(user);
}

/** `exists` and dates say nothing: an instant is a text or a number. */
export function expectedTypesOf({ op, values }: Fields): ReadonlySet<string> {
  if (op === "exists" || DATES.includes(op)) return NOTHING;
  if (op === "in") return new Set((Array.isArray(values) ? values : []).map((value) => typeof value));
  return NUMBERS.includes(op) ? new Set(["number"]) : STRING;
}

/** The conditions on attributes, however deep, in order. Of any document whatever. */
export function* leavesOf(document: unknown): Generator<{ leaf: Fields; path: Path }> {
  for (const [rule, fields] of list((document as Fields | null)?.rules).entries()) {
    const open = list(fields?.conditions).map((condition, index) => ({
      condition,
      path: ["rules", rule, "conditions", index] as Path,
    }));
    for (let next = open.shift(); next !== undefined; next = open.shift()) {
      const { condition, path } = next;
      if (typeof condition !== "object" || condition === null) continue;
      if (condition.op !== undefined) yield { leaf: condition, path };
      for (const group of ["all", "any"]) {
        const inner = list(condition[group]);
        open.push(...inner.map((child, index) => ({ condition: child, path: [...path, group, index] })));
      }
      if (condition.not !== undefined) open.push({ condition: condition.not as Fields, path: [...path, "not"] });
    }
  }
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value : [];
}
