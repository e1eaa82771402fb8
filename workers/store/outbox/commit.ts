/** The outbox: what a write commits beside its rows, and what the hub reads to catch up. */
import type { Flag, Segment } from "@bunting/core";
import type { MemberChange } from "@bunting/core/wire";
import { and, asc, eq, gt, gte, lte, sql } from "drizzle-orm";
import { RACES_MS } from "../../platform/deadline.ts";
import { type Database, newId, type Statement, transaction } from "../database.ts";
import { inPieces, insertRows } from "../rows.ts";
import * as table from "../schema/tables.ts";
import { documentSizes, isTooLarge, newSum, RulesetTooLarge, sizeStatements, wouldBe } from "./ruleset-size.ts";

/** What the data plane needs of an SDK key. Published by the hub to Workers, never to clients. */
export type KeyGrant = { id: string; kind: table.KeyKind; origins: string[]; expiresAt: number | null };

/** Whole documents by key, keys by hash; null means gone. */
export type Documents = {
  flags: Record<string, Flag | null>;
  segments: Record<string, Segment | null>;
  keys: Record<string, KeyGrant | null>;
  /** Of big segments, after `segments`, whose `big` has empty lists here: the hub keeps them. */
  members?: Record<string, MembersSince>;
};

/** Part of the filter from `generation` on, and said beside it until then. */
export type MembersSince = MemberChange & { generation: number };

export type Change = Documents & { environmentId: string; version: number; id: string; previousId: string };

/** What a write was validated against: the last change of one environment. */
export type Head = { environmentId: string; version: number; changeId: string };

/** `undo`: by document, what it took away. */
export type AuditEntry = Omit<typeof table.audit.$inferInsert, "id"> & { undo?: UndoOf[] };
export type UndoOf = Omit<typeof table.auditUndo.$inferInsert, "auditId">;
export type IdempotencyRecord = typeof table.idempotency.$inferInsert;

export type Write = {
  /** The rows themselves. */
  statements: Statement[];
  /** One for each environment whose documents change. */
  edits: { head: Head; documents: Partial<Documents> }[];
  /** The project's version that was read, where the write depends on the set of environments or flags. */
  project?: { id: string; version: number };
  audit: AuditEntry[];
  idempotency?: IdempotencyRecord;
  /** What makes an environment's documents more than this is refused. Left out for what nobody could be told of. */
  maxRulesetBytes?: number;
  now: number;
};

/** Somebody else's write landed since this one was validated: validate again. Nothing of this one was written. */
export class LostRace extends Error {
  override name = "LostRace";
}

/** Another request with the same Idempotency-Key was first. Nothing was written. */
export class AlreadyAnswered extends Error {
  override name = "AlreadyAnswered";
}

/**
 * Rows, audit, idempotency record and outbox in one transaction: wholly there or not at all.
 * @throws LostRace, AlreadyAnswered, RulesetTooLarge: then nothing of it was written.
 */
export async function commit(db: Database, write: Write): Promise<Change[]> {
  const max = write.maxRulesetBytes ?? Number.MAX_SAFE_INTEGER;
  const changes = write.edits.map(({ head, documents }) => ({
    environmentId: head.environmentId,
    version: head.version + 1,
    id: newId("chg"),
    previousId: head.changeId,
    flags: documents.flags ?? {},
    segments: documents.segments ?? {},
    keys: documents.keys ?? {},
    ...(documents.members && { members: documents.members }),
  }));
  const locks: Statement[] = [];
  const heads: Statement[] = [];
  if (write.project !== undefined) {
    const { id, version } = write.project;
    locks.push(db.insert(table.projectEdits).values({ projectId: id, version: version + 1, createdAt: write.now }));
    heads.push(
      db
        .update(table.projects)
        .set({ version: version + 1 })
        .where(eq(table.projects.id, id)),
    );
  }
  for (const change of changes) {
    const sizes = documentSizes(change);
    const { environmentId, version, id: changeId } = change;
    locks.push(
      db.insert(table.changes).values({
        environmentId: change.environmentId,
        version: change.version,
        id: change.id,
        previousId: change.previousId,
        documents: JSON.stringify(documentsOf(change)),
        createdAt: write.now,
      }),
    );
    heads.push(
      db
        .update(table.environments)
        .set({ version, changeId, ...(sizes.length > 0 && { rulesetBytes: newSum(environmentId, sizes, max) }) })
        .where(eq(table.environments.id, environmentId)),
      ...sizeStatements(db, environmentId, sizes),
    );
  }
  // Heads after rows: the first change of an environment travels with the row of that environment.
  const statements = [...locks, ...write.statements, ...heads];
  const [entry, ...more] = write.audit;
  if (entry !== undefined) statements.push(...(more.length > 0 ? manyEntries : oneEntry)(db, [entry, ...more]));
  if (write.idempotency !== undefined) statements.push(db.insert(table.idempotency).values(write.idempotency));
  try {
    await transaction(db, statements);
  } catch (error) {
    const text = allMessages(error);
    if (/UNIQUE constraint failed: idempotency\./.test(text)) throw new AlreadyAnswered();
    // A lock, or a row whose key was free when this write was validated.
    if (
      /UNIQUE constraint failed|NOT NULL constraint failed: (api_tokens|kill_reviews|schedules|ramps)\.version/.test(
        text,
      )
    )
      throw new LostRace();
    if (isTooLarge(text)) {
      const each = await Promise.all(changes.map((one) => wouldBe(db, one.environmentId, documentSizes(one), max)));
      const environments = each.filter((one) => one !== null);
      throw environments.length > 0 ? new RulesetTooLarge(environments) : new LostRace();
    }
    throw error;
  }
  return changes;
}

