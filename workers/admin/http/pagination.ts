/** Lists: their order, and cursors that only the list they come from takes. */

import { badRequest } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import type { PageOf, Position } from "../../store/page.ts";
import { MAX_CURSOR, MAX_NAME } from "../limits.ts";
import type { AdminContext } from "./context.ts";
import { pageOf, pageQuery } from "./contract.ts";
import { z } from "./zod.ts";

const KEYED = ["key", "name", "createdAt", "updatedAt"] as const;
const ISSUED = ["createdAt", "name", "updatedAt"] as const;
const SCHEDULED = ["at", "createdAt"] as const;
const RAMPED = ["createdAt"] as const;
const OPENED = ["createdAt"] as const;

const ordered = <const By extends string>(orders: readonly [By, ...By[]], byDefault: By | `-${By}` = orders[0]) =>
  pageQuery.extend({
    cursor: z.string().max(MAX_CURSOR).optional().openapi({
      description: "`nextCursor` of the page before, for the same list and `sort`",
    }),
    q: z.string().max(MAX_NAME).optional().openapi({ description: "Text to be found in it, whatever its case" }),
    sort: z
      .enum([...orders, ...orders.map((order) => `-${order}` as const)])
      .default(() => byDefault as never)
      .openapi({ description: "The order; with - the other way round" }),
  });

/** Of what people give a key. */
export const keyedQuery = ordered(KEYED);

/** Of keys and tokens, which have an id. */
export const issuedQuery = ordered(ISSUED).extend({
  state: z.enum(["active", "expired", "revoked"]).optional().openapi({ description: "All of them by default" }),
});

/** Of what is planned for a flag in an environment. */
const planned = {
  environment: z.string().optional(),
  flag: z.string().optional(),
  author: z.string().max(MAX_NAME).optional().openapi({ description: "The id of a token" }),
};
export const scheduledQuery = ordered(SCHEDULED).extend(planned);
export const rampedQuery = ordered(RAMPED).extend(planned);

/** Of what somebody opens for others to decide on. */
export const openedQuery = ordered(OPENED, "-createdAt");

export const truth = z
  .enum(["true", "false"])
  .transform((text) => text === "true")
  .optional();

type PageRequest<By extends string> = { limit: number; sort: By | `-${By}`; cursor?: string | undefined };

/**
 * The page to read, one row longer than requested, and how rows become an answer. `tie` is what the rows are told apart by.
 * @throws ApiError 400 for a cursor of another list or order.
 */
export async function listing<By extends string, Tie extends string>(
  c: AdminContext,
  { limit, sort, cursor = "" }: PageRequest<By>,
  tie: Tie,
) {
  const descending = sort.startsWith("-");
  const by = sort.slice(descending ? 1 : 0) as By;
  const list = (await sha256(`${c.req.path} ${sort}`)).slice(0, 12);
  const page: PageOf<By> = { limit: limit + 1, by, descending, after: cursor ? positionIn(cursor, list) : undefined };
  type Row = { [name in By]: string | number } & { [name in Tie]: string | number };
  const answerOf = <Found extends Row, Item>(rows: Found[], item: (row: Found) => Item) =>
    pageOf(rows, limit, (row) => encode([list, row[by], String(row[tie])]), item);
  return { page, answerOf };
}

/** Opaque by intent: what is in it may become something else. Nothing secret, and nothing that it could open. */
const encode = (parts: [string, string | number, string]): string => {
  const bytes = new TextEncoder().encode(JSON.stringify(parts));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
};

function positionIn(cursor: string, list: string): Position {
  const parts = decode(cursor);
  if (parts?.[0] === list) {
    const [, value, tie] = parts;
    if ((typeof value === "string" || typeof value === "number") && typeof tie === "string") return { value, tie };
  }
  const message = "Send `nextCursor` as it was answered for this list and this `sort`, or begin again without it.";
  throw badRequest("The cursor is not from this list with this sort.", [
    { pointer: "query:/cursor", code: "not-a-cursor", message },
  ]);
}

function decode(cursor: string): unknown[] | null {
  try {
    const bytes = Uint8Array.from(atob(cursor.replaceAll("-", "+").replaceAll("_", "/")), (letter) =>
      letter.charCodeAt(0),
    );
    const parts: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return Array.isArray(parts) ? parts : null;
  } catch {
    return null;
  }
}
