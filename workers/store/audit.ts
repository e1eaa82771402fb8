import { and, desc, eq, lt, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import * as table from "./schema.ts";

export type AuditRow = typeof table.audit.$inferSelect;

export type AuditFilter = {
  project?: string | undefined;
  environment?: string | undefined;
  type?: string | undefined;
  key?: string | undefined;
  action?: string | undefined;
  /** Older than this entry. */
  before?: number | undefined;
};

/** Newest first. Empty lists of `scope` mean everything; entries of no project are for those who see everything. */
export function listAudit(db: Database, scope: table.Scope, filter: AuditFilter, limit: number): Promise<AuditRow[]> {
  const { audit } = table;
  const is = (column: Parameters<typeof eq>[0], value: string | undefined) =>
    value === undefined ? undefined : eq(column, value);
  const among = (list: string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(list)}))`;
  return db
    .select()
    .from(audit)
    .where(
      and(
        filter.before === undefined ? undefined : lt(audit.id, filter.before),
        is(audit.project, filter.project),
        is(audit.environment, filter.environment),
        is(audit.resourceType, filter.type),
        is(audit.key, filter.key),
        is(audit.action, filter.action),
        scope.projects.length === 0 ? undefined : sql`${audit.project} IN ${among(scope.projects)}`,
        scope.environments.length === 0
          ? undefined
          : sql`${audit.project} || '/' || ${audit.environment} IN ${among(scope.environments)}`,
      ),
    )
    .orderBy(desc(audit.id))
    .limit(limit);
}
