/** Flags that seem to have done their work. */
import { and, asc, eq, getTableColumns, gt, isNull, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import * as table from "../schema/index.ts";

/** Epoch milliseconds: one value to all since that time or longer, or untouched since then. */
export type Staleness = { fullBefore: number; unchangedBefore: number; permanent: boolean };

/**
 * A kill serves the off variation to all from then on; where the flag was off, they had it before. A restore
 * starts the period again, unless the flag is off.
 */
const fullSince = sql<number | null>`CASE
  WHEN kills.killed = 1 AND flag_configurations."on" = 0 THEN min(full_since, kills.at)
  WHEN kills.killed = 1 THEN kills.at
  WHEN kills.killed = 0 AND flag_configurations."on" = 1 THEN max(full_since, kills.at)
  ELSE full_since END`;
const lastModified = sql<number>`max(flag_configurations.updated_at, coalesce(kills.at, 0))`;

/** Sorted by key. Reads D1's mirror of kills, which may lag behind the hub. */
export function listStale(
  db: Database,
  { projectId, environmentId }: { projectId: string; environmentId: string },
  { fullBefore, unchangedBefore, permanent }: Staleness,
  { limit, after }: { limit: number; after: string | undefined },
) {
  const { flags, flagConfigurations, kills } = table;
  return db
    .select({
      key: flags.key,
      configuration: getTableColumns(flagConfigurations),
      killed: sql<number>`coalesce(kills.killed, 0)`,
      fullSince: fullSince.as("effective_full_since"),
      lastModified: lastModified.as("last_modified"),
      codeReferences: sql<number>`(SELECT count(*) FROM code_references
        WHERE code_references.project_id = ${flags.projectId} AND code_references.flag_key = ${flags.key})`,
    })
    .from(flags)
    .innerJoin(
      flagConfigurations,
      and(eq(flagConfigurations.flagId, flags.id), eq(flagConfigurations.environmentId, environmentId)),
    )
    .leftJoin(kills, and(eq(kills.environmentId, environmentId), eq(kills.flagKey, flags.key)))
    .where(
      and(
        eq(flags.projectId, projectId),
        isNull(flags.archivedAt),
        after === undefined ? undefined : gt(flags.key, after),
        permanent ? undefined : eq(flags.temporary, true),
        sql`(${fullSince} <= ${fullBefore} OR ${lastModified} <= ${unchangedBefore})`,
      ),
    )
    .orderBy(asc(flags.key))
    .limit(limit);
}
