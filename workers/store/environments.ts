import { and, eq, lte, sql } from "drizzle-orm";
import { deleteChangeRequests } from "./approvals/change-requests.ts";
import type { Database, Statement } from "./database.ts";
import { type FlagRow, flagDocument } from "./documents.ts";
import type { Head } from "./outbox/change.ts";
import { documentBytes } from "./outbox/ruleset-size.ts";
import { type EnvironmentRow, headOf } from "./projects.ts";
import { listed } from "./rows.ts";
import * as table from "./schema/index.ts";

/**
 * The row, and every flag of the project in its defaults: one statement each, however many flags there are. The row knows
 * what they weigh.
 */
export function insertEnvironment(db: Database, row: EnvironmentRow): Statement[] {
  return [
    db.insert(table.environments).values(row),
    insertDefaults(
      db,
      sql`SELECT ${row.id} AS environment_id, flags.* FROM flags WHERE project_id = ${row.projectId}`,
      row.createdAt,
    ),
    db
      .insert(table.documentSizes)
      .select(
        sql`SELECT ${row.id}, 'flag', key, bytes FROM flags WHERE project_id = ${row.projectId} AND archived_at IS NULL`,
      ),
  ];
}

/** A flag starts off; off is the variation valued false, or else the last; on, everyone gets the first. */
export const insertDefaultsOf = (db: Database, flag: { id: string; projectId: string; createdAt: number }): Statement =>
  insertDefaults(
    db,
    sql`SELECT environments.id AS environment_id, flags.* FROM flags JOIN environments USING (project_id) WHERE flags.id = ${flag.id}`,
    flag.createdAt,
  );

/** The same for one flag, as the document that its environments are told. */
export const defaults = ({ type, variations }: Pick<FlagRow, "type" | "variations">) => ({
  environmentId: "",
  flagId: "",
  version: 1,
  on: false,
  offVariation: (type === "boolean" ? variations.find(({ value }) => value === false) : variations.at(-1))?.key ?? null,
  prerequisites: [],
  targets: [],
  rules: [],
  fallthrough: { variation: variations[0]?.key ?? "" },
  trackExposures: false,
});

export const defaultBytes = (flag: Omit<FlagRow, "bytes">): number => documentBytes(flagDocument(flag, defaults(flag)));

const insertDefaults = (db: Database, pairs: ReturnType<typeof sql>, now: number): Statement =>
  db.insert(table.flagConfigurations).select(sql`
    SELECT environment_id, id, 1, 0,
      CASE type WHEN 'boolean'
        THEN (SELECT v.value ->> 'key' FROM json_each(variations) v WHERE (v.value ->> 'value') = 0 LIMIT 1)
        ELSE variations ->> '$[#-1].key' END,
      0, ${now}, ${now}, '[]', '[]', '[]', json_object('variation', variations ->> '$[0].key')
    FROM (${pairs})`);

export const updateEnvironment = (db: Database, id: string, fields: Partial<EnvironmentRow>): Statement =>
  db.update(table.environments).set(fields).where(eq(table.environments.id, id));

/** Read before what a write is validated against: whatever changes after it makes the write lose its race. */
export async function findHead(db: Database, environmentId: string): Promise<Head | undefined> {
  const row = await db.query.environments.findFirst({ where: eq(table.environments.id, environmentId) });
  return row && headOf(row);
}

/** Whether nothing has changed in them since these heads. */
export async function areHeads(db: Database, heads: Head[]): Promise<boolean> {
  const ids = heads.map(({ environmentId }) => environmentId);
  const rows = await db
    .select({ id: table.environments.id, version: table.environments.version })
    .from(table.environments)
    .where(sql`${table.environments.id} IN ${listed(ids)}`);
  const versions = new Map(rows.map(({ id, version }) => [id, version]));
  return heads.every(({ environmentId, version }) => versions.get(environmentId) === version);
}

/**
 * All that D1 has of it but the change that deletes it: whoever wrote at the same time is to find its version taken.
 * `head` is what that change comes after.
 */
export function deleteEnvironment(db: Database, projectId: string, { environmentId, version }: Head): Statement[] {
  const { changes } = table;
  const tables = [
    table.flagConfigurations,
    table.segments,
    table.segmentChanges,
    table.documentSizes,
    table.dependencies,
    table.kills,
    table.sdkKeys,
    table.killReviews,
    table.schedules,
    table.ramps,
  ];
  return [
    ...deleteChangeRequests(db, { projectId, environmentId }),
    ...tables.map((one) => db.delete(one).where(eq(one.environmentId, environmentId))),
    db.delete(changes).where(and(eq(changes.environmentId, environmentId), lte(changes.version, version))),
    db.delete(table.environments).where(eq(table.environments.id, environmentId)),
  ];
}
