/** An environment as the store makes it, for tests that need a hub and no API. */

import { env } from "cloudflare:workers";
import type { Flag } from "@bunting/core";
import { type Change, commit, type Documents, type Head } from "../../workers/store/changes.ts";
import { type Database, newId, openDatabase } from "../../workers/store/database.ts";
import * as table from "../../workers/store/schema.ts";

export const db: Database = openDatabase(env.DB);

export async function newEnvironment(): Promise<Head> {
  const id = newId("env");
  const changeId = newId("chg");
  const now = Date.now();
  await db.insert(table.environments).values({
    id,
    projectId: newId("prj"),
    key: id.slice(4),
    name: "Test",
    version: 0,
    changeId,
    createdAt: now,
    updatedAt: now,
  });
  await db.insert(table.changes).values({
    environmentId: id,
    version: 0,
    id: changeId,
    previousId: "",
    documents: '{"flags":{},"segments":{},"keys":{}}',
    createdAt: now,
  });
  return { environmentId: id, version: 0, changeId };
}

/** Commits documents on top of a head, without telling the hub. */
export async function commitDocuments(
  head: Head,
  documents: Partial<Documents>,
): Promise<{ change: Change; head: Head }> {
  const [change] = await commit(db, { statements: [], edits: [{ head, documents }], audit: [], now: Date.now() });
  if (change === undefined) throw new Error("nothing committed");
  return { change, head: { environmentId: head.environmentId, version: change.version, changeId: change.id } };
}

export function flag(key: string, fields: Partial<Flag> = {}): Flag {
  return {
    key,
    version: 1,
    type: "boolean",
    on: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
    offVariation: "off",
    prerequisites: [],
    targets: [],
    rules: [],
    fallthrough: { variation: "on" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
    ...fields,
  };
}
