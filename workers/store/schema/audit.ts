/** D1's tables of the audit log. */
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { DocumentKind } from "./tables.ts";

const time = (name: string) => integer(name);
const json = <T>(name: string) => text(name, { mode: "json" }).$type<T>();

export type FieldChange = { from?: unknown; to?: unknown };

/** Append-only, also for whoever has SQL: migrations/0001_audit_append_only.sql. Each filter of the list has its index. */
export const audit = sqliteTable(
  "audit",
  {
    id: integer().primaryKey({ autoIncrement: true }),
    timestamp: time("timestamp").notNull(),
    actor: text().notNull(),
    tokenId: text("token_id"),
    action: text().notNull(),
    resourceType: text("resource_type").notNull(),
    project: text(),
    environment: text(),
    key: text().notNull(),
    changes: json<Record<string, FieldChange>>("changes").notNull(),
    sourceIp: text("source_ip"),
    userAgent: text("user_agent"),
    correlationId: text("correlation_id").notNull(),
    reason: text(),
    /** The entry that this one has put back. */
    reverts: integer(),
    /** The change request that this is a part of. */
    changeRequest: text("change_request"),
    /** The schedule, or the ramp, that this is a part of. */
    schedule: text(),
    ramp: text(),
    /** Keys of the policies that the caller was allowed to do without. */
    bypassed: json<string[]>("bypassed"),
    /** Set where a Durable Object has decided: what it mirrors lands once, however often it is sent. */
    mirrorId: text("mirror_id").unique(),
  },
  (table) => [
    index("audit_by_time").on(table.timestamp),
    index("audit_by_project").on(table.project, table.timestamp),
    index("audit_by_place").on(table.project, table.environment, table.timestamp),
    index("audit_by_environment").on(table.environment, table.timestamp),
    index("audit_by_type").on(table.resourceType, table.timestamp),
    index("audit_by_key").on(table.key),
    index("audit_by_action").on(table.action, table.timestamp),
    index("audit_by_actor").on(table.actor, table.timestamp),
    index("audit_by_token").on(table.tokenId, table.timestamp),
    index("audit_by_correlation").on(table.correlationId, table.timestamp),
    index("audit_with_reason").on(table.timestamp).where(sql`reason IS NOT NULL`),
  ],
);

/** What one change did to one document, exactly and by identity, so that it can be put back. */
export type Undo =
  /** A field, an item of a list or an item's field. Left out: it was not there. `place`: the item's index before. */
  | { at: string[]; from?: unknown; to?: unknown; place?: number }
  /** A long list of plain values. */
  | { at: string[]; left: string[]; came: string[] }
  /** Items that were there before and after. */
  | { at: string[]; order: { from: string[]; to: string[] } };

/** Beside `audit`, which is read by the page: what each entry took away. Append-only as well. */
export const auditUndo = sqliteTable(
  "audit_undo",
  {
    auditId: integer("audit_id").notNull(),
    kind: text().$type<DocumentKind>().notNull(),
    key: text().notNull(),
    /** A key; empty for what belongs to the whole project. */
    environment: text().notNull(),
    undo: json<Undo[]>("undo").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.auditId, table.kind, table.key, table.environment] }),
    index("audit_undo_by_key").on(table.key),
  ],
);
