/** The outbox as the hub and the sweep read it: what is committed, what is published, and what may go. */
import { and, asc, eq, gt, gte, lte, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import * as table from "../schema/index.ts";
import type { Change, Documents } from "./change.ts";

/** Changes at and after `version`, oldest first: the one at `version` tells whether history is still the same. */
export async function changesFrom(
  db: Database,
  environmentId: string,
  version: number,
  limit: number,
): Promise<Change[]> {
  const rows = await db
    .select()
    .from(table.changes)
    .where(and(eq(table.changes.environmentId, environmentId), gte(table.changes.version, version)))
    .orderBy(asc(table.changes.version))
    .limit(limit);
  return rows.map(({ documents, createdAt: _, ...row }) => ({ ...row, ...(JSON.parse(documents) as Documents) }));
}

/** An environment's last change, and the last kill or restore that D1 was told of: 0 for none. */
export type Heads = { version: number; changeId: string; killSeq: number };

export async function findHeads(db: Database, environmentId: string): Promise<Heads | null> {
  const [row] = await db
    .select({ version: table.environments.version, changeId: table.environments.changeId, killSeq: lastKill })
    .from(table.environments)
    .where(eq(table.environments.id, environmentId));
  return row ?? null;
}

/** Kills are mirrored in order: whatever comes before the last one is there too. */
export const lastKill =
  sql<number>`(SELECT coalesce(max(seq), 0) FROM kills WHERE kills.environment_id = environments.id)`.as("kill_seq");

/** One that was overtaken on its way changes nothing: revisions never go back. */
export async function markPublished(
  db: Database,
  environmentId: string,
  version: number,
  revision: number,
): Promise<void> {
  await db
    .update(table.environments)
    .set({ publishedVersion: version, publishedRevision: revision })
    .where(and(eq(table.environments.id, environmentId), lte(table.environments.publishedRevision, revision)));
}

/** Environments with committed changes that their hub has not published, or not told us so. */
export async function laggingEnvironments(db: Database, limit: number): Promise<string[]> {
  const rows = await db
    .select({ id: table.environments.id })
    .from(table.environments)
    .where(gt(table.environments.version, table.environments.publishedVersion))
    // So that some that cannot be repaired never stand in the way of the others.
    .orderBy(sql`random()`)
    .limit(limit);
  return rows.map((row) => row.id);
}

/** Rows a statement deletes at most: what is left goes a minute later. */
const TRIM_AT_ONCE = 5_000;

/**
 * A change goes once its hub has said that it published a later one, and it is older than `before`. So the newest always
 * stays, which the hub compares its lineage with; whatever is not published stays too. History is in R2.
 */
export async function trimOutbox(db: Database, before: number): Promise<void> {
  await db.run(sql`DELETE FROM changes WHERE rowid IN (
    SELECT changes.rowid FROM changes JOIN environments ON environments.id = changes.environment_id
    WHERE changes.created_at < ${before} AND changes.version < environments.published_version LIMIT ${TRIM_AT_ONCE})`);
}

/** Locks and nothing else: all but the newest of each project go. */
export async function trimProjectEdits(db: Database, before: number): Promise<void> {
  await db.run(sql`DELETE FROM project_edits WHERE rowid IN (
    SELECT project_edits.rowid FROM project_edits JOIN projects ON projects.id = project_edits.project_id
    WHERE project_edits.created_at < ${before} AND project_edits.version < projects.version LIMIT ${TRIM_AT_ONCE})`);
}
