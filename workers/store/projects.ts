import { and, asc, eq, lte, sql } from "drizzle-orm";
import { deleteChangeRequests } from "./approvals/change-requests.ts";
import type { EnvironmentName } from "./credentials.ts";
import { answered, type Database, type Statement } from "./database.ts";
import type { FlagRow } from "./documents.ts";
import type { Head } from "./outbox/change.ts";
import { containsText, type DocumentOrder, inOrder, type PageOf } from "./page.ts";
import * as table from "./schema/index.ts";

export type ProjectRow = typeof table.projects.$inferSelect;
export type EnvironmentRow = typeof table.environments.$inferSelect;

/** What a project-level edit is validated against, read at once: the set of environments, their heads, and one flag. */
export type ProjectState = { project: ProjectRow; environments: EnvironmentRow[]; flag: FlagRow | undefined };

export const findProject = (db: Database, key: string): Promise<ProjectRow | undefined> =>
  db.query.projects.findFirst({ where: eq(table.projects.key, key) });

export async function projectState(db: Database, key: string, flagKey = ""): Promise<ProjectState | null> {
  const id = db.select({ id: table.projects.id }).from(table.projects).where(eq(table.projects.key, key));
  const [projects, environments, flags] = await answered(
    db.batch([
      db.select().from(table.projects).where(eq(table.projects.key, key)),
      db
        .select()
        .from(table.environments)
        .where(eq(table.environments.projectId, sql`(${id})`))
        .orderBy(asc(table.environments.key)),
      db
        .select()
        .from(table.flags)
        .where(and(eq(table.flags.projectId, sql`(${id})`), eq(table.flags.key, flagKey))),
    ]),
  );
  const project = projects[0];
  return project === undefined ? null : { project, environments, flag: flags[0] };
}

export const headOf = (environment: EnvironmentRow): Head => ({
  environmentId: environment.id,
  version: environment.version,
  changeId: environment.changeId,
});

export const nameOf = (project: ProjectRow, environment: EnvironmentRow): EnvironmentName => ({
  id: environment.id,
  projectId: project.id,
  project: project.key,
  environment: environment.key,
  location: environment.location,
});

/** `visible`: the keys that the caller may see, null for all. */
export function listProjects(
  db: Database,
  visible: string[] | null,
  q: string | undefined,
  page: PageOf<DocumentOrder>,
) {
  const { key, name, description } = table.projects;
  const { after, orderBy } = inOrder(table.projects, key, page);
  return db
    .select()
    .from(table.projects)
    .where(
      and(
        after,
        visible === null ? undefined : sql`${key} IN (SELECT value FROM json_each(${JSON.stringify(visible)}))`,
        containsText(q, [key, name, description]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

/** `visible`: the keys of the environments that the caller may see, null for all. */
export function listEnvironments(
  db: Database,
  projectId: string,
  visible: string[] | null,
  q: string | undefined,
  page: PageOf<DocumentOrder>,
) {
  const { key, name } = table.environments;
  const { after, orderBy } = inOrder(table.environments, key, page);
  return db
    .select()
    .from(table.environments)
    .where(
      and(
        eq(table.environments.projectId, projectId),
        after,
        visible === null ? undefined : sql`${key} IN (SELECT value FROM json_each(${JSON.stringify(visible)}))`,
        containsText(q, [key, name]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

export const insertProject = (db: Database, row: ProjectRow): Statement => db.insert(table.projects).values(row);

/** With its flags, and without environments. The edit that deletes it stays, for those who wrote at the same time. */
export const deleteProject = (db: Database, { id, version }: ProjectRow): Statement[] => [
  db.delete(table.flags).where(eq(table.flags.projectId, id)),
  db.delete(table.flagTags).where(eq(table.flagTags.projectId, id)),
  db.delete(table.codeReferences).where(eq(table.codeReferences.projectId, id)),
  db.delete(table.codeRepositories).where(eq(table.codeRepositories.projectId, id)),
  db.delete(table.policies).where(eq(table.policies.projectId, id)),
  db.delete(table.policyEdits).where(eq(table.policyEdits.projectId, id)),
  ...deleteChangeRequests(db, { projectId: id, environmentId: null }),
  db
    .delete(table.projectEdits)
    .where(and(eq(table.projectEdits.projectId, id), lte(table.projectEdits.version, version))),
  db.delete(table.projects).where(eq(table.projects.id, id)),
];

export const updateProject = (db: Database, id: string, fields: Partial<ProjectRow>): Statement =>
  db.update(table.projects).set(fields).where(eq(table.projects.id, id));
