import { and, asc, desc, eq, gt, inArray, lte, min, type SQL, sql } from "drizzle-orm";
import type { EnvironmentName } from "../credentials.ts";
import { answered, type Database, type Statement } from "../database.ts";
import { containsText, inOrder, type PageOf } from "../page.ts";
import { insertRows, listed } from "../rows.ts";
import * as table from "../schema/index.ts";
import type { TokenRow } from "../tokens.ts";

export type ChangeRequestRow = typeof table.changeRequests.$inferSelect;
export type NewChangeRequest = Omit<ChangeRequestRow, "seq">;
export type RevisionRow = typeof table.changeRequestRevisions.$inferSelect;
export type EventRow = typeof table.changeRequestEvents.$inferSelect;

/** One change request with what it asks for and all that has happened to it, as one transaction saw them. */
export type ChangeRequestThere = {
  row: ChangeRequestRow;
  revision: RevisionRow;
  events: EventRow[];
  project: { id: string; key: string };
  /** Null: it changes what all environments have in common. */
  environment: EnvironmentName | null;
};

/** What a change request would change. */
export type Subject = { kind: table.DocumentKind; key: string };

export async function findChangeRequest(db: Database, id: string): Promise<ChangeRequestThere | null> {
  const { changeRequests, changeRequestRevisions, changeRequestEvents, environments, projects } = table;
  const [[row], [revision], events, [place]] = await answered(
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
          projectId: sql<string>`${projects.id}`.as("project_id"),
          project: sql<string>`${projects.key}`.as("project_key"),
          id: environments.id,
          environment: environments.key,
          location: environments.location,
        })
        .from(changeRequests)
        .innerJoin(projects, eq(projects.id, changeRequests.projectId))
        .leftJoin(environments, eq(environments.id, changeRequests.environmentId))
        .where(eq(changeRequests.id, id)),
    ]),
  );
  if (row === undefined || revision === undefined || place === undefined) return null;
  const { id: environmentId, environment, ...rest } = place;
  if (environmentId !== row.environmentId) return null;
  return {
    row,
    revision,
    events,
    project: { id: place.projectId, key: place.project },
    environment: environmentId === null || environment === null ? null : { ...rest, id: environmentId, environment },
  };
}

export type ChangeRequestFilter = {
  status?: table.ChangeRequestStatus[] | undefined;
  /** Keys; null for all. */
  environments: string[] | null;
  subject?: Subject | undefined;
  author?: string | undefined;
  /** Made by somebody else, and as it is not judged by this one. */
  waitingFor?: string | undefined;
  q?: string | undefined;
};

export type ListedChangeRequest = { row: ChangeRequestRow; environment: string | null };

