import { DrizzleQueryError } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import { D1_MS, DeadlineExceeded, within } from "../platform/deadline.ts";
import * as schema from "./schema/index.ts";

export type Database = DrizzleD1Database<typeof schema>;
export type Statement = BatchItem<"sqlite">;

export const openDatabase = (d1: D1Database): Database => drizzle(d1, { schema });

/** D1 failed or did not answer. After a write, nothing or all of it is there: a retry with the same key tells. */
class DatabaseFailed extends Error {
  override name = "DatabaseFailed";
}

export const isDatabaseFailure = (error: unknown): boolean =>
  error instanceof DatabaseFailed || error instanceof DrizzleQueryError || error instanceof DeadlineExceeded;

/** One transaction: D1 has no other. All statements see and make one state, or none does. */
export async function transaction(db: Database, statements: Statement[]): Promise<void> {
  const [first, ...rest] = statements;
  if (first !== undefined) await answered(db.batch([first, ...rest]));
}

/** A batch, whose errors drizzle hands on as they are, within D1's deadline. */
export async function answered<T>(batch: Promise<T>): Promise<T> {
  try {
    return await within(batch, D1_MS, "D1");
  } catch (cause) {
    throw new DatabaseFailed("D1 did not take a batch", { cause });
  }
}
