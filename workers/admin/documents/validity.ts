/** Whether a document means something among the others: core's `validate`, and what else would break. */
import type { Flag, Ruleset, Segment } from "@bunting/core";
import { type Problem, validate } from "@bunting/core/validate";
import { conflict, type ValidationError } from "../../platform/problem.ts";
import { invalid } from "../http/validation-errors.ts";
import { MAX_DOCUMENT_BYTES } from "../limits.ts";

export type Document = { kind: "flag"; document: Flag } | { kind: "segment"; document: Segment };

/** Where something is used that a request takes away. */
export type Use = { environment: string; kind: "flag" | "segment"; key: string } & Partial<ValidationError>;

/** The ruleset as it will be. Keys are checked, so none of them is a name that an object treats specially. */
export function withDocument(ruleset: Ruleset, { kind, document }: Document): Ruleset {
  return kind === "flag"
    ? { ...ruleset, flags: { ...ruleset.flags, [document.key]: document } }
    : { ...ruleset, segments: { ...ruleset.segments, [document.key]: document } };
}

/** Refuses what would not work; answers what is legal and surely not meant. */
export function requireValid(one: Document, ruleset: Ruleset): ValidationError[] {
  const { errors, warnings } = validityOf(one, ruleset);
  if (errors.length > 0) throw invalid(`The ${one.kind} would not work; each error is listed.`, errors);
  return warnings;
}

export function validityOf(
  one: Document,
  ruleset: Ruleset,
): { errors: ValidationError[]; warnings: ValidationError[] } {
  const problems = validate(one.kind, one.document, ruleset);
  const errors = of("error", problems);
  if (new TextEncoder().encode(JSON.stringify(one.document)).byteLength > MAX_DOCUMENT_BYTES) {
    const message = `A ${one.kind} has at most ${MAX_DOCUMENT_BYTES / 1_000} KB; longer lists belong in segments.`;
    errors.push({ pointer: "", code: "too-large", message });
  }
  return { errors, warnings: of("warning", problems) };
}

/** Every document that was good until now and would not be: in answer to taking away what they use. */
export function brokenBy(environment: string, ruleset: Ruleset): Use[] {
  const documents: Document[] = [
    ...Object.values(ruleset.flags).map((document) => ({ kind: "flag" as const, document })),
    ...Object.values(ruleset.segments).map((document) => ({ kind: "segment" as const, document })),
  ];
  return documents.flatMap((one) =>
    of("error", validate(one.kind, one.document, ruleset)).map((error) => ({
      environment,
      kind: one.kind,
      key: one.document.key,
      ...error,
    })),
  );
}

const of = (wanted: Problem["severity"], problems: Problem[]): ValidationError[] =>
  problems
    .filter(({ severity }) => severity === wanted)
    .map(({ pointer, code, message }) => ({ pointer, code, message }));

export const inUse = (what: string, dependents: Use[]) =>
  conflict("in-use", `${what} is in use; change what uses it first.`, { dependents: dependents.slice(0, 100) });
