// Which types the conditions of a ruleset expect each attribute to have: the only schema that there is of contexts.

import type { Documents, Kind } from "./graph.ts";
import type { Fields, Path } from "./report.ts";

/** The types that documents other than one ask an attribute for. */
export type Census = { of(attribute: unknown): ReadonlySet<string> };

type Names = Map<string, Set<string>>;
const NUMBERS: readonly unknown[] = ["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "modulo"];
const DATES: readonly unknown[] = ["before", "after"];
const NOTHING: ReadonlySet<string> = new Set();
const STRING: ReadonlySet<string> = new Set(["string"]);

// Whoever validates a whole ruleset asks for each of its documents. Kept with the documents, which nobody changes.
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

function count(document: unknown, user: string, attributes: Map<string, Names>): void {
  for (const { leaf } of leavesOf(document)) {
    if (typeof leaf.attribute !== "string") continue;
    const types: Names = attributes.get(leaf.attribute) ?? new Map();
    attributes.set(leaf.attribute, types);
    for (const type of typesAskedOf(leaf)) types.set(type, (types.get(type) ?? new Set()).add(user));
  }
}

/** `exists` and dates say nothing: an instant is a text or a number. */
export function typesAskedOf({ op, values }: Fields): ReadonlySet<string> {
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