export function listChangeRequests(
  db: Database,
  projectId: string,
  filter: ChangeRequestFilter,
  page: PageOf<"createdAt">,
): Promise<ListedChangeRequest[]> {
  const { changeRequests, changeRequestEvents, changeRequestSubjects: subjects, environments } = table;
  const { status, subject, author, waitingFor, q } = filter;
  // Numbered as they are made: one index serves both ways.
  const { after, orderBy } = inOrder({ createdAt: changeRequests.seq }, changeRequests.seq, page);
  const said = sql`SELECT 1 FROM ${changeRequestEvents} WHERE ${changeRequestEvents.changeRequestId} = ${changeRequests.id}
    AND ${changeRequestEvents.revision} = ${changeRequests.revision} AND ${changeRequestEvents.actorId} = ${waitingFor ?? ""}
    AND ${changeRequestEvents.kind} IN ('approve', 'request-changes')`;
  return db
    .select({ row: changeRequests, environment: environments.key })
    .from(changeRequests)
    .leftJoin(environments, eq(environments.id, changeRequests.environmentId))
    .where(
      and(
        eq(changeRequests.projectId, projectId),
        after,
        containsText(q, [changeRequests.title, changeRequests.description]),
        status && inArray(changeRequests.status, status),
        // A change request without an environment is of the whole project, and matches every environment.
        filter.environments === null
          ? undefined
          : sql`(${environments.key} IN ${listed(filter.environments)} OR ${changeRequests.environmentId} IS NULL)`,
        subject &&
          inArray(
            changeRequests.id,
            db
              .select({ id: subjects.changeRequestId })
              .from(subjects)
              .where(
                and(eq(subjects.projectId, projectId), eq(subjects.kind, subject.kind), eq(subjects.key, subject.key)),
              ),
          ),
        author === undefined ? undefined : eq(changeRequests.authorId, author),
        waitingFor === undefined
          ? undefined
          : sql`${changeRequests.authorId} <> ${waitingFor} AND NOT EXISTS (${said})`,
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

/** Those that somebody still has to decide on. */
export async function countUndecided(db: Database, projectId: string): Promise<number> {
  const { changeRequests } = table;
  return db.$count(
    changeRequests,
    and(eq(changeRequests.projectId, projectId), inArray(changeRequests.status, ["draft", "open", "failed"])),
  );
}

// As its index has it: a parameter would not be known to be the same.
const isOpen = sql`${table.changeRequests.status} = 'open'`;

/** In the order of their times. What is of a whole project waits in a line of the project's own. */
export const dueChangeRequests = (db: Database, now: number, limit: number) => {
  const { changeRequests: row } = table;
  const line: SQL<string> = sql`coalesce(${row.environmentId}, ${row.projectId})`;
  return db
    .select({ id: row.id, environmentId: line.as("line"), due: sql<number>`${row.publishAt}`.as("due") })
    .from(row)
    .where(and(isOpen, lte(row.publishAt, now)))
    .orderBy(asc(row.publishAt), asc(row.id))
    .limit(limit);
};

/** The time of the next one after `now`, null for none. */
export async function nextChangeRequest(db: Database, now: number): Promise<number | null> {
  const { changeRequests: row } = table;
  const [found] = await db
    .select({ at: min(row.publishAt) })
    .from(row)
    .where(and(isOpen, gt(row.publishAt, now)));
  return found?.at ?? null;
}

/** Beside everything: it is of no event. */
export async function countPublishAttempt(db: Database, id: string): Promise<void> {
  const { changeRequests: row } = table;
  await db
    .update(row)
    .set({ attempts: sql`${row.attempts} + 1` })
    .where(eq(row.id, id));
}

export const insertChangeRequest = (db: Database, row: NewChangeRequest): Statement =>
  db.insert(table.changeRequests).values(row);

/** With what it would change, in place of what the one before it would have. */
export const insertRevision = (db: Database, projectId: string, row: RevisionRow, subjects: Subject[]): Statement[] => {
  const { changeRequestId } = row;
  return [
    db.insert(table.changeRequestRevisions).values(row),
    db.delete(table.changeRequestSubjects).where(eq(table.changeRequestSubjects.changeRequestId, changeRequestId)),
    ...insertRows(
      db,
      table.changeRequestSubjects,
      subjects.map((one) => ({ ...one, projectId, changeRequestId })),
    ),
  ];
};

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

/** Of an environment, or, for null, what is left of a project. */
export const deleteChangeRequests = (
  db: Database,
  { projectId, environmentId }: { projectId: string; environmentId: string | null },
): Statement[] => {
  const { changeRequests, changeRequestEvents, changeRequestRevisions, changeRequestSubjects } = table;
  const theirs =
    environmentId === null ? eq(changeRequests.projectId, projectId) : eq(changeRequests.environmentId, environmentId);
  const ids = db.select({ id: changeRequests.id }).from(changeRequests).where(theirs);
  return [
    ...[changeRequestEvents, changeRequestRevisions, changeRequestSubjects].map((one) =>
      db.delete(one).where(inArray(one.changeRequestId, ids)),
    ),
    db.delete(changeRequests).where(theirs),
  ];
};
