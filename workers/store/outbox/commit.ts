/** How a write lands: its rows, audit entries, idempotency record and outbox row in one transaction, or none of them. */
import { eq, sql } from "drizzle-orm";
import { RACES_MS } from "../../platform/deadline.ts";
import { newId } from "../../platform/random-id.ts";
import { type Database, type Statement, transaction } from "../database.ts";
import { inPieces, insertRows } from "../rows.ts";
import * as table from "../schema/index.ts";
import type { AuditEntry, Change, Documents, Head, IdempotencyRecord } from "./change.ts";
import { documentSizes, isTooLarge, newSum, RulesetTooLarge, sizeStatements, wouldBe } from "./ruleset-size.ts";

export type Write = {
  /** The rows themselves. */
  statements: Statement[];
  /** One for each environment whose documents change. */
  edits: { head: Head; documents: Partial<Documents> }[];
  /** The project's version that was read, where the write depends on the set of environments or flags. */
  project?: { id: string; version: number };
  audit: AuditEntry[];
  idempotency?: IdempotencyRecord;
  /** A write is refused if an environment's documents would exceed this. Left out for writes that have no caller. */
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
