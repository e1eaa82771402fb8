/** Where flags are named in people's code, as CI last saw each repository. */
import { and, asc, eq, gt, sql } from "drizzle-orm";
import type { Database, Statement } from "../database.ts";
import { containsText } from "../page.ts";
import * as table from "../schema/index.ts";

export type RepositoryRow = typeof table.codeRepositories.$inferSelect;
export type CodeReference = { flag: string; path: string; line: number; snippet?: string | undefined };

const at = (projectId: string, repository: string) =>
  and(eq(table.codeRepositories.projectId, projectId), eq(table.codeRepositories.repository, repository));

export async function findRepository(db: Database, projectId: string, repository: string) {
  const [[row], [counted]] = await db.batch([
    db.select().from(table.codeRepositories).where(at(projectId, repository)),
    db
      .select({ count: sql<number>`count(*)` })
      .from(table.codeRepositories)
      .where(eq(table.codeRepositories.projectId, projectId)),
  ]);
  return { row, repositories: counted?.count ?? 0 };
}

/** The whole of a repository: what is not in it any more is forgotten. */
export function replaceReferences(db: Database, row: RepositoryRow, references: CodeReference[]): Statement[] {
  const { codeRepositories, codeReferences } = table;
  const { projectId, repository, ...fields } = row;
  return [
    db
      .insert(codeRepositories)
      .values(row)
      .onConflictDoUpdate({ target: [codeRepositories.projectId, codeRepositories.repository], set: fields }),
    db
      .delete(codeReferences)
      .where(and(eq(codeReferences.projectId, projectId), eq(codeReferences.repository, repository))),
    db.insert(codeReferences).select(
      sql`SELECT NULL, ${projectId}, ${repository}, value ->> 'flag', value ->> 'path', value ->> 'line', value ->> 'snippet'
          FROM json_each(${JSON.stringify(references)})`,
    ),
  ];
}

/** Keys in `references` that are no flag of the project, the first hundred. */
export async function unknownFlags(db: Database, projectId: string, keys: string[]): Promise<string[]> {
  const rows = await db.all<{ key: string }>(
    sql`SELECT value AS key FROM json_each(${JSON.stringify(keys)})
      WHERE value NOT IN (SELECT key FROM flags WHERE project_id = ${projectId} AND flags.key = value) LIMIT 100`,
  );
  return rows.map(({ key }) => key);
}

export type ReferenceFilter = { flag?: string | undefined; repository?: string | undefined; q?: string | undefined };

export function listReferences(
  db: Database,
  projectId: string,
  { flag, repository, q }: ReferenceFilter,
  { limit, after }: { limit: number; after: number },
) {
  const { codeRepositories, codeReferences } = table;
  return db
    .select({
      id: codeReferences.id,
      flag: codeReferences.flagKey,
      repository: codeReferences.repository,
      path: codeReferences.path,
      line: codeReferences.line,
      snippet: codeReferences.snippet,
      commit: codeRepositories.commit,
      branch: codeRepositories.branch,
      uploadedAt: codeRepositories.uploadedAt,
    })
    .from(codeReferences)
    .innerJoin(
      codeRepositories,
      and(
        eq(codeRepositories.projectId, codeReferences.projectId),
        eq(codeRepositories.repository, codeReferences.repository),
      ),
    )
    .where(
      and(
        eq(codeReferences.projectId, projectId),
        flag === undefined ? undefined : eq(codeReferences.flagKey, flag),
        repository === undefined ? undefined : eq(codeReferences.repository, repository),
        containsText(q, [codeReferences.path, codeReferences.snippet]),
        gt(codeReferences.id, after),
      ),
    )
    .orderBy(asc(codeReferences.id))
    .limit(limit);
}
