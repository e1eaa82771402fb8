import { and, eq, exists, gt, isNull, ne, not, or, sql } from "drizzle-orm";
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

/** Tokens that may do everything now, but for this one. */
const administrators = (db: Database, now: number, but: string | null) => {
  const { apiTokens: tokens } = table;
  const unlimited = sql`json_array_length(${tokens.scope}, '$.projects') + json_array_length(${tokens.scope}, '$.environments') = 0`;
  return db
    .select({ id: tokens.id })
    .from(tokens)
    .where(
      and(
        eq(tokens.role, "admin"),
        isNull(tokens.revokedAt),
        or(isNull(tokens.expiresAt), gt(tokens.expiresAt, now)),
        unlimited,
        but === null ? undefined : ne(tokens.id, but),
      ),
    )
    .limit(1);
};

/** Whether somebody may do everything, beside whoever has the token `but`. */
export const hasAdministrator = async (db: Database, now: number, but: string | null = null): Promise<boolean> =>
  (await administrators(db, now, but)).length > 0;

/** `first`: only while nobody may do everything; else the whole transaction is refused. */
export const insertToken = (db: Database, row: TokenRow, first: { now: number } | null = null): Statement =>
  db.insert(table.apiTokens).values(
    first === null
      ? row
      : {
          ...row,
          version: sql`CASE WHEN ${not(exists(administrators(db, first.now, null)))} THEN ${row.version} END`,
        },
  );

/**
 * `next` is made of `before`: where that is no longer what is there, the whole transaction is refused. `leaving`: also
 * where nobody else may do everything.
 */
export function updateToken(
  db: Database,
  before: TokenRow,
  next: TokenRow,
  leaving: { now: number } | null = null,
): Statement {
  const { id, createdAt: _, hash: __, ...fields } = next;
  const isAllowed = leaving === null ? sql`1` : exists(administrators(db, leaving.now, id));
  const version = sql`CASE WHEN version = ${before.version} AND ${isAllowed} THEN ${next.version} END`;
  return db
    .update(table.apiTokens)
    .set({ ...fields, version })
    .where(eq(table.apiTokens.id, id));
}
