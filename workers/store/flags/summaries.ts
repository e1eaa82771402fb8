/** What a list of all flags of a project says of each, in a few statements however many flags there are. */
import { and, asc, eq, gt, isNull, sql } from "drizzle-orm";
import { answered, type Database } from "../database.ts";
import type { EnvironmentRow, ProjectRow } from "../projects.ts";
import { listed } from "../rows.ts";
import type { StoredSummary } from "../schema/index.ts";
import * as table from "../schema/index.ts";

const { projects, environments, flags, schedules, ramps, kills } = table;

/** Flags read at once, each with its configurations in up to five environments. */
const PAGE = 2_000;

type Place = { environmentId: string; flagId: string };

export type ListState = {
  project: ProjectRow;
  /** Those of the requested keys that exist, in no particular order. */
  environments: EnvironmentRow[];
  /** One for each pending schedule, and one for each ramp that is running or paused. */
  scheduled: Place[];
  ramping: (Place & { id: string; version: number })[];
};

/** All that the list is made of, but for the flags, their configurations and their kills. One transaction. */
export async function listState(db: Database, project: string, keys: string[]): Promise<ListState | null> {
  const id = sql`(SELECT id FROM projects WHERE key = ${project})`;
  const among = sql`(SELECT id FROM environments WHERE project_id = ${id} AND key IN ${listed(keys)})`;
  const [projectRows, environmentRows, scheduled, ramping] = await answered(
    db.batch([
      db.select().from(projects).where(eq(projects.key, project)),
      db
        .select()
        .from(environments)
        .where(and(eq(environments.projectId, id), sql`${environments.key} IN ${listed(keys)}`)),
      // As literals, or the partial indexes would not be known to hold all of them.
      db
        .select({ environmentId: schedules.environmentId, flagId: schedules.flagId })
        .from(schedules)
        .where(sql`${schedules.environmentId} IN ${among} AND ${schedules.status} = 'pending'`),
      db
        .select({ id: ramps.id, version: ramps.version, environmentId: ramps.environmentId, flagId: ramps.flagId })
        .from(ramps)
        .where(sql`${ramps.environmentId} IN ${among} AND ${ramps.status} IN ('running', 'paused')`),
    ]),
  );
  const [found] = projectRows;
  return found === undefined ? null : { project: found, environments: environmentRows, scheduled, ramping };
}

/** The flags that D1 knows to be killed, by environment. */
export const mirroredKills = (db: Database, environmentIds: string[]) =>
  db
    .select({ environmentId: kills.environmentId, flagKey: kills.flagKey })
    .from(kills)
    .where(and(sql`${kills.environmentId} IN ${listed(environmentIds)}`, eq(kills.killed, true)));

/** Without those that are archived. By index alone: `archived_at` is in none that has the others. */
export async function countListed(db: Database, projectId: string): Promise<number> {
  const of = sql`FROM flags WHERE project_id = ${projectId}`;
  const { count } = await db.get<{ count: number }>(
    sql`SELECT (SELECT count(*) ${of}) - (SELECT count(*) ${of} AND archived_at IS NOT NULL) AS count`,
  );
  return count;
}

/** Of a flag in one environment. `on` is 0 or 1. */
type There = [version: number, on: number, changedAt: number, summary: StoredSummary];

export type FlagListed = Awaited<ReturnType<typeof readPage>>[number];

/** By key. What one statement saw is a page. */
export async function* flagPages(
  db: Database,
  projectId: string,
  environmentIds: string[],
): AsyncGenerator<FlagListed[], undefined> {
  for (let after = ""; ; ) {
    const page = await answered(readPage(db, projectId, environmentIds, after).execute());
    yield page;
    const last = page[PAGE - 1];
    if (last === undefined) return;
    after = last.key;
  }
}

/**
 * `there`: in the order of `environmentIds`, null where an environment is gone. One JSON text for a flag, since rows cost more
 * than what is in them; put together as text, so that SQLite does not parse the summaries again.
 */
function readPage(db: Database, projectId: string, environmentIds: string[], after: string) {
  const { id, key, name, type, tags, owner, temporary, updatedAt } = flags;
  const each = environmentIds.map(
    (environmentId) => sql`coalesce((SELECT '[' || version || ',' || "on" || ',' || updated_at || ',' || summary || ']'
      FROM flag_configurations WHERE environment_id = ${environmentId} AND flag_id = flags.id), 'null')`,
  );
  const there = sql<(There | null)[]>`'[' || ${sql.join(each, sql` || ',' || `)} || ']'`.mapWith(JSON.parse);
  return db
    .select({ id, key, name, type, tags, owner, temporary, updatedAt, there })
    .from(flags)
    .where(and(eq(flags.projectId, projectId), gt(key, after), isNull(flags.archivedAt)))
    .orderBy(asc(key))
    .limit(PAGE);
}
