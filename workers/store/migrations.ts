/** Whether D1 has the tables that this version needs. */
import { getTableName, is } from "drizzle-orm";
import { SQLiteTable } from "drizzle-orm/sqlite-core";
import * as schema from "./schema/index.ts";

/** For a deployment; `npm start` does it by itself. */
export const MIGRATE = "npx wrangler d1 migrations apply DB --remote";

export async function missingTables(d1: D1Database): Promise<string[]> {
  const { results } = await d1.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all<{ name: string }>();
  const there = new Set(results.map(({ name }) => name));
  const needed = Object.values(schema).flatMap((one) => (is(one, SQLiteTable) ? [getTableName(one)] : []));
  return needed.filter((name) => !there.has(name)).sort();
}

/** The table or column for want of which a statement failed: its migration has not been applied. */
export function missingIn(error: unknown): string | null {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const [, what] = /no such ((?:table|column): [\w.]+)/.exec(cause.message) ?? [];
    if (what !== undefined && !cause.message.startsWith("Failed query:")) return what.replace(":", "");
  }
  return null;
}
