/** The conformance vectors, for clients of every entry of the SDK. */
import { readFileSync } from "node:fs";
import type { Context, Decision, Json, Ruleset } from "@bunting/core";
import { rulesetOf } from "./peer.ts";

export type Vector = {
  id: string;
  ruleset: Ruleset;
  flag: string;
  context: Context;
  /** Of the type of the flag's value: a default of another type would be served in its place (EV-8). */
  defaultValue: Json;
  expected: Partial<Decision>;
};

type Case = Pick<Vector, "id" | "flag" | "context" | "expected"> & {
  flags: Ruleset["flags"];
  segments?: Ruleset["segments"];
  default: Json;
};

const isDocument = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The vectors of evaluation.json in which all documents are objects: others cannot be on the wire. */
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

/** The patch from one vector's documents to another's. */
export function between(before: Ruleset, after: Ruleset): { flags: object; segments: object } {
  const removed = (documents: object) => Object.fromEntries(Object.keys(documents).map((key) => [key, null]));
  return {
    flags: { ...removed(before.flags), ...after.flags },
    segments: { ...removed(before.segments), ...after.segments },
  };
}
