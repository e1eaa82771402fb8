import { and, eq } from "drizzle-orm";
import type { Database, Statement } from "./database.ts";
import type { SdkKeyRow } from "./documents.ts";
import { type CredentialFilter, type CredentialOrder, containsText, inOrder, inState, type PageOf } from "./page.ts";
import * as table from "./schema/index.ts";

export const findSdkKey = (db: Database, environmentId: string, id: string): Promise<SdkKeyRow | undefined> =>
  db.query.sdkKeys.findFirst({ where: and(eq(table.sdkKeys.environmentId, environmentId), eq(table.sdkKeys.id, id)) });

export function listSdkKeys(
  db: Database,
  environmentId: string,
  { q, state, now, kind }: CredentialFilter & { kind: table.KeyKind | undefined },
  page: PageOf<CredentialOrder>,
) {
  const { sdkKeys } = table;
  const { after, orderBy } = inOrder(sdkKeys, sdkKeys.id, page);
  return db
    .select()
    .from(sdkKeys)
    .where(
      and(
        eq(sdkKeys.environmentId, environmentId),
        after,
        kind && eq(sdkKeys.kind, kind),
        inState(state, sdkKeys, now),
        containsText(q, [sdkKeys.name, sdkKeys.shown]),
      ),
    )
    .orderBy(...orderBy)
    .limit(page.limit);
}

export const insertSdkKey = (db: Database, row: SdkKeyRow): Statement => db.insert(table.sdkKeys).values(row);

export const updateSdkKey = (db: Database, id: string, fields: Partial<SdkKeyRow>): Statement =>
  db.update(table.sdkKeys).set(fields).where(eq(table.sdkKeys.id, id));
