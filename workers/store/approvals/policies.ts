import { and, asc, eq, gt, sql } from "drizzle-orm";
import { answered, type Database, type Statement } from "../database.ts";
import type { References } from "../documents.ts";
import * as table from "../schema/index.ts";
import type { PolicyRow } from "./policy.ts";

/** A project's policies, at most a hundred, and the edit that they are as of. */
export type PoliciesThere = { projectId: string; version: number; policies: PolicyRow[] };

export async function policiesOf(db: Database, projectId: string): Promise<PoliciesThere> {
  const [[last], policies] = await answered(
    db.batch([
      db
        .select({ version: sql<number>`coalesce(max(${table.policyEdits.version}), 0)` })
        .from(table.policyEdits)
        .where(eq(table.policyEdits.projectId, projectId)),
      db.select().from(table.policies).where(eq(table.policies.projectId, projectId)).orderBy(asc(table.policies.key)),
    ]),
  );
  return { projectId, version: last?.version ?? 0, policies };
}

/** Refuses its transaction, as a lost race, where the policies have been edited since: it would write a later edit again. */
export const policiesUnchanged = (db: Database, { projectId, version }: PoliciesThere): Statement =>
  db.insert(table.policyEdits).select(
    db
      .select()
      .from(table.policyEdits)
      .where(and(eq(table.policyEdits.projectId, projectId), gt(table.policyEdits.version, version))),
  );

/** Whatever is written beside it is an edit of the policies that were read. */
export const editPolicies = (db: Database, { projectId, version }: PoliciesThere, now: number): Statement =>
  db.insert(table.policyEdits).values({ projectId, version: version + 1, createdAt: now });

export const insertPolicy = (db: Database, row: PolicyRow): Statement => db.insert(table.policies).values(row);

export const updatePolicy = (db: Database, { id, ...fields }: PolicyRow): Statement =>
  db.update(table.policies).set(fields).where(eq(table.policies.id, id));

export const deletePolicy = (db: Database, id: string): Statement =>
  db.delete(table.policies).where(eq(table.policies.id, id));

/** Which flags each document of an environment reaches, itself among them: those that depend on it, and their tags. */
export type Reached = { kind: table.DocumentKind; key: string; flag: string; tags: string[] };

export async function flagsReached(
  db: Database,
  environment: { id: string; projectId: string },
  { flags, segments }: References,
): Promise<Reached[]> {
  const start = JSON.stringify([
    ...flags.map((key) => ({ kind: "flag", key })),
    ...segments.map((key) => ({ kind: "segment", key })),
  ]);
  const rows = await db.all<Omit<Reached, "tags"> & { tags: string }>(sql`
    WITH RECURSIVE reach(origin_kind, origin_key, kind, key) AS (
      SELECT value ->> 'kind', value ->> 'key', value ->> 'kind', value ->> 'key' FROM json_each(${start})
      UNION
      SELECT r.origin_kind, r.origin_key, d.source_kind, d.source_key FROM reach r JOIN dependencies d
        ON d.environment_id = ${environment.id} AND d.target_kind = r.kind AND d.target_key = r.key
    ) SELECT r.origin_kind AS kind, r.origin_key AS key, flags.key AS flag, flags.tags AS tags
      FROM reach r JOIN flags ON flags.project_id = ${environment.projectId} AND flags.key = r.key WHERE r.kind = 'flag'`);
  return rows.map((row) => ({ ...row, tags: JSON.parse(row.tags) as string[] }));
}

/** All but the newest of each project go. */
export async function trimPolicyEdits(db: Database, before: number): Promise<void> {
  await db.run(sql`DELETE FROM policy_edits WHERE created_at < ${before} AND version < (
    SELECT max(version) FROM policy_edits AS later WHERE later.project_id = policy_edits.project_id)`);
}
