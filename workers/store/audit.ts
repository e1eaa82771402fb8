/** Reading the audit log. Entries are written with what they tell of (changes.ts, kills.ts), and never again. */
import { and, asc, desc, eq, getTableColumns, gte, lt, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { D1_MS, within } from "../deadline.ts";
import type { UndoOf } from "./changes.ts";
import type { Database } from "./database.ts";
import * as table from "./schema.ts";

export type AuditRow = typeof table.audit.$inferSelect;

export type AuditFilter = {
  project?: string | undefined;
  environment?: string | undefined;
  type?: string | undefined;
  /** What was changed: also one of many documents that were changed at once. */
  key?: string | undefined;
  action?: string | undefined;
  actor?: string | undefined;
  token?: string | undefined;
  correlationId?: string | undefined;
  /** Found in the reason, whatever the case of ASCII letters. */
  reason?: string | undefined;
  /** Epoch milliseconds: at or after `from`, before `to`. */
  from?: number | undefined;
  to?: number | undefined;
};

/** Beyond an entry in the order of the list. */
export type AuditPosition = { timestamp: number; id: number };

export type AuditPageOf = { limit: number; after: AuditPosition | undefined; order: "newest" | "oldest" };

/** An entry has up to 2 MB: so much of them is read at once, and at least one. Bytes. */
const PAGE_BYTES = 4_000_000;

/** `more`: there may be others after these. Empty lists of `scope` mean everything. */
export async function listAudit(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  page: AuditPageOf,
): Promise<{ rows: AuditRow[]; more: boolean }> {
  const found = await auditQuery(db, scope, filter, page);
  const rows = found.slice(0, page.limit).map(({ through: _, ...row }) => row);
  return { rows, more: found.length > page.limit || (found.at(-1)?.through ?? 0) >= PAGE_BYTES };
}

/** One more than asked for, which tells whether there are others. */
export function auditQuery(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  { limit, after, order }: AuditPageOf,
) {
  const { audit } = table;
  const direction = order === "newest" ? desc : asc;
  const way = order === "newest" ? "DESC" : "ASC";
  const beyond = sql.raw(order === "newest" ? "<" : ">");
  const among = (list: string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(list)}))`;
  const picked = db
    .select({ id: audit.id, timestamp: audit.timestamp, size: sql<number>`octet_length(${audit.changes})`.as("size") })
    .from(audit)
    .where(
      and(
        after && sql`(${audit.timestamp}, ${audit.id}) ${beyond} (${after.timestamp}, ${after.id})`,
        is(audit.project, filter.project),
        is(audit.environment, filter.environment),
        is(audit.resourceType, filter.type),
        filter.key === undefined
          ? undefined
          : sql`${audit.id} IN (SELECT id FROM audit WHERE key = ${filter.key}
              UNION SELECT audit_id FROM audit_undo WHERE key = ${filter.key})`,
        is(audit.action, filter.action),
        is(audit.actor, filter.actor),
        is(audit.tokenId, filter.token),
        is(audit.correlationId, filter.correlationId),
        filter.from === undefined ? undefined : gte(audit.timestamp, filter.from),
        filter.to === undefined ? undefined : lt(audit.timestamp, filter.to),
        filter.reason === undefined
          ? undefined
          : sql`${audit.reason} IS NOT NULL AND instr(lower(${audit.reason}), lower(${filter.reason}))`,
        scope.projects.length === 0 ? undefined : sql`${audit.project} IN ${among(scope.projects)}`,
        scope.environments.length === 0
          ? undefined
          : sql`${audit.project} || '/' || ${audit.environment} IN ${among(scope.environments)}`,
      ),
    )
    .orderBy(direction(audit.timestamp), direction(audit.id))
    .limit(limit + 1)
    .as("picked");
  const weighed = db
    .select({
      id: picked.id,
      size: picked.size,
      through: sql<number>`sum(size) OVER (ORDER BY ${sql.raw(`timestamp ${way}, id ${way}`)})`.as("through"),
    })
    .from(picked)
    .as("weighed");
  return db
    .select({ ...getTableColumns(audit), through: weighed.through })
    .from(weighed)
    .innerJoin(audit, eq(audit.id, weighed.id))
    .where(sql`${weighed.through} - ${weighed.size} < ${PAGE_BYTES}`)
    .orderBy(direction(audit.timestamp), direction(audit.id));
}

const is = (column: SQLiteColumn, value: string | undefined): SQL | undefined =>
  value === undefined ? undefined : eq(column, value);

const EXPORTED_AT_ONCE = 200;

/** Oldest first, a page at a time. */
export async function* auditPages(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  from: AuditPosition | undefined,
): AsyncGenerator<AuditRow[], undefined> {
  for (let after = from; ; ) {
    const page = { limit: EXPORTED_AT_ONCE, after, order: "oldest" } as const;
    const { rows, more } = await within(listAudit(db, scope, filter, page), D1_MS, "reading");
    after = rows.at(-1);
    if (after === undefined) return;
    yield rows;
    if (!more) return;
  }
}

export const findAudit = (db: Database, id: number): Promise<AuditRow | undefined> =>
  db.query.audit.findFirst({ where: eq(table.audit.id, id) });

export async function isRevertible(db: Database, id: number): Promise<boolean> {
  return (
    (await db.query.auditUndo.findFirst({ columns: { key: true }, where: eq(table.auditUndo.auditId, id) })) !==
    undefined
  );
}

/** What an entry took away, by document: none for what cannot be put back. */
export async function undoOfEntry(db: Database, id: number): Promise<UndoOf[]> {
  const rows = await db.select().from(table.auditUndo).where(eq(table.auditUndo.auditId, id));
  return rows.map(({ auditId: _, ...undo }) => undo);
}
