/** What every resource's routes are made of: the app they hang on, and the shapes that repeat. */

import { isKey, KEY_PATTERN } from "@bunting/core";
import { OpenAPIHono, z } from "@hono/zod-openapi";
import { MAX_DESCRIPTION, MAX_NAME, MAX_REASON, MAX_WAIT_MS } from "../limits.ts";
import type { AdminEnv } from "./context.ts";
import { declared } from "./query.ts";
import { mistaken, mistakesOf } from "./validation-errors.ts";

/** Every route that is hung on it is declared: its query is checked, and `?dryRun` is part of it where it writes. */
export function resource() {
  const app = new OpenAPIHono<AdminEnv>({
    strict: false,
    defaultHook: (result) => {
      if (result.success) return;
      const mistakes = mistakesOf(result.error.issues, result.target === "json" ? "" : `${result.target}:`);
      throw mistaken("The request has mistakes; each is listed with its place.", mistakes);
    },
  });
  const register = app.openapi;
  app.openapi = ((route, handler, hook) => register(declared(route), handler, hook)) as typeof register;
  return app;
}

export const mistake = z.object({ pointer: z.string(), code: z.string(), message: z.string() });

const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    errors: z.array(mistake).optional(),
    correlationId: z.string(),
  })
  .openapi("Problem", { description: "RFC 9457. `errors` lists each mistake with a JSON pointer into the body." });

const problemContent = { "application/problem+json": { schema: problem } };

/** Every route can fail in these ways; each answer says how with its `code`. */
export const problems = {
  400: { description: "The request has mistakes; each is listed with its place", content: problemContent },
  "4XX": { description: "The request cannot be done", content: problemContent },
  "5XX": { description: "Not possible now; Retry-After says when to try again", content: problemContent },
} as const;

export const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

/** A body that must be there. */
export const body = <T extends z.ZodType>(schema: T) => ({
  body: { required: true, content: { "application/json": { schema } } },
});

export const key = z
  .string()
  .refine(isKey, "1 to 128 of A-Z a-z 0-9 . _ ~ - and not a reserved name")
  .openapi({ pattern: KEY_PATTERN.source, example: "new-checkout" });
export const name = z.string().min(1).max(MAX_NAME);
export const description = z.string().max(MAX_DESCRIPTION);
export const reason = z.string().trim().min(1).max(MAX_REASON);
/** Epoch milliseconds. */
export const time = z.number().int().openapi({ example: 1_760_000_000_000 });

const parameter = z.string().min(1);
export const projectPath = z.object({ project: parameter });
export const environmentPath = projectPath.extend({ environment: parameter });
export const flagPath = projectPath.extend({ flag: parameter });
export const targetingPath = flagPath.extend({ environment: parameter });

/** A number in a path or a query, which have only text. */
export const whole = (min: number, max = Number.MAX_SAFE_INTEGER) =>
  z.preprocess(
    (text) => (typeof text === "string" && /^\d+$/.test(text) ? Number(text) : text),
    z.number().int().min(min).max(max),
  );

export const pageQuery = z.object({
  limit: whole(1, 100).default(20),
  cursor: z.string().max(256).optional(),
});

export const page = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() });

/** `rows` were read with one more than `limit`, which tells whether there is a next page. */
export function pageOf<Row, Item>(rows: Row[], limit: number, cursor: (row: Row) => string, item: (row: Row) => Item) {
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return { items: rows.slice(0, limit).map(item), nextCursor: last === undefined ? null : cursor(last) };
}

export const waitQuery = (byDefault: number) =>
  z.object({
    wait: whole(0, MAX_WAIT_MS).default(byDefault).openapi({
      description: "Milliseconds to wait until every connected client has the change",
    }),
  });

export const BASE_PATH = "/api/v1";
