import { badRequest, type ValidationError } from "../../platform/problem.ts";
import { MAX_VALIDATION_ERRORS } from "../limits.ts";
import { remedyFor } from "./unknown-field.ts";
import { z } from "./zod.ts";

type Issue = z.core.$ZodIssue;

/** By the list of unknown keys in an issue: zod drops the schema that an issue came from once its message is made. */
const knownAt = new WeakMap<readonly string[], string[]>();
z.config({
  customError: (issue) => {
    const shape = issue.code === "unrecognized_keys" && issue.inst instanceof z.ZodObject ? issue.inst.shape : null;
    if (shape !== null) knownAt.set(issue.keys as string[], Object.keys(shape));
    return undefined;
  },
});

/** One error for each thing to correct, with a JSON pointer to it. `prefix` tells a parameter from the body. */
function errorsOf(issues: Issue[], prefix = ""): ValidationError[] {
  return issues.flatMap((issue): ValidationError[] => {
    const at = (...last: string[]) => prefix + pointer([...issue.path, ...last]);
    if (issue.code === "unrecognized_keys") return fieldsWithoutPlace(issue.keys, at, knownAt.get(issue.keys));
    return [{ pointer: at(), code: issue.code.replaceAll("_", "-"), message: issue.message }];
  });
}

/** `known`: the fields that may stand there. */
export const fieldsWithoutPlace = (
  fields: string[],
  at = (field: string) => pointer([field]),
  known: readonly string[] = [],
): ValidationError[] =>
  fields.map((field) => ({ pointer: at(field), code: "unknown-field", message: remedyFor(field, known) }));

/** `value` as the schema makes it. @throws ApiError 400; `place` tells a parameter from the body. */
export function parsed<Schema extends z.ZodType>(schema: Schema, value: unknown, place = ""): z.output<Schema> {
  const { error, data } = schema.safeParse(value);
  if (error === undefined) return data as z.output<Schema>;
  throw invalid("The request is not valid: each error is listed with its place.", errorsOf(error.issues, place));
}

/** A 400 with the first of them: more are one error made many times. */
export const invalid = (detail: string, errors: ValidationError[]) =>
  badRequest(
    errors.length > MAX_VALIDATION_ERRORS ? `${detail} These are the first ${MAX_VALIDATION_ERRORS}.` : detail,
    errors.slice(0, MAX_VALIDATION_ERRORS),
  );

/** RFC 6901. */
export const pointer = (path: readonly PropertyKey[]): string =>
  path.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
