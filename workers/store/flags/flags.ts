import type { FlagType } from "@bunting/core";
import { and, eq, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import type { Database, Statement } from "../database.ts";
import { type ConfigurationRow, type FlagRow, selectConfigurations } from "../documents.ts";
import { containsText, type DocumentOrder, inOrder, type PageOf } from "../page.ts";
import * as table from "../schema/index.ts";

export type KillRow = typeof table.kills.$inferSelect;

/** How one environment serves a flag, for reading: the documents that evaluation sees come from workers/store/documents.ts. */
export type FlagThere = { flag: FlagRow; configuration: ConfigurationRow; kill: KillRow | null };

/** Each narrows the list; a flag has all of `tags`. */
export type FlagFilter = {
  q?: string | undefined;
  tags?: string[] | undefined;
  owner?: string | undefined;
  type?: FlagType | undefined;
  temporary?: boolean | undefined;
  clientSide?: boolean | undefined;
  archived?: boolean | undefined;
};

export async function findFlag(db: Database, project: string, key: string): Promise<FlagRow | undefined> {
  const [row] = await db
    .select({ flag: table.flags })
    .from(table.flags)
    .innerJoin(table.projects, eq(table.projects.id, table.flags.projectId))
    .where(and(eq(table.projects.key, project), eq(table.flags.key, key)));
  return row?.flag;
}

export function listFlags(db: Database, projectId: string, filter: FlagFilter, page: PageOf<DocumentOrder>) {
  const { flags } = table;
  const equal = (column: SQLiteColumn, value: unknown) => (value === undefined ? undefined : eq(column, value));
  // As a literal, or the partial index would not be known to hold all of them.
  const archived = sql.raw(filter.archived ? "IS NOT NULL" : "IS NULL");
  const { after, orderBy } = inOrder(flags, flags.key, page);
  return db
    .select()
    .from(flags)
    .where(
      and(
        eq(flags.projectId, projectId),
        after,
        filter.archived === undefined ? undefined : sql`${flags.archivedAt} ${archived}`,
        equal(flags.owner, filter.owner),
        equal(flags.type, filter.type),
        equal(flags.temporary, filter.temporary),
        equal(flags.clientSide, filter.clientSide),
        ...(filter.tags ?? []).map(
          (tag) =>
            sql`${flags.key} IN (SELECT flag_key FROM flag_tags WHERE project_id = ${projectId} AND tag = ${tag})`,
        ),
        containsText(filter.q, [flags.key, flags.name, flags.description]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

export async function flagIn(
  db: Database,
  projectId: string,
  environmentId: string,
  key: string,
): Promise<FlagThere | null> {
  const [row] = await db
    .select({ flag: table.flags, configuration: table.flagConfigurations, kill: table.kills })
    .from(table.flags)
    .innerJoin(
      table.flagConfigurations,
      and(
        eq(table.flagConfigurations.flagId, table.flags.id),
        eq(table.flagConfigurations.environmentId, environmentId),
      ),
    )
    .leftJoin(table.kills, and(eq(table.kills.environmentId, environmentId), eq(table.kills.flagKey, table.flags.key)))
    .where(and(eq(table.flags.projectId, projectId), eq(table.flags.key, key)));
  return row ?? null;
}

/** A flag in every environment of its project, archived or not. */
export const configurationsOf = (db: Database, flagId: string): Promise<ConfigurationRow[]> =>
  selectConfigurations(db).where(eq(table.flagConfigurations.flagId, flagId));

/** Keys of the flags that are killed in an environment, by D1's mirror, which may lag behind the hub. */
export async function killedFlags(db: Database, environmentId: string): Promise<Set<string>> {
  const rows = await db
    .select({ key: table.kills.flagKey })
    .from(table.kills)
    .where(and(eq(table.kills.environmentId, environmentId), eq(table.kills.killed, true)));
  return new Set(rows.map((row) => row.key));
}

export const insertFlag = (db: Database, row: FlagRow): Statement[] => [
  db.insert(table.flags).values(row),
  insertTags(db, row),
];

/** `row` as it will be. */
export const updateFlag = (db: Database, row: FlagRow): Statement[] => {
  const { id, projectId: _, key: __, createdAt: ___, ...fields } = row;
  return [
    db.update(table.flags).set(fields).where(eq(table.flags.id, id)),
    db.delete(table.flagTags).where(tagsOf(row)),
    insertTags(db, row),
  ];
};

type Named = Pick<FlagRow, "projectId" | "key">;

const tagsOf = ({ projectId, key }: Named) =>
  and(eq(table.flagTags.projectId, projectId), eq(table.flagTags.flagKey, key));

const insertTags = (db: Database, { projectId, key, tags }: Named & Pick<FlagRow, "tags">): Statement =>
  db
    .insert(table.flagTags)
    .select(sql`SELECT DISTINCT ${projectId}, value, ${key} FROM json_each(${JSON.stringify(tags)})`);

/**
 * The flag's document changed in every environment, by something that all of them have in common. In `restarted`, which
 * environments by id, everybody is served something else from now on.
 */
export const touchConfigurations = (db: Database, flagId: string, now: number, restarted: string[]): Statement => {
  const { version, fullSince, environmentId } = table.flagConfigurations;
  const among = sql`(SELECT value FROM json_each(${JSON.stringify(restarted)}))`;
  return db
    .update(table.flagConfigurations)
    .set({
      version: sql`${version} + 1`,
      updatedAt: now,
      fullSince: sql`CASE WHEN ${environmentId} IN ${among} THEN ${now} ELSE ${fullSince} END`,
    })
    .where(eq(table.flagConfigurations.flagId, flagId));
};

export const updateConfiguration = (
  db: Database,
  environmentId: string,
  flagId: string,
  fields: Partial<ConfigurationRow>,
): Statement =>
  db
    .update(table.flagConfigurations)
    .set(fields)
    .where(and(eq(table.flagConfigurations.environmentId, environmentId), eq(table.flagConfigurations.flagId, flagId)));

export const deleteFlag = (db: Database, row: Named & { id: string }): Statement[] => [
  db.delete(table.flagConfigurations).where(eq(table.flagConfigurations.flagId, row.id)),
  db.delete(table.flagTags).where(tagsOf(row)),
  db.delete(table.flags).where(eq(table.flags.id, row.id)),
];
