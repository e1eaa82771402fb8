/** What may stand in a query: what its operation declares, each once. A misspelt parameter is refused and never ignored. */
import type { ValidationError } from "../../platform/problem.ts";
import { MAX_VALIDATION_ERRORS } from "../limits.ts";
import type { AdminContext } from "./context.ts";
import { nearest } from "./nearest.ts";
import { invalid, parsed, pointer } from "./validation-errors.ts";
import { z } from "./zod.ts";

/** @throws ApiError 400. Whether it is a dry run is known before anything is looked up. */
export function checkQuery(c: AdminContext, parameters: z.ZodObject): void {
  const errors = errorsIn([...new URL(c.req.url).searchParams.keys()], parameters.shape);
  if (errors.length > 0) throw invalid("The query is not valid: each error is listed with its place.", errors);
  const { dryRun } = parameters.shape;
  c.set("dryRun", dryRun !== undefined && parsed(z.object({ dryRun }), valuesOf(c), "query:").dryRun === "true");
}

/** By name: text, or a list of texts where it is sent several times. */
export const valuesOf = (c: AdminContext): Record<string, string | string[]> =>
  Object.fromEntries(Object.entries(c.req.queries()).map(([name, all]) => [name, all.length === 1 ? all[0]! : all]));

function errorsIn(names: string[], query: z.ZodRawShape): ValidationError[] {
  const known = Object.keys(query);
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  const wrong = [...times].filter(
    ([name, count]) => !Object.hasOwn(query, name) || (count > 1 && !isList(query[name])),
  );
  // One more than are listed: then it is said that there are more.
  return wrong.slice(0, MAX_VALIDATION_ERRORS + 1).map(([name]) => ({
    pointer: `query:${pointer([name])}`,
    ...(Object.hasOwn(query, name)
      ? { code: "parameter-twice", message: "It is there more than once: send it once." }
      : { code: "unknown-parameter", message: unknown(name, known) }),
  }));
}

function unknown(name: string, known: string[]): string {
  const meant = nearest(name, known);
  const there = known.length === 0 ? "It takes none." : `It takes ${known.join(", ")}.`;
  return `This operation has no such parameter. ${meant === null ? there : `Did you mean ${meant}?`}`;
}

/** Whether a schema takes a parameter that is sent several times, whatever it is wrapped in. */
function isList(schema: unknown): boolean {
  if (schema instanceof z.ZodArray) return true;
  if (schema instanceof z.ZodPipe) return isList(schema.out);
  return (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) && isList(schema.unwrap());
}
