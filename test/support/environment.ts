/** An environment that is created through the store, for tests that need a hub and no API. */

import { env } from "cloudflare:workers";
import type { Flag } from "@bunting/core";
import { newId } from "../../workers/platform/random-id.ts";
import { type Database, openDatabase } from "../../workers/store/database.ts";
import type { Change, Documents, Head } from "../../workers/store/outbox/change.ts";
import { commit } from "../../workers/store/outbox/commit.ts";
import * as table from "../../workers/store/schema/index.ts";

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

/** Commits documents on top of a head, without a publish call to the hub. */
export async function commitDocuments(
  head: Head,
  documents: Partial<Documents>,
): Promise<{ change: Change; head: Head }> {
  const [change] = await commit(db, { statements: [], edits: [{ head, documents }], audit: [], now: Date.now() });
  if (change === undefined) throw new Error("nothing committed");
  return { change, head: { environmentId: head.environmentId, version: change.version, changeId: change.id } };
}

/** Inserts flags that are off, in one batch, without a publish call to the hub. */
export async function insertFlags({ environmentId }: Head, keys: string[]): Promise<void> {
  const all = JSON.stringify(keys);
  const now = Date.now();
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO flags (id, project_id, key, name, type, variations, tags, temporary, client_side, bytes, version, created_at, updated_at)
       SELECT ?1 || '-' || value, project_id, value, value, 'boolean',
         '[{"key":"on","value":true},{"key":"off","value":false}]', '[]', 0, 0, 400, 1, ?2, ?2
       FROM json_each(?3), environments WHERE environments.id = ?1`,
    ).bind(environmentId, now, all),
    env.DB.prepare(
      `INSERT INTO flag_configurations
       SELECT ?1, ?1 || '-' || value, 1, 0, 'off', 0, ?2, ?2, '[]', '[]', '[]', '{"variation":"on"}' FROM json_each(?3)`,
    ).bind(environmentId, now, all),
  ]);
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
