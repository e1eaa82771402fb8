/** Keyset pages: what comes after a row in the order asked for, so that a row made or deleted meanwhile moves no other. */
import { and, asc, desc, gt, isNotNull, isNull, lt, lte, or, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";

/** Where the last page ended: its last row's value in the order, and what tells it from others with the same value. */
export type Position = { value: string | number; tie: string };

/** What lists of things that have a key, or only an id, can be in the order of. */
export type DocumentOrder = "key" | "name" | "createdAt" | "updatedAt";
export type CredentialOrder = "name" | "createdAt" | "updatedAt";

export type PageOf<By extends string> = {
  limit: number;
  by: By;
  descending: boolean;
  after: Position | undefined;
};

/** `tie` is unique within the list, and the column that an index has after the one that is sorted by. */
export function inOrder<By extends string>(
  columns: Record<By, SQLiteColumn>,
  tie: SQLiteColumn,
  { by, descending, after }: PageOf<By>,
): { after: SQL | undefined; orderBy: SQL[] } {
  const column = columns[by];
  const order = descending ? desc : asc;
  if (column === tie) {
    return { after: after && (descending ? lt : gt)(tie, after.tie), orderBy: [order(tie)] };
  }
  const beyond = after && sql`(${column}, ${tie}) ${sql.raw(descending ? "<" : ">")} (${after.value}, ${after.tie})`;
  return { after: beyond, orderBy: [order(column), order(tie)] };
}

/** The same of rows that have all been read, since there are never many. */
export function pageAmong<
  By extends string,
  Tie extends string,
  Row extends { [name in By]: string | number } & { [name in Tie]: string },
>(rows: Row[], tie: Tie, { by, descending, after, limit }: PageOf<By>): Row[] {
  const way = descending ? -1 : 1;
  const compared = (one: string | number, other: string | number) => (one < other ? -way : one > other ? way : 0);
  const isBeyond = (row: Row, { value, tie: other }: Position) =>
    (compared(row[by], value) || compared(row[tie], other)) > 0;
  return rows
    .filter((row) => after === undefined || isBeyond(row, after))
    .sort((one, other) => compared(one[by], other[by]) || compared(one[tie], other[tie]))
    .slice(0, limit);
}

/** Text that is part of one of the columns, whatever the case of its ASCII letters. */
export const containsText = (text: string | undefined, columns: SQLiteColumn[]): SQL | undefined =>
  text === undefined ? undefined : or(...columns.map((column) => sql`instr(lower(${column}), lower(${text}))`));

export type CredentialFilter = {
  q: string | undefined;
  state: "active" | "expired" | "revoked" | undefined;
  now: number;
};

/** Of keys and tokens: whether they still open something. */
export function inState(
  state: CredentialFilter["state"],
  { revokedAt, expiresAt }: { revokedAt: SQLiteColumn; expiresAt: SQLiteColumn },
  now: number,
): SQL | undefined {
  if (state === undefined) return undefined;
  if (state === "revoked") return isNotNull(revokedAt);
  const valid = state === "active" ? or(isNull(expiresAt), gt(expiresAt, now)) : lte(expiresAt, now);
  return and(isNull(revokedAt), valid);
}
