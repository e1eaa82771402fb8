import { and, eq } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { SegmentRow } from "./documents.ts";
import { containsText, type DocumentOrder, inOrder, type PageOf } from "./page.ts";
import * as table from "./schema/index.ts";

const at = (environmentId: string, key: string) =>
  and(eq(table.segments.environmentId, environmentId), eq(table.segments.key, key));

export const findSegment = (db: Database, environmentId: string, key: string): Promise<SegmentRow | undefined> =>
  db.query.segments.findFirst({ where: at(environmentId, key) });

export function listSegments(db: Database, environmentId: string, q: string | undefined, page: PageOf<DocumentOrder>) {
  const { key, name, description } = table.segments;
  const { after, orderBy } = inOrder(table.segments, key, page);
  return db
    .select()
    .from(table.segments)
    .where(and(eq(table.segments.environmentId, environmentId), after, containsText(q, [key, name, description])))
    .orderBy(...orderBy)
    .limit(page.limit);
}

export async function segmentKeys(db: Database, environmentId: string): Promise<string[]> {
  const { key } = table.segments;
  const rows = await db.select({ key }).from(table.segments).where(eq(table.segments.environmentId, environmentId));
  return rows.map((row) => row.key);
}

export const insertSegment = (db: Database, row: SegmentRow): Statement => db.insert(table.segments).values(row);

export const updateSegment = (
  db: Database,
  environmentId: string,
  key: string,
  fields: Partial<SegmentRow>,
): Statement => db.update(table.segments).set(fields).where(at(environmentId, key));

export const deleteSegment = (db: Database, environmentId: string, key: string): Statement =>
  db.delete(table.segments).where(at(environmentId, key));
