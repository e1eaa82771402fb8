/** D1's mirror of kills and restores: for reading and for the audit log. Late or twice changes nothing. */
import { and, eq, gt, lt, sql } from "drizzle-orm";
import { newId } from "../platform/random-id.ts";
import { flagsReached } from "./approvals/policies.ts";
import { isMet } from "./approvals/policy.ts";
import { type Database, type Statement, transaction } from "./database.ts";
import type { AuditEntry } from "./outbox/change.ts";
import * as table from "./schema/index.ts";

export type MirroredKill = typeof table.kills.$inferInsert;

/** The last kill or restore of each flag, where it came after `seq`. */
export const killsAfter = (db: Database, environmentId: string, seq: number) =>
  db
    .select()
    .from(table.kills)
    .where(and(eq(table.kills.environmentId, environmentId), gt(table.kills.seq, seq)));

/** A kill is never held up by a policy; of a flag under one it is reviewed afterwards, which is written with it. */
export async function mirrorKill(db: Database, kill: MirroredKill, audit: AuditEntry): Promise<void> {
  const { environmentId: _, flagKey: __, ...state } = kill;
  const review = kill.killed ? await reviewOf(db, kill, audit) : [];
  await transaction(db, [
    db
      .insert(table.kills)
      .values(kill)
      .onConflictDoUpdate({
        target: [table.kills.environmentId, table.kills.flagKey],
        set: state,
        setWhere: lt(table.kills.seq, sql`excluded.seq`),
      }),
    db.insert(table.audit).values(audit).onConflictDoNothing({ target: table.audit.mirrorId }),
    ...review,
  ]);
}

/** Everybody is affected by a kill. */
const EVERYBODY = 100_000;

async function reviewOf(
  db: Database,
  { environmentId, flagKey, seq, by, at, reason }: MirroredKill,
  audit: AuditEntry,
): Promise<Statement[]> {
  const { environments, policies } = table;
  const rows = await db
    .select({ policy: policies, environment: environments.key })
    .from(environments)
    .innerJoin(policies, eq(policies.projectId, environments.projectId))
    .where(and(eq(environments.id, environmentId), eq(policies.enabled, true)));
  const [first] = rows;
  if (first === undefined) return [];
  const { projectId } = first.policy;
  const reached = await flagsReached(db, { id: environmentId, projectId }, { flags: [flagKey], segments: [] });
  const affected = { environment: first.environment, tags: reached.flatMap(({ tags }) => tags), share: EVERYBODY };
  const met = rows.filter(({ policy }) => isMet(policy, affected)).map(({ policy }) => policy.key);
  if (met.length === 0) return [];
  const id = newId("rev");
  const killed = { killedById: audit.tokenId ?? "", killedBy: by, killedAt: at, reason };
  return [
    db
      .insert(table.killReviews)
      .values({ id, projectId, environmentId, flagKey, kill: seq, ...killed, policies: met, version: 1 })
      .onConflictDoNothing({ target: [table.killReviews.environmentId, table.killReviews.kill] }),
    db
      .insert(table.audit)
      .values({
        ...audit,
        mirrorId: `${audit.mirrorId}/review`,
        action: "kill-review.open",
        resourceType: "kill-review",
        key: id,
        changes: { flag: { to: flagKey }, policies: { to: met } },
      })
      .onConflictDoNothing({ target: table.audit.mirrorId }),
  ];
}
