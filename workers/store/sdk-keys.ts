import { and, asc, eq, gt } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { SdkKeyRow } from "./documents.ts";
import type { PageOf } from "./projects.ts";
import * as table from "./schema.ts";

export const findSdkKey = (db: Database, environmentId: string, id: string): Promise<SdkKeyRow | undefined> =>
  db.query.sdkKeys.findFirst({ where: and(eq(table.sdkKeys.environmentId, environmentId), eq(table.sdkKeys.id, id)) });

export function listSdkKeys(db: Database, environmentId: string, { limit, after }: PageOf): Promise<SdkKeyRow[]> {
  return db
    .select()
    .from(table.sdkKeys)
    .where(
      and(
        eq(table.sdkKeys.environmentId, environmentId),
        after === undefined ? undefined : gt(table.sdkKeys.id, after),
      ),
    )
    .orderBy(asc(table.sdkKeys.id))
    .limit(limit);
}

export const insertSdkKey = (db: Database, row: SdkKeyRow): Statement => db.insert(table.sdkKeys).values(row);

export const revokeSdkKey = (db: Database, id: string, now: number): Statement =>
  db.update(table.sdkKeys).set({ revokedAt: now }).where(eq(table.sdkKeys.id, id));
