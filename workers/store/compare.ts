/** What two environments of a project have differently, as far as their rows tell: whoever asks looks closer. */
import { and, asc, eq, gt, isNull, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import type { Database } from "./database.ts";
import { flagDocument, type SegmentRow } from "./documents.ts";
import * as table from "./schema/index.ts";

/** Environments by id. `key`: this document alone. */
export type Compared = {
  projectId: string;
  from: string;
  to: string;
  key?: string | undefined;
  after: string | undefined;
  limit: number;
};

export async function comparedFlags(db: Database, { projectId, from, to, key, after, limit }: Compared) {
  const { flags } = table;
  const source = alias(table.flagConfigurations, "source");
  const target = alias(table.flagConfigurations, "target");
  const differs = sql.join(
    (["on", "offVariation", "prerequisites", "targets", "rules", "fallthrough", "trackExposures"] as const).map(
      (part) => sql`${source[part]} IS NOT ${target[part]}`,
    ),
    sql` OR `,
  );
  const rows = await db
    .select({ flag: flags, source, target })
    .from(flags)
    .innerJoin(source, and(eq(source.flagId, flags.id), eq(source.environmentId, from)))
    .innerJoin(target, and(eq(target.flagId, flags.id), eq(target.environmentId, to)))
    .where(
      and(
        eq(flags.projectId, projectId),
        isNull(flags.archivedAt),
        key === undefined ? undefined : eq(flags.key, key),
        after === undefined ? undefined : gt(flags.key, after),
        sql`(${differs})`,
      ),
    )
    .orderBy(asc(flags.key))
    .limit(limit);
  return rows.map(({ flag, source, target }) => ({
    key: flag.key,
    source: flagDocument(flag, source),
    target: flagDocument(flag, target),
  }));
}

/** Null: it is not there. Members that were uploaded are compared by nobody. */
export async function comparedSegments(
  db: Database,
  { from, to, key, after, limit }: Compared,
): Promise<{ key: string; source: SegmentRow | null; target: SegmentRow | null }[]> {
  const { segments } = table;
  const differs = sql.join(
    (["name", "description", "included", "excluded", "rules"] as const).map((part) => {
      const column = sql.identifier(segments[part].name);
      return sql`s.${column} IS NOT t.${column}`;
    }),
    sql` OR `,
  );
  const pages = db.all<{ key: string }>(sql`
    SELECT coalesce(s.key, t.key) AS key
    FROM (SELECT * FROM segments WHERE environment_id = ${from}) s
    FULL JOIN (SELECT * FROM segments WHERE environment_id = ${to}) t ON s.key = t.key
    WHERE coalesce(s.key, t.key) > ${after ?? ""} AND (${key ?? null} IS NULL OR coalesce(s.key, t.key) = ${key ?? null})
      AND (${differs})
    ORDER BY 1 LIMIT ${limit}`);
  const keys = (await pages).map((row) => row.key);
  if (keys.length === 0) return [];
  const rows = await db
    .select()
    .from(segments)
    .where(
      sql`${segments.environmentId} IN (${from}, ${to})
        AND ${segments.key} IN (SELECT value FROM json_each(${JSON.stringify(keys)}))`,
    );
  const rowIn = (environmentId: string, key: string) =>
    rows.find((row) => row.environmentId === environmentId && row.key === key) ?? null;
  return keys.map((key) => ({ key, source: rowIn(from, key), target: rowIn(to, key) }));
}
