import { and, asc, desc, eq, inArray, isNotNull, lt, lte, sql } from "drizzle-orm";
import type { EnvironmentName } from "./credentials.ts";
import { answered, type Database, type Statement } from "./database.ts";
import { listed } from "./rows.ts";
import * as table from "./schema.ts";
import type { TokenRow } from "./tokens.ts";

export type ChangeRequestRow = typeof table.changeRequests.$inferSelect;
export type NewChangeRequest = Omit<ChangeRequestRow, "seq">;
export type RevisionRow = typeof table.changeRequestRevisions.$inferSelect;
export type EventRow = typeof table.changeRequestEvents.$inferSelect;

/** One change request with what it asks for and all that has happened to it, as one transaction saw them. */
export type ChangeRequestThere = {
  row: ChangeRequestRow;
  revision: RevisionRow;
  events: EventRow[];
  environment: EnvironmentName;
};

export async function findChangeRequest(db: Database, id: string): Promise<ChangeRequestThere | null> {
  const { changeRequests, changeRequestRevisions, changeRequestEvents, environments, projects } = table;
  const [[row], [revision], events, [environment]] = await answered(
    db.batch([
      db.select().from(changeRequests).where(eq(changeRequests.id, id)),
      db
        .select()
        .from(changeRequestRevisions)
        .where(eq(changeRequestRevisions.changeRequestId, id))
        .orderBy(desc(changeRequestRevisions.revision))
        .limit(1),
      db
        .select()
        .from(changeRequestEvents)
        .where(eq(changeRequestEvents.changeRequestId, id))
        .orderBy(asc(changeRequestEvents.version)),
      db
        .select({
          id: environments.id,
          projectId: sql<string>`${projects.id}`.as("project_id"),
          project: sql<string>`${projects.key}`.as("project_key"),
          environment: environments.key,
          location: environments.location,
        })
        .from(environments)
        .innerJoin(projects, eq(projects.id, environments.projectId))
        .where(
          eq(
            environments.id,
            sql`(${db.select({ id: changeRequests.environmentId }).from(changeRequests).where(eq(changeRequests.id, id))})`,
          ),
        ),
    ]),
  );
  if (row === undefined || revision === undefined || environment === undefined) return null;
  return { row, revision, events, environment };
}

export type ChangeRequestFilter = {
  status?: table.ChangeRequestStatus[] | undefined;
  /** Keys; null for all. */
  environments: string[] | null;
  flag?: string | undefined;
  author?: string | undefined;
  /** Made by somebody else, and as it is not judged by this one. */
  waitingFor?: string | undefined;
  before?: number | undefined;
};

export type ListedChangeRequest = { row: ChangeRequestRow; environment: string };

/** Newest first. */
export function listChangeRequests(
  db: Database,
  projectId: string,
  filter: ChangeRequestFilter,
  limit: number,
): Promise<ListedChangeRequest[]> {
  const { changeRequests, changeRequestEvents, environments } = table;
  const { status, flag, author, before, waitingFor } = filter;
  const said = sql`SELECT 1 FROM ${changeRequestEvents} WHERE ${changeRequestEvents.changeRequestId} = ${changeRequests.id}
    AND ${changeRequestEvents.revision} = ${changeRequests.revision} AND ${changeRequestEvents.actorId} = ${waitingFor ?? ""}
    AND ${changeRequestEvents.kind} IN ('approve', 'request-changes')`;
  return db
    .select({ row: changeRequests, environment: environments.key })
    .from(changeRequests)
    .innerJoin(environments, eq(environments.id, changeRequests.environmentId))
    .where(
      and(
        eq(changeRequests.projectId, projectId),
        before === undefined ? undefined : lt(changeRequests.seq, before),
        status && inArray(changeRequests.status, status),
        filter.environments === null ? undefined : sql`${environments.key} IN ${listed(filter.environments)}`,
        flag === undefined ? undefined : eq(changeRequests.flagKey, flag),
        author === undefined ? undefined : eq(changeRequests.authorId, author),
        waitingFor === undefined
          ? undefined
          : sql`${changeRequests.authorId} <> ${waitingFor} AND NOT EXISTS (${said})`,
      ),
    )
    .orderBy(desc(changeRequests.seq))
    .limit(limit);
}

/** Those that somebody still has to decide on. */
export async function countUndecided(db: Database, projectId: string): Promise<number> {
  const { changeRequests } = table;
  return db.$count(
    changeRequests,
    and(eq(changeRequests.projectId, projectId), inArray(changeRequests.status, ["draft", "open", "failed"])),
  );
}

/** Ids of those whose time has come, the longest waiting first. */
export async function dueChangeRequests(db: Database, now: number, limit: number): Promise<string[]> {
  const { changeRequests } = table;
  const rows = await db
    .select({ id: changeRequests.id })
    .from(changeRequests)
    .where(
      and(eq(changeRequests.status, "open"), isNotNull(changeRequests.publishAt), lte(changeRequests.publishAt, now)),
    )
    .orderBy(asc(changeRequests.publishAt))
    .limit(limit);
  return rows.map(({ id }) => id);
}

export const insertChangeRequest = (db: Database, row: NewChangeRequest): Statement =>
  db.insert(table.changeRequests).values(row);

export const insertRevision = (db: Database, row: RevisionRow): Statement =>
  db.insert(table.changeRequestRevisions).values(row);

/** What happens to it, on top of what was read: a lost race where something else has happened since. */
export const stepStatements = (
  db: Database,
  event: EventRow,
  { seq: _, id, ...fields }: Partial<ChangeRequestRow> & { id: string },
): Statement[] => [
  db.insert(table.changeRequestEvents).values(event),
  db
    .update(table.changeRequests)
    .set({ ...fields, version: event.version, updatedAt: event.at })
    .where(eq(table.changeRequests.id, id)),
];

export const insertEvent = (db: Database, event: EventRow): Statement =>
  db.insert(table.changeRequestEvents).values(event);

/** The tokens as they are now. */
export const findTokens = (db: Database, ids: string[]): Promise<TokenRow[]> =>
  db
    .select()
    .from(table.apiTokens)
    .where(sql`${table.apiTokens.id} IN ${listed(ids)}`);

/** Of the change requests of an environment, all but their own rows. */
export const deleteChangeRequestParts = (db: Database, environmentId: string): Statement[] => {
  const { changeRequests, changeRequestEvents, changeRequestRevisions } = table;
  const ids = db
    .select({ id: changeRequests.id })
    .from(changeRequests)
    .where(eq(changeRequests.environmentId, environmentId));
  return [changeRequestEvents, changeRequestRevisions].map((one) =>
    db.delete(one).where(inArray(one.changeRequestId, ids)),
  );
};
