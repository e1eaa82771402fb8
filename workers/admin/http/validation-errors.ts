import type { z } from "@hono/zod-openapi";
import { badRequest, type Mistake } from "../../platform/problem.ts";
import { MAX_MISTAKES } from "../limits.ts";

type Issue = z.core.$ZodIssue;

/** Fields that are shown in answers and refused in requests, each with what to send in its place. */
const remedies: Record<string, string> = {
  ranges: "Ranges are computed so that the fewest users move: send `weights`.",
  seed: "The seed is kept as it was: send `reshuffle: true` for a new one.",
  hash: "The bucketing algorithm is not chosen by a request: leave it out.",
  killed: "Use …/kill and …/restore.",
  archivedAt: "Use …/archive and …/unarchive.",
};

/** One mistake for each thing to correct, with a JSON pointer to it. `prefix` tells a parameter from the body. */
export function mistakesOf(issues: Issue[], prefix = ""): Mistake[] {
  return issues.flatMap((issue): Mistake[] => {
    const at = (...last: string[]) => prefix + pointer([...issue.path, ...last]);
    if (issue.code === "unrecognized_keys") return fieldsWithoutPlace(issue.keys, at);
    return [{ pointer: at(), code: issue.code.replaceAll("_", "-"), message: issue.message }];
  });
}

export const fieldsWithoutPlace = (fields: string[], at = (field: string) => pointer([field])): Mistake[] =>
  fields.map((field) => ({ pointer: at(field), code: "unknown-field", message: remedyFor(field) }));

function remedyFor(field: string): string {
  if (/^dry[_-]?run$/i.test(field)) return "Did you mean ?dryRun=true? It belongs in the query.";
  if (Object.hasOwn(remedies, field)) return remedies[field]!;
  return "There is no such field here, or it cannot be set: leave it out.";
}

/** The first are listed: more of them are one mistake made many times. */
export const mistaken = (detail: string, mistakes: Mistake[]) =>
  badRequest(
    mistakes.length > MAX_MISTAKES ? `${detail} These are the first ${MAX_MISTAKES}.` : detail,
    mistakes.slice(0, MAX_MISTAKES),
  );

/** RFC 6901. */
export const pointer = (path: readonly PropertyKey[]): string =>
  path.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
