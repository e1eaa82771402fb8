/** The conformance vectors as something to ask a client: whatever entry it comes from, it answers as the evaluator does. */
import { readFileSync } from "node:fs";
import type { Context, Decision, Json, Ruleset } from "@bunting/core";
import { rulesetOf } from "./peer.ts";

export type Vector = {
  id: string;
  ruleset: Ruleset;
  flag: string;
  context: Context;
  /** Of a type that keeps the value of whatever the flag serves (EV-8). */
  defaultValue: Json;
  expected: Partial<Decision>;
};

type Case = Pick<Vector, "id" | "flag" | "context" | "expected"> & {
  flags: Ruleset["flags"];
  segments?: Ruleset["segments"];
  default: Json;
};

const isDocument = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Of evaluation.json, those that can be on the wire: a flag that is no object at all never gets as far as a client. */
export function wireVectors(): Vector[] {
  const file = readFileSync(`${import.meta.dirname}/../conformance/evaluation.json`, "utf8");
  const { cases } = JSON.parse(file) as { cases: Case[] };
  return cases
    .filter(({ flags, segments = {} }) => [...Object.values(flags), ...Object.values(segments)].every(isDocument))
    .map(({ id, flags, segments = {}, flag, context, expected, ...rest }) => ({
      ...{ id, flag, context, expected },
      ruleset: { ...rulesetOf(0, []), flags, segments },
      defaultValue: expected.variation === null ? rest.default : null,
    }));
}

/** What turns one vector's documents into another's. */
export function between(before: Ruleset, after: Ruleset): { flags: object; segments: object } {
  const gone = (documents: object) => Object.fromEntries(Object.keys(documents).map((key) => [key, null]));
  return {
    flags: { ...gone(before.flags), ...after.flags },
    segments: { ...gone(before.segments), ...after.segments },
  };
}
