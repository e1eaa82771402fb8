import { asc, eq, gt } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { PageOf } from "./projects.ts";
import * as table from "./schema.ts";

export type TokenRow = typeof table.apiTokens.$inferSelect;

export const findTokenById = (db: Database, id: string): Promise<TokenRow | undefined> =>
  db.query.apiTokens.findFirst({ where: eq(table.apiTokens.id, id) });

export function listTokens(db: Database, { limit, after }: PageOf): Promise<TokenRow[]> {
  return db
    .select()
    .from(table.apiTokens)
    .where(after === undefined ? undefined : gt(table.apiTokens.id, after))
    .orderBy(asc(table.apiTokens.id))
    .limit(limit);
}

export const insertToken = (db: Database, row: TokenRow): Statement => db.insert(table.apiTokens).values(row);

export const revokeToken = (db: Database, id: string, now: number): Statement =>
  db.update(table.apiTokens).set({ revokedAt: now }).where(eq(table.apiTokens.id, id));
