/** What each person has moved of a document without anybody's approval, lately. */
import { and, eq, gt, lt, sql } from "drizzle-orm";
import type { Database, Statement } from "../database.ts";
import * as table from "../schema/index.ts";

const { movedShares } = table;

/** `share` is in thousandths of a percent; `listed` are users that a flag or a segment lists one by one. */
export type Moved = { share: number; listed: number };
type Document = { environmentId: string; kind: table.DocumentKind; key: string };

/** All that one token has moved of a document since then. */
export async function movedSince(
  db: Database,
  { environmentId, kind, key }: Document,
  tokenId: string,
  since: number,
): Promise<Moved> {
  const [row] = await db
    .select({
      share: sql<number>`coalesce(sum(${movedShares.share}), 0)`,
      listed: sql<number>`coalesce(sum(${movedShares.listed}), 0)`,
    })
    .from(movedShares)
    .where(
      and(
        eq(movedShares.environmentId, environmentId),
        eq(movedShares.kind, kind),
        eq(movedShares.key, key),
        eq(movedShares.tokenId, tokenId),
        gt(movedShares.movedAt, since),
      ),
    );
  return row ?? { share: 0, listed: 0 };
}

export const insertMoved = (
  db: Database,
  document: Document,
  tokenId: string,
  moved: Moved,
  movedAt: number,
): Statement => db.insert(movedShares).values({ ...document, tokenId, ...moved, movedAt });

export async function trimMovedShares(db: Database, before: number): Promise<void> {
  await db.delete(movedShares).where(lt(movedShares.movedAt, before));
}
