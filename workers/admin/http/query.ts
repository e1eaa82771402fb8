/** What may stand in a query: what its operation declares, each once. A misspelt parameter is a mistake and never ignored. */
import { z } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import { findTargetHandler } from "hono/utils/handler";
import type { Mistake } from "../../platform/problem.ts";
import { MAX_MISTAKES } from "../limits.ts";
import type { AdminContext, AdminEnv } from "./context.ts";
import { nearest } from "./nearest.ts";
import { isWrite } from "./openapi-operations.ts";
import { mistaken, mistakesOf, pointer } from "./validation-errors.ts";

const dryRun = z.enum(["true", "false"]).default("false").openapi({
  description: "`true` checks the write and answers what it would do, under `dryRun`. Nothing is written.",
});

type Declared = { query: z.ZodRawShape; hasBody: boolean };
type Route = {
  method: string;
  path: string;
  request?: { query?: unknown; body?: unknown };
  middleware?: MiddlewareHandler | MiddlewareHandler[];
};

const declarations = new WeakMap<object, Declared>();

/** The route with `?dryRun`, where it writes, and known to `operationOf`. Every route is registered through this. */
export function declared<R extends Route>(route: R): R {
  const own = (route.request?.query as z.ZodObject | undefined) ?? z.object({});
  const query = isWrite(route.method, route.path) ? own.extend({ dryRun }) : own;
  const mark: MiddlewareHandler = (_, next) => next();
  declarations.set(mark, { query: query.shape, hasBody: route.request?.body !== undefined });
  // A copy by its prototype and descriptors: it has a method that is not enumerable.
  const copy = Object.defineProperties({}, Object.getOwnPropertyDescriptors(route)) as R;
  return Object.assign(copy, {
    request: { ...route.request, query },
    middleware: [mark, ...[route.middleware ?? []].flat()],
  });
}

/** What the operation that this request is for declares. */
export function operationOf(c: AdminContext): Declared {
  for (const { handler } of matchedRoutes(c)) {
    const found = declarations.get(findTargetHandler(handler));
    if (found !== undefined) return found;
  }
  throw new Error("A request that no operation was declared for");
}

/** Before anything is looked up or replayed: what follows knows whether it is a dry run. */
export const queryChecked: MiddlewareHandler<AdminEnv> = async (c, next) => {
  const { query } = operationOf(c);
  const sent = new URL(c.req.url).searchParams;
  const mistakes = mistakesIn([...sent.keys()], query);
  if (mistakes.length > 0) throw mistaken("The query has mistakes; each is listed with its place.", mistakes);
  const asked = query.dryRun === undefined ? undefined : dryRun.safeParse(sent.get("dryRun") ?? undefined);
  if (asked?.error !== undefined) {
    const issues = asked.error.issues.map((issue) => ({ ...issue, path: ["dryRun"] }));
    throw mistaken("The query has mistakes; each is listed with its place.", mistakesOf(issues, "query:"));
  }
  c.set("dryRun", asked?.data === "true");
  await next();
};

function mistakesIn(names: string[], query: z.ZodRawShape): Mistake[] {
  const known = Object.keys(query);
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  const wrong = [...times].filter(
    ([name, count]) => !Object.hasOwn(query, name) || (count > 1 && !isList(query[name])),
  );
  // One more than are listed: then it is said that there are more.
  return wrong.slice(0, MAX_MISTAKES + 1).map(([name]) => ({
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
