/** What a schedule does: tried when it is made, and done when its time has come, or it says why not. */

import type { Env } from "../../../env.ts";
import { errorText } from "../../../platform/error-text.ts";
import { conflict } from "../../../platform/problem.ts";
import type { EnvironmentName } from "../../../store/credentials.ts";
import type { Database } from "../../../store/database.ts";
import {
  countScheduleAttempt,
  findSchedule,
  type ScheduleRow,
  updateSchedule,
} from "../../../store/planned/schedules.ts";
import type { PlanFailure, ScheduleStatus } from "../../../store/schema/index.ts";
import { flagThere, planTargeting, type TargetingEdit } from "../../flags/targeting-edit.ts";
import { proposedBy, requireApproval } from "../../write/approval.ts";
import type { Audited, Plan } from "../../write/plan.ts";
import { NO_APPROVAL, previewOf } from "../../write/preview.ts";
import { requireRoom, writeAs } from "../../write/write.ts";
import { failureOf, NOBODY, plannedBy, requireAuthor } from "../planned.ts";

/** What it would do now, as nobody in particular: nobody asks when it is done. @throws ApiError as the edit itself would. */
export async function rehearsed(
  db: Database,
  environment: EnvironmentName,
  flag: string,
  edit: TargetingEdit,
  now: number,
  tokenId: string | null,
) {
  const { flag: row } = await flagThere(db, environment, flag);
  const plan = await planTargeting(db, environment, flag, edit, now);
  await requireApproval(db, proposedBy(plan.write), null, { tokenId, at: now });
  await requireRoom(db, plan.write?.edits);
  const preview = await previewOf(db, plan, NO_APPROVAL);
  return { flagId: row.id, would: { warnings: plan.body.warnings ?? [], preview } };
}

/**
 * Does it, once: the change and the schedule's new status are one transaction. False where it has to be tried again, because
 * something is down.
 */
export async function runSchedule(env: Env, now: () => number, id: string): Promise<boolean> {
  const { db } = plannedBy(env, now, NOBODY);
  const found = await findSchedule(db, id);
  if (found === undefined) return true;
  const author = plannedBy(env, now, found.row, found.environment);
  const reason = found.row.reason ?? undefined;
  try {
    await writeAs(author, (at) => planRun(db, id, at), reason);
    return true;
  } catch (error) {
    const failure = failureOf(error, found.row, now() - found.row.at);
    const message = failure === null ? "a schedule has to wait" : "a schedule failed";
    console.warn(JSON.stringify({ level: "warn", message, schedule: id, failure, error: errorText(error) }));
    if (failure === null) {
      await countScheduleAttempt(db, id);
      return false;
    }
    await writeAs(author, (at) => planFailure(db, id, failure, at), reason);
    return true;
  }
}

async function planRun(db: Database, id: string, now: number): Promise<Plan<null>> {
  const found = await findSchedule(db, id);
  // Somebody else was first, or it was cancelled or moved.
  if (found === undefined || found.row.status !== "pending" || found.row.at > now) return NOTHING;
  const { row, environment } = found;
  await requireAuthor(db, row.tokenId, environment, now);
  const { flag } = await flagThere(db, environment, row.flagKey);
  if (flag.id !== row.flagId) {
    throw conflict("flag-replaced", `The flag ${row.flagKey} was deleted, and this is another of the same key.`);
  }
  const { write } = await planTargeting(db, environment, row.flagKey, row.edit as TargetingEdit, now);
  const ended = ending(row, "done", now);
  return {
    status: 200,
    body: null,
    write: {
      edits: write?.edits ?? [],
      statements: [...(write?.statements ?? []), updateSchedule(db, row, ended)],
      audit: auditedSchedule("schedule.run", environment, row, { status: { from: row.status, to: ended.status } }),
      alsoAudited: write === undefined ? [] : [{ ...write.audit, schedule: id }, ...(write.alsoAudited ?? [])],
    },
  };
}

async function planFailure(db: Database, id: string, failure: PlanFailure, now: number): Promise<Plan<null>> {
  const found = await findSchedule(db, id);
  if (found === undefined || found.row.status !== "pending" || found.row.at > now) return NOTHING;
  const { row, environment } = found;
  const ended = { ...ending(row, "failed", now), failure };
  const changes = { status: { from: row.status, to: ended.status }, failure: { to: failure } };
  return {
    status: 200,
    body: null,
    write: {
      statements: [updateSchedule(db, row, ended)],
      audit: auditedSchedule("schedule.fail", environment, row, changes),
    },
  };
}

export const ending = (row: ScheduleRow, status: ScheduleStatus, now: number): ScheduleRow => ({
  ...row,
  status,
  endedAt: now,
  updatedAt: now,
  version: row.version + 1,
});

export const auditedSchedule = (
  action: string,
  { project, environment }: EnvironmentName,
  { id }: Pick<ScheduleRow, "id">,
  changes: Audited["changes"],
): Audited => ({ action, type: "schedule", project, environment, key: id, changes, schedule: id });

const NOTHING = { status: 200, body: null } as const;
