/** Many flags of a project at once: what is read of them and written, in as few statements as for one. */
import { and, eq, sql } from "drizzle-orm";
import type { Database, Statement } from "../database.ts";
import { type ConfigurationRow, type FlagRow, type References, selectConfigurations } from "../documents.ts";
import { inPieces, insertRows, listed } from "../rows.ts";
import * as table from "../schema/index.ts";

export const findFlags = (db: Database, projectId: string, keys: string[]): Promise<FlagRow[]> =>
  db
    .select()
    .from(table.flags)
    .where(and(eq(table.flags.projectId, projectId), sql`${table.flags.key} IN ${listed(keys)}`));

/** In every environment, archived or not. */
export const configurationsOfAll = (db: Database, flagIds: string[]): Promise<ConfigurationRow[]> =>
  selectConfigurations(db).where(sql`${table.flagConfigurations.flagId} IN ${listed(flagIds)}`);

/** What uses which of the flags, and where. */
export const usesOfAll = (db: Database, environmentIds: string[], keys: string[]) =>
  db
    .select({
      environmentId: table.dependencies.environmentId,
      kind: table.dependencies.sourceKind,
      key: table.dependencies.sourceKey,
      used: table.dependencies.targetKey,
    })
    .from(table.dependencies)
    .where(
      and(
        sql`${table.dependencies.environmentId} IN ${listed(environmentIds)}`,
        eq(table.dependencies.targetKind, "flag"),
        sql`${table.dependencies.targetKey} IN ${listed(keys)}`,
      ),
    );

/** Of `rows`, as they will be: tags, owner, temporary, archived; the rest stays as it is. */
export const updateFlags = (db: Database, rows: FlagRow[]): Statement[] =>
  inPieces(
    rows.map(({ id, projectId, key, tags, owner, temporary, archivedAt, version, updatedAt }) => ({
      ...{ id, projectId, key, owner, archivedAt, version, updatedAt },
      tags: JSON.stringify(tags),
      temporary: temporary ? 1 : 0,
    })),
  ).flatMap((piece) => {
    const all = sql`json_each(${piece}) AS new`;
    const field = (name: string) => sql`new.value ->> ${name}`;
    const { flags, flagTags } = table;
    return [
      db
        .update(flags)
        .set({
          tags: field("tags"),
          owner: field("owner"),
          temporary: field("temporary"),
          archivedAt: field("archivedAt"),
          version: field("version"),
          updatedAt: field("updatedAt"),
        })
        .from(all)
        .where(eq(flags.id, field("id"))),
      db
        .delete(flagTags)
        .where(sql`(project_id, flag_key) IN (SELECT ${field("projectId")}, ${field("key")} FROM ${all})`),
      db
        .insert(flagTags)
        .select(
          sql`SELECT DISTINCT ${field("projectId")}, tag.value, ${field("key")} FROM ${all}, json_each(${field("tags")}) AS tag`,
        ),
    ];
  });

/** Their documents come back in every environment, each as a new version; until now all had the code's default. */
export const touchAll = (db: Database, flagIds: string[], now: number): Statement =>
  db
    .update(table.flagConfigurations)
    .set({
      version: sql`${table.flagConfigurations.version} + 1`,
      updatedAt: now,
      fullSince: sql`CASE WHEN ${table.flagConfigurations.fullSince} IS NULL THEN NULL ELSE ${now} END`,
    })
    .where(sql`${table.flagConfigurations.flagId} IN ${listed(flagIds)}`);

/** Archived flags hold nothing that they refer to. */
export const releaseAll = (db: Database, environmentIds: string[], keys: string[]): Statement =>
  db
    .delete(table.dependencies)
    .where(
      and(
        sql`${table.dependencies.environmentId} IN ${listed(environmentIds)}`,
        eq(table.dependencies.sourceKind, "flag"),
        sql`${table.dependencies.sourceKey} IN ${listed(keys)}`,
      ),
    );

export function holdAll(
  db: Database,
  all: { environmentId: string; key: string; references: References }[],
): Statement[] {
  const rows = all.flatMap(({ environmentId, key, references: { flags, segments } }) => {
    const source = { environmentId, sourceKind: "flag" as const, sourceKey: key };
    return [
      ...flags.map((targetKey) => ({ ...source, targetKind: "flag" as const, targetKey })),
      ...segments.map((targetKey) => ({ ...source, targetKind: "segment" as const, targetKey })),
    ];
  });
  return insertRows(db, table.dependencies, rows);
}
