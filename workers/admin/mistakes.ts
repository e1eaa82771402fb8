import type { z } from "@hono/zod-openapi";
import type { Mistake } from "../problem.ts";

type Issue = z.core.$ZodIssue;

/** Fields that are shown in answers and refused in requests, each with what to send in its place. */
const remedies: Record<string, string> = {
  ranges: "Ranges are computed so that the fewest users move: send `weights`.",
  seed: "The seed is kept as it was: send `reshuffle: true` for a new one.",
  hash: "The bucketing algorithm is not chosen by a request: leave it out.",
  killed: "Use …/kill and …/restore.",
};

/** One mistake for each thing to correct, with a JSON pointer to it. `prefix` tells a parameter from the body. */
export function mistakesOf(issues: Issue[], prefix = "", parents: PropertyKey[] = []): Mistake[] {
  return issues.flatMap((issue): Mistake[] => {
    const path = [...parents, ...issue.path];
    const at = (last?: string) => prefix + pointer(last === undefined ? path : [...path, last]);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((field) => ({
        pointer: at(field),
        code: "unknown-field",
        message: Object.hasOwn(remedies, field) ? remedies[field]! : "There is no such field here.",
      }));
    }
    if (issue.code === "invalid_union" && issue.errors.length > 0) {
      const [nearest, second] = issue.errors.toSorted((one, other) => distance(one) - distance(other));
      const clear = nearest !== undefined && (second === undefined || distance(nearest) < distance(second));
      if (clear) return mistakesOf(nearest, prefix, path);
      return [{ pointer: at(), code: "invalid-union", message: "This is none of the things that can stand here." }];
    }
    return [{ pointer: at(), code: issue.code.replaceAll("_", "-"), message: issue.message }];
  });
}

/** How far a value is from one alternative of a union: the nearest is what its writer meant. */
function distance(issues: Issue[]): number {
  const cost = (issue: Issue) =>
    issue.code === "unrecognized_keys" ? issue.keys.length : isOfWrongKind(issue) ? 2 : 1;
  return issues.reduce((sum, issue) => sum + cost(issue), 0);
}

/** Missing, or nothing like it: no alternative of a union, however deep, even begins to fit. */
const isOfWrongKind = (issue: Issue): boolean =>
  (issue.code === "invalid_type" && issue.path.length <= 1) ||
  (issue.code === "invalid_union" &&
    issue.errors.every(([first]) => first?.code === "invalid_type" && first.path.length === 0));

/** RFC 6901. */
export const pointer = (path: readonly PropertyKey[]): string =>
  path.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
