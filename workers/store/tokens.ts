import { and, eq, sql } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import { type CredentialFilter, type CredentialOrder, containsText, inOrder, inState, type PageOf } from "./page.ts";
import * as table from "./schema/index.ts";

export type TokenRow = typeof table.apiTokens.$inferSelect;

export const findTokenById = (db: Database, id: string): Promise<TokenRow | undefined> =>
  db.query.apiTokens.findFirst({ where: eq(table.apiTokens.id, id) });

export function listTokens(
  db: Database,
  { q, state, now, role }: CredentialFilter & { role: table.Role | undefined },
  page: PageOf<CredentialOrder>,
) {
  const { apiTokens } = table;
  const { after, orderBy } = inOrder(apiTokens, apiTokens.id, page);
  return db
    .select()
    .from(apiTokens)
    .where(
      and(
        after,
        role && eq(apiTokens.role, role),
        inState(state, apiTokens, now),
        containsText(q, [apiTokens.name, apiTokens.shown]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

export const insertToken = (db: Database, row: TokenRow): Statement => db.insert(table.apiTokens).values(row);

/** `next` is made of `before`: where that is no longer what is there, the whole transaction is refused. */
export function updateToken(db: Database, before: TokenRow, next: TokenRow): Statement {
  const { id, createdAt: _, hash: __, ...fields } = next;
  const version = sql`CASE version WHEN ${before.version} THEN ${next.version} END`;
  return db
    .update(table.apiTokens)
    .set({ ...fields, version })
    .where(eq(table.apiTokens.id, id));
}
