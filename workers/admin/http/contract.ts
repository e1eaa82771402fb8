/** The shapes that operations have in common. */

import { isKey, KEY_PATTERN } from "@bunting/core";
import { MAX_DESCRIPTION, MAX_NAME, MAX_REASON, MAX_WAIT_MS } from "../limits.ts";
import { durationInQuery } from "./quantities.ts";
import { z } from "./zod.ts";

export const validationError = z.object({ pointer: z.string(), code: z.string(), message: z.string() });

export const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    errors: z.array(validationError).optional(),
    correlationId: z.string(),
  })
  .openapi("Problem", { description: "RFC 9457. `errors` lists each error with a JSON pointer into the body." });

export const key = z
  .string()
  .refine(isKey, "1 to 128 of A-Z a-z 0-9 . _ ~ - and not a reserved name")
  .openapi({ pattern: KEY_PATTERN.source, example: "new-checkout" });
export const name = z.string().min(1).max(MAX_NAME);
export const description = z.string().max(MAX_DESCRIPTION);
export const reason = z.string().trim().min(1).max(MAX_REASON);
/** Epoch milliseconds. */
export const time = z.number().int().openapi({ example: 1_760_000_000_000 });

/** Of whatever is decided and not everywhere yet: a change on its way to the clients, a kill on its way to D1 and the log. */
export const pending = z.literal(true).optional().openapi({
  description: "It is decided, and has not arrived everywhere yet. It arrives by itself.",
});

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
    wait: durationInQuery(0, MAX_WAIT_MS).default(byDefault).openapi({
      description: 'Milliseconds, or a duration like "5s", to wait until every connected client has the change',
    }),
  });

export const BASE_PATH = "/api/v1";

/** Of the parameters in a path such as `/projects/{project}`. */
export const namesIn = (path: string): string[] => [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