function oneEntry(db: Database, [entry]: [AuditEntry, ...AuditEntry[]]): Statement[] {
  const { undo = [], ...row } = entry;
  return [
    // What a Durable Object mirrors comes alone, and may come twice.
    db.insert(table.audit).values(row).onConflictDoNothing({ target: table.audit.mirrorId }),
    // Within the transaction the newest entry is this one.
    ...undo.map((one) =>
      db
        .insert(table.auditUndo)
        .select(
          sql`SELECT max(id), ${one.kind}, ${one.key}, ${one.environment}, ${JSON.stringify(one.undo)} FROM audit`,
        ),
    ),
  ];
}

/** In statements for all of them. Within the transaction the newest entries are these, in their order. */
function manyEntries(db: Database, entries: AuditEntry[]): Statement[] {
  const undone = entries.flatMap(({ undo = [] }, index) =>
    undo.map((one) => ({ ...one, undo: JSON.stringify(one.undo), back: entries.length - 1 - index })),
  );
  return [
    ...insertRows(
      db,
      table.audit,
      entries.map(({ undo: _, ...row }) => row),
    ),
    ...inPieces(undone).map((piece) =>
      db.insert(table.auditUndo).select(
        sql`SELECT (SELECT max(id) FROM audit) - (value ->> 'back'), value ->> 'kind', value ->> 'key',
          value ->> 'environment', value ->> 'undo' FROM json_each(${piece})`,
      ),
    ),
  ];
}

function documentsOf({ flags, segments, keys, members }: Documents): Documents {
  return { flags, segments, keys, ...(members && { members }) };
}

function allMessages(error: unknown): string {
  const messages: string[] = [];
  for (let cause = error; cause instanceof Error; cause = cause.cause) messages.push(cause.message);
  return messages.join("\n");
}

/** Full jitter: those who have lost a race together do not run the next one together. */
const RACE_PAUSE_MS = 10;
const MAX_RACE_PAUSE_MS = 1_000;

/** Runs a read–validate–commit again, from the read, each time it lost a race: so often and so long, then it has lost. */
export async function retryingLostRaces<T>(attempt: () => Promise<T>, now: () => number = Date.now): Promise<T> {
  const begunAt = now();
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof LostRace) || tries >= 60 || now() - begunAt > RACES_MS) throw error;
      await new Promise((resolve) =>
        setTimeout(resolve, Math.random() * Math.min(RACE_PAUSE_MS * 2 ** tries, MAX_RACE_PAUSE_MS)),
      );
    }
  }
}

/** Changes at and after `version`, oldest first: the one at `version` tells whether history is still the same. */
export async function changesFrom(
  db: Database,
  environmentId: string,
  version: number,
  limit: number,
): Promise<Change[]> {
  const rows = await db
    .select()
    .from(table.changes)
    .where(and(eq(table.changes.environmentId, environmentId), gte(table.changes.version, version)))
    .orderBy(asc(table.changes.version))
    .limit(limit);
  return rows.map(({ documents, createdAt: _, ...row }) => ({ ...row, ...(JSON.parse(documents) as Documents) }));
}

/** An environment's last change, and the last kill or restore that D1 was told of: 0 for none. */
export type Heads = { version: number; changeId: string; killSeq: number };

export async function findHeads(db: Database, environmentId: string): Promise<Heads | null> {
  const [row] = await db
    .select({ version: table.environments.version, changeId: table.environments.changeId, killSeq: lastKill })
    .from(table.environments)
    .where(eq(table.environments.id, environmentId));
  return row ?? null;
}

/** Kills are mirrored in order: whatever comes before the last one is there too. */
export const lastKill =
  sql<number>`(SELECT coalesce(max(seq), 0) FROM kills WHERE kills.environment_id = environments.id)`.as("kill_seq");

/** One that was overtaken on its way changes nothing: revisions never go back. */
export async function markPublished(
  db: Database,
  environmentId: string,
  version: number,
  revision: number,
): Promise<void> {
  await db
    .update(table.environments)
    .set({ publishedVersion: version, publishedRevision: revision })
    .where(and(eq(table.environments.id, environmentId), lte(table.environments.publishedRevision, revision)));
}

/** Environments with committed changes that their hub has not published, or not told us so. */
export async function laggingEnvironments(db: Database, limit: number): Promise<string[]> {
  const rows = await db
    .select({ id: table.environments.id })
    .from(table.environments)
    .where(gt(table.environments.version, table.environments.publishedVersion))
    // So that some that cannot be repaired never stand in the way of the others.
    .orderBy(sql`random()`)
    .limit(limit);
  return rows.map((row) => row.id);
}

/** Rows a statement deletes at most: what is left goes a minute later. */
const TRIM_AT_ONCE = 5_000;

/**
 * A change goes once its hub has said that it published a later one, and it is older than `before`. So the newest always
 * stays, which the hub compares its lineage with; whatever is not published stays too. History is in R2.
 */
export async function trimOutbox(db: Database, before: number): Promise<void> {
  await db.run(sql`DELETE FROM changes WHERE rowid IN (
    SELECT changes.rowid FROM changes JOIN environments ON environments.id = changes.environment_id
    WHERE changes.created_at < ${before} AND changes.version < environments.published_version LIMIT ${TRIM_AT_ONCE})`);
}

/** Locks and nothing else: all but the newest of each project go. */
export async function trimProjectEdits(db: Database, before: number): Promise<void> {
  await db.run(sql`DELETE FROM project_edits WHERE rowid IN (
    SELECT project_edits.rowid FROM project_edits JOIN projects ON projects.id = project_edits.project_id
    WHERE project_edits.created_at < ${before} AND project_edits.version < projects.version LIMIT ${TRIM_AT_ONCE})`);
}
