import { and, asc, eq, gt, isNotNull, isNull, or, sql } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { ConfigurationRow, FlagRow } from "./documents.ts";
import type { PageOf } from "./projects.ts";
import * as table from "./schema.ts";

export type KillRow = typeof table.kills.$inferSelect;

/** How one environment serves a flag, for reading: the documents that evaluation sees come from documents.ts. */
export type FlagThere = { flag: FlagRow; configuration: ConfigurationRow; kill: KillRow | null };

export type FlagFilter = { q?: string | undefined; tag?: string | undefined; archived: boolean };

export async function findFlag(db: Database, project: string, key: string): Promise<FlagRow | undefined> {
  const [row] = await db
    .select({ flag: table.flags })
    .from(table.flags)
    .innerJoin(table.projects, eq(table.projects.id, table.flags.projectId))
    .where(and(eq(table.projects.key, project), eq(table.flags.key, key)));
  return row?.flag;
}

export function listFlags(
  db: Database,
  projectId: string,
  filter: FlagFilter,
  { limit, after }: PageOf,
): Promise<FlagRow[]> {
  const holds = (text: typeof table.flags.key | typeof table.flags.name | typeof table.flags.description) =>
    sql`instr(lower(${text}), lower(${filter.q}))`;
  return db
    .select()
    .from(table.flags)
    .where(
      and(
        eq(table.flags.projectId, projectId),
        after === undefined ? undefined : gt(table.flags.key, after),
        filter.archived ? isNotNull(table.flags.archivedAt) : isNull(table.flags.archivedAt),
        filter.q === undefined
          ? undefined
          : or(holds(table.flags.key), holds(table.flags.name), holds(table.flags.description)),
        filter.tag === undefined
          ? undefined
          : sql`EXISTS (SELECT 1 FROM json_each(${table.flags.tags}) WHERE value = ${filter.tag})`,
      ),
    )
    .orderBy(asc(table.flags.key))
    .limit(limit);
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
  db.select().from(table.flagConfigurations).where(eq(table.flagConfigurations.flagId, flagId));

/** Keys of the flags that are killed in an environment, as far as D1 has been told. */
export async function killedFlags(db: Database, environmentId: string): Promise<Set<string>> {
  const rows = await db
    .select({ key: table.kills.flagKey })
    .from(table.kills)
    .where(and(eq(table.kills.environmentId, environmentId), eq(table.kills.killed, true)));
  return new Set(rows.map((row) => row.key));
}

export const insertFlag = (db: Database, row: FlagRow): Statement => db.insert(table.flags).values(row);

export const updateFlag = (db: Database, id: string, fields: Partial<FlagRow>): Statement =>
  db.update(table.flags).set(fields).where(eq(table.flags.id, id));

/** The flag's document changed in every environment, by something that all of them have in common. */
export const touchConfigurations = (db: Database, flagId: string, now: number): Statement =>
  db
    .update(table.flagConfigurations)
    .set({ version: sql`${table.flagConfigurations.version} + 1`, updatedAt: now })
    .where(eq(table.flagConfigurations.flagId, flagId));

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

export const deleteFlag = (db: Database, flagId: string): Statement[] => [
  db.delete(table.flagConfigurations).where(eq(table.flagConfigurations.flagId, flagId)),
  db.delete(table.flags).where(eq(table.flags.id, flagId)),
];
