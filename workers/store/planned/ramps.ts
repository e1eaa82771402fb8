/** Splits that are moved step by step. */
import { and, asc, eq, gt, inArray, lte, min, or, type SQL, sql } from "drizzle-orm";
import type { EnvironmentName } from "../credentials.ts";
import type { Database, Statement } from "../database.ts";
import { containsText, inOrder, type PageOf } from "../page.ts";
import * as table from "../schema/index.ts";
import { environmentName, inScope, type PlannedFilter } from "./planned.ts";

export type RampRow = typeof table.ramps.$inferSelect;
export type Ramped = { row: RampRow; environment: EnvironmentName };

const { ramps, environments, projects, kills } = table;

const select = (db: Database, where: SQL | undefined) =>
  db
    .select({ row: ramps, environment: environmentName })
    .from(ramps)
    .innerJoin(environments, eq(environments.id, ramps.environmentId))
    .innerJoin(projects, eq(projects.id, environments.projectId))
    .where(where);

export async function findRamp(db: Database, id: string): Promise<Ramped | undefined> {
  const [found] = await select(db, eq(ramps.id, id));
  return found;
}

/** The one that is at work on a split, if there is one. */
export const rampAt = (db: Database, environmentId: string, flagId: string, ruleId: string) =>
  db.query.ramps.findFirst({
    where: and(
      eq(ramps.environmentId, environmentId),
      eq(ramps.flagId, flagId),
      eq(ramps.ruleId, ruleId),
      inArray(ramps.status, ["running", "paused"]),
    ),
  });

export const runningRamps = (db: Database, environmentId: string, flagId: string): Promise<RampRow[]> =>
  db.query.ramps.findMany({
    where: and(eq(ramps.environmentId, environmentId), eq(ramps.flagId, flagId), eq(ramps.status, "running")),
  });

export async function listRamps(
  db: Database,
  { projectId, visible, environment, flag, author, status, q }: PlannedFilter<table.RampStatus>,
  page: PageOf<"createdAt">,
): Promise<(RampRow & { environment: string })[]> {
  const { after, orderBy } = inOrder({ createdAt: ramps.createdAt }, ramps.id, page);
  const rows = await select(
    db,
    and(
      eq(ramps.projectId, projectId),
      after,
      inScope(visible),
      environment === undefined ? undefined : eq(environments.key, environment),
      flag === undefined ? undefined : eq(ramps.flagKey, flag),
      author === undefined ? undefined : eq(ramps.tokenId, author),
      status && eq(ramps.status, status),
      containsText(q, [ramps.flagKey, ramps.reason]),
    ),
  )
    .orderBy(...orderBy)
    .limit(page.limit);
  return rows.map(({ row, environment }) => ({ ...row, environment: environment.environment }));
}

const isRunning = sql`${ramps.status} = 'running'`;

/** Those whose next step is due, and those whose flag was killed or restored since they looked, in the order of their times. */
export const dueRamps = (db: Database, now: number, limit: number) =>
  db
    .select({ id: ramps.id, environmentId: ramps.environmentId, due: sql<number>`min(${ramps.nextAt}, ${now})` })
    .from(ramps)
    .leftJoin(kills, and(eq(kills.environmentId, ramps.environmentId), eq(kills.flagKey, ramps.flagKey)))
    .where(and(isRunning, or(lte(ramps.nextAt, now), gt(kills.seq, ramps.killSeq))))
    .orderBy(asc(ramps.nextAt), asc(ramps.id))
    .limit(limit);

/** The first time after `now`. */
export async function nextRamp(db: Database, now: number): Promise<number | null> {
  const [row] = await db
    .select({ at: min(ramps.nextAt) })
    .from(ramps)
    .where(and(isRunning, gt(ramps.nextAt, now)));
  return row?.at ?? null;
}

export const insertRamp = (db: Database, row: RampRow): Statement => db.insert(ramps).values(row);

/** `next` is made of `before`: where that is no longer what is there, the whole transaction is refused. */
export function updateRamp(db: Database, before: RampRow, next: RampRow): Statement {
  const { id, createdAt: _, ...fields } = next;
  const version = sql`CASE version WHEN ${before.version} THEN ${next.version} END`;
  return db
    .update(ramps)
    .set({ ...fields, version })
    .where(eq(ramps.id, id));
}

/** Best effort and beside every transaction: what counts is that it ends some day. */
export async function countRampAttempt(db: Database, id: string): Promise<void> {
  await db
    .update(ramps)
    .set({ attempts: sql`${ramps.attempts} + 1` })
    .where(and(eq(ramps.id, id), isRunning));
}
