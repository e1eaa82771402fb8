/** Changes that are planned for a time. */
import { and, asc, eq, gt, lte, min, type SQL, sql } from "drizzle-orm";
import type { EnvironmentName } from "../credentials.ts";
import type { Database, Statement } from "../database.ts";
import { containsText, inOrder, type PageOf } from "../page.ts";
import * as table from "../schema/index.ts";
import { environmentName, inScope, type PlannedFilter } from "./planned.ts";

export type ScheduleRow = typeof table.schedules.$inferSelect;
export type Scheduled = { row: ScheduleRow; environment: EnvironmentName };

const { schedules, environments, projects } = table;

const select = (db: Database, where: SQL | undefined) =>
  db
    .select({ row: schedules, environment: environmentName })
    .from(schedules)
    .innerJoin(environments, eq(environments.id, schedules.environmentId))
    .innerJoin(projects, eq(projects.id, environments.projectId))
    .where(where);

export async function findSchedule(db: Database, id: string): Promise<Scheduled | undefined> {
  const [found] = await select(db, eq(schedules.id, id));
  return found;
}

export type ScheduleOrder = "at" | "createdAt";

export async function listSchedules(
  db: Database,
  { projectId, visible, environment, flag, author, status, q }: PlannedFilter<table.ScheduleStatus>,
  page: PageOf<ScheduleOrder>,
): Promise<(ScheduleRow & { environment: string })[]> {
  const { after, orderBy } = inOrder({ at: schedules.at, createdAt: schedules.createdAt }, schedules.id, page);
  const rows = await select(
    db,
    and(
      eq(schedules.projectId, projectId),
      after,
      inScope(visible),
      environment === undefined ? undefined : eq(environments.key, environment),
      flag === undefined ? undefined : eq(schedules.flagKey, flag),
      author === undefined ? undefined : eq(schedules.tokenId, author),
      status && eq(schedules.status, status),
      containsText(q, [schedules.flagKey, schedules.reason]),
    ),
  )
    .orderBy(...orderBy)
    .limit(page.limit);
  return rows.map(({ row, environment }) => ({ ...row, environment: environment.environment }));
}

const isPending = sql`${schedules.status} = 'pending'`;

/** In the order of their times. */
export const dueSchedules = (db: Database, now: number, limit: number) =>
  db
    .select({ id: schedules.id, environmentId: schedules.environmentId, due: schedules.at })
    .from(schedules)
    .where(and(isPending, lte(schedules.at, now)))
    .orderBy(asc(schedules.at), asc(schedules.id))
    .limit(limit);

/** The first time after `now`. */
export async function nextSchedule(db: Database, now: number): Promise<number | null> {
  const [row] = await db
    .select({ at: min(schedules.at) })
    .from(schedules)
    .where(and(isPending, gt(schedules.at, now)));
  return row?.at ?? null;
}

export const countPending = (db: Database, environmentId: string): Promise<number> =>
  db.$count(schedules, and(eq(schedules.environmentId, environmentId), isPending));

export const insertSchedule = (db: Database, row: ScheduleRow): Statement => db.insert(schedules).values(row);

/** `next` is made of `before`: where that is no longer what is there, the whole transaction is refused. */
export function updateSchedule(db: Database, before: ScheduleRow, next: ScheduleRow): Statement {
  const { id, createdAt: _, ...fields } = next;
  const version = sql`CASE version WHEN ${before.version} THEN ${next.version} END`;
  return db
    .update(schedules)
    .set({ ...fields, version })
    .where(eq(schedules.id, id));
}

/** Best effort and beside every transaction: what counts is that it ends some day. */
export async function countScheduleAttempt(db: Database, id: string): Promise<void> {
  await db
    .update(schedules)
    .set({ attempts: sql`${schedules.attempts} + 1` })
    .where(and(eq(schedules.id, id), isPending));
}
