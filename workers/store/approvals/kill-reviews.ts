import { and, eq, isNotNull, isNull, sql } from "drizzle-orm";
import type { Database, Statement } from "../database.ts";
import { containsText, inOrder, type PageOf } from "../page.ts";
import { listed } from "../rows.ts";
import * as table from "../schema/index.ts";

export type KillReviewRow = typeof table.killReviews.$inferSelect;
export type KillReviewThere = { row: KillReviewRow; project: string; environment: string };

const select = (db: Database) =>
  db
    .select({ row: table.killReviews, project: table.projects.key, environment: table.environments.key })
    .from(table.killReviews)
    .innerJoin(table.environments, eq(table.environments.id, table.killReviews.environmentId))
    .innerJoin(table.projects, eq(table.projects.id, table.killReviews.projectId));

export async function findKillReview(db: Database, id: string): Promise<KillReviewThere | undefined> {
  const [found] = await select(db).where(eq(table.killReviews.id, id));
  return found;
}

export type KillReviewFilter = {
  open: boolean | undefined;
  /** Keys; null for all. */
  environments: string[] | null;
  flag: string | undefined;
  q: string | undefined;
};

export function listKillReviews(
  db: Database,
  projectId: string,
  { open, environments, flag, q }: KillReviewFilter,
  page: PageOf<"createdAt">,
): Promise<KillReviewThere[]> {
  const { killReviews } = table;
  // Numbered as they are opened: one index serves both ways.
  const { after, orderBy } = inOrder({ createdAt: killReviews.seq }, killReviews.seq, page);
  return select(db)
    .where(
      and(
        eq(killReviews.projectId, projectId),
        open === undefined ? undefined : (open ? isNull : isNotNull)(killReviews.closedAt),
        environments === null ? undefined : sql`${table.environments.key} IN ${listed(environments)}`,
        flag === undefined ? undefined : eq(killReviews.flagKey, flag),
        after,
        containsText(q, [killReviews.flagKey, killReviews.reason, killReviews.killedBy]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

/** Refuses its transaction where somebody else has closed it since `row` was read. */
export function closeKillReview(
  db: Database,
  row: KillReviewRow,
  closed: Pick<KillReviewRow, "closedById" | "closedBy" | "closedAt" | "comment">,
): Statement {
  const version = sql`CASE version WHEN ${row.version} THEN ${row.version + 1} END`;
  return db
    .update(table.killReviews)
    .set({ ...closed, version })
    .where(eq(table.killReviews.id, row.id));
}
