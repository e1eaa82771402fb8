import { and, asc, eq, gt } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { SegmentRow } from "./documents.ts";
import type { PageOf } from "./projects.ts";
import * as table from "./schema.ts";

const at = (environmentId: string, key: string) =>
  and(eq(table.segments.environmentId, environmentId), eq(table.segments.key, key));

export const findSegment = (db: Database, environmentId: string, key: string): Promise<SegmentRow | undefined> =>
  db.query.segments.findFirst({ where: at(environmentId, key) });

export function listSegments(db: Database, environmentId: string, { limit, after }: PageOf): Promise<SegmentRow[]> {
  return db
    .select()
    .from(table.segments)
    .where(
      and(
        eq(table.segments.environmentId, environmentId),
        after === undefined ? undefined : gt(table.segments.key, after),
      ),
    )
    .orderBy(asc(table.segments.key))
    .limit(limit);
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
