/** D1's mirror of kills and restores: for reading and for the audit log. Late or twice changes nothing. */
import { lt, sql } from "drizzle-orm";
import type { AuditEntry } from "./changes.ts";
import { type Database, transaction } from "./database.ts";
import * as table from "./schema.ts";

export type MirroredKill = typeof table.kills.$inferInsert;

export async function mirrorKill(db: Database, kill: MirroredKill, audit: AuditEntry): Promise<void> {
  const { environmentId: _, flagKey: __, ...state } = kill;
  await transaction(db, [
    db
      .insert(table.kills)
      .values(kill)
      .onConflictDoUpdate({
        target: [table.kills.environmentId, table.kills.flagKey],
        set: state,
        setWhere: lt(table.kills.seq, sql`excluded.seq`),
      }),
    db.insert(table.audit).values(audit).onConflictDoNothing({ target: table.audit.mirrorId }),
  ]);
}
