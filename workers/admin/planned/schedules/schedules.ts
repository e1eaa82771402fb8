/** One change of one flag in one environment, at a time. */

import { badRequest, conflict } from "../../../platform/problem.ts";
import { newId } from "../../../platform/random-id.ts";
import type { Database } from "../../../store/database.ts";
import * as store from "../../../store/planned/schedules.ts";
import { difference, isEmpty } from "../../documents/diff.ts";
import type { TargetingEdit } from "../../flags/targeting-edit.ts";
import { visibleEnvironments } from "../../http/access.ts";
import { page } from "../../http/contract.ts";
import { etagOf, requireIfMatch } from "../../http/if-match.ts";
import { listing, scheduledQuery } from "../../http/pagination.ts";
import type { z } from "../../http/zod.ts";
import { MAX_AHEAD_MS, MAX_PENDING_SCHEDULES, MAX_SCHEDULED_BYTES } from "../../limits.ts";
import { operation } from "../../operation.ts";
import type { Requested } from "../../write/request.ts";
import { environmentInBody, plannedThere, projectThere } from "../planned.ts";
import { newSchedule, rehearsedSchedule, schedule, scheduleChange, shownSchedule, status } from "./representation.ts";
import { auditedSchedule, ending, rehearsed } from "./run.ts";

const PATH = "/projects/{project}/schedules";
const SCHEDULE = `${PATH}/{schedule}` as const;

const PROBLEMS = { 403: ["approval-required"], 413: ["ruleset-too-large"] } as const;

const scheduleOf = (requested: Pick<Requested<{ project: string; schedule: string }>, "db" | "scope" | "path">) =>
  plannedThere(requested, "schedule", requested.path.schedule, store.findSchedule);

const create = operation({
  id: "createSchedule",
  method: "post",
  path: PATH,
  tag: "schedules",
  summary: "Plan a change for a time; it is tried on what there is now, and again when it is made",
  role: "editor",
  reach: "part",
  body: newSchedule,
  status: 201,
  answer: rehearsedSchedule,
  returns: "Planned",
  example: (now) => ({
    environment: "production",
    flag: "new-checkout",
    at: now + 7 * 86_400_000,
    instructions: [{ kind: "turnOff" }],
    reason: "The sale is over",
  }),
  problems: { ...PROBLEMS, 409: ["archived", "rule-gone", "rule-exists", "too-many-schedules"] },
  plan: async (requested, now) => {
    const { db, by, body } = requested;
    const { flag, at, reason = requested.reason ?? null } = body;
    const edit = editOf(body);
    if (edit === null) throw notOneEdit();
    const environment = await environmentInBody(requested);
    requireTime(at, now);
    await requireRoom(db, environment.id);
    const { flagId, would } = await rehearsed(db, environment, flag, edit, now, by.tokenId);
    const row: store.ScheduleRow = {
      id: newId("sch"),
      projectId: environment.projectId,
      environmentId: environment.id,
      flagId,
      flagKey: flag,
      at,
      edit,
      reason,
      status: "pending",
      endedAt: null,
      failure: null,
      actor: by.actor,
      tokenId: by.tokenId,
      attempts: 0,
      version: 1,
      createdAt: now,
      updatedAt: now,
    };
    return {
      status: 201,
      wakeAt: at,
      body: { ...shownSchedule({ ...row, environment: environment.environment }), ...would },
      etag: etagOf(row.version),
      write: {
        statements: [store.insertSchedule(db, row)],
        audit: auditedSchedule("schedule.create", environment, row, difference({}, { flag, at, ...edit })),
      },
    };
  },
  respond: ({ body }) => body,
});

const list = operation({
  id: "listSchedules",
  method: "get",
  path: PATH,
  tag: "schedules",
  summary: "List planned changes and what became of them",
  role: "viewer",
  query: scheduledQuery.extend({ status: status.optional() }),
  answer: page(schedule),
  returns: "Schedules",
  handle: async (requested, c) => {
    const { environment, flag, author, status, q, ...order } = requested.query;
    const { page, answerOf } = await listing(c, order, "id");
    const { id: projectId, key } = await projectThere(requested);
    const filter = {
      projectId,
      visible: visibleEnvironments(requested.scope, key),
      environment,
      flag,
      author,
      status,
      q,
    };
    const rows = await store.listSchedules(requested.db, filter, page);
    return answerOf(rows, shownSchedule);
  },
});

const read = operation({
  id: "readSchedule",
  method: "get",
  path: SCHEDULE,
  tag: "schedules",
  summary: "Read a schedule",
  role: "viewer",
  answer: schedule,
  returns: "The schedule",
  handle: async (requested, c) => {
    const { row, environment } = await scheduleOf(requested);
    c.header("etag", etagOf(row.version));
    return shownSchedule({ ...row, environment: environment.environment });
  },
});

const patch = operation({
  id: "updateSchedule",
  method: "patch",
  path: SCHEDULE,
  tag: "schedules",
  summary: "Change a schedule before its time",
  role: "editor",
  reach: "part",
  body: scheduleChange,
  answer: rehearsedSchedule,
  returns: "The schedule",
  example: { reason: "The sale goes on for a week" },
  problems: { ...PROBLEMS, 409: ["archived", "rule-gone", "rule-exists", "schedule-ended"] },
  plan: async (requested, now) => {
    const { db, by, body } = requested;
    const { at, reason } = body;
    const edit = editOf(body);
    const { row, environment } = await scheduleOf(requested);
    requireIfMatch(requested, etagOf(row.version));
    requirePending(row);
    const next = {
      ...row,
      ...(edit && { edit }),
      ...(at !== undefined && { at }),
      ...(reason !== undefined && { reason }),
    };
    const changes = difference(planOf(row), planOf(next));
    const { flagId, would } = await rehearsed(
      db,
      environment,
      row.flagKey,
      next.edit as TargetingEdit,
      now,
      by.tokenId,
    );
    const shown = () => ({ ...shownSchedule({ ...next, environment: environment.environment }), ...would });
    if (isEmpty(changes)) return { status: 200, body: shown(), etag: etagOf(row.version) };
    if (next.at !== row.at) requireTime(next.at, now);
    // Whoever changes it answers for it.
    Object.assign(next, { flagId, actor: by.actor, tokenId: by.tokenId, version: row.version + 1, updatedAt: now });
    return {
      status: 200,
      wakeAt: next.at,
      body: shown(),
      etag: etagOf(next.version),
      write: {
        statements: [store.updateSchedule(db, row, next)],
        audit: auditedSchedule("schedule.update", environment, row, changes),
      },
    };
  },
  respond: ({ body }) => body,
});

const cancel = operation({
  id: "deleteSchedule",
  method: "delete",
  path: SCHEDULE,
  tag: "schedules",
  summary: "Cancel a schedule before its time; it stays to be read",
  role: "editor",
  reach: "part",
  status: 204,
  returns: "Cancelled",
  problems: { 409: ["schedule-ended"] },
  plan: async (requested, now) => {
    const { row, environment } = await scheduleOf(requested);
    requireIfMatch(requested, etagOf(row.version));
    if (row.status === "cancelled") return { status: 204, body: null };
    requirePending(row);
    const changes = { status: { from: row.status, to: "cancelled" } };
    return {
      status: 204,
      body: null,
      write: {
        statements: [store.updateSchedule(requested.db, row, ending(row, "cancelled", now))],
        audit: auditedSchedule("schedule.cancel", environment, row, changes),
      },
    };
  },
  respond: () => null,
});

export const schedules = [create, list, read, patch, cancel];

const planOf = ({ at, edit, reason }: store.ScheduleRow) => ({ at, ...edit, reason });

/** Null where neither is sent. */
function editOf({
  fields,
  instructions,
}: Pick<z.infer<typeof scheduleChange>, "fields" | "instructions">): TargetingEdit | null {
  if (fields !== undefined && instructions !== undefined) throw notOneEdit();
  const edit = fields !== undefined ? { fields } : instructions !== undefined ? { instructions } : null;
  if (new TextEncoder().encode(JSON.stringify(edit)).byteLength > MAX_SCHEDULED_BYTES) {
    const message = `A planned change has at most ${MAX_SCHEDULED_BYTES / 1_024} KB; longer lists belong in segments.`;
    const at = fields === undefined ? "/instructions" : "/fields";
    throw badRequest("The change is too large.", [{ pointer: at, code: "too-big", message }]);
  }
  return edit;
}

function notOneEdit() {
  const message = "Send either `fields` or `instructions`.";
  return badRequest("A schedule needs `fields` or `instructions`.", [
    { pointer: "/fields", code: "one-of-two", message },
    { pointer: "/instructions", code: "one-of-two", message },
  ]);
}

function requireTime(at: number, now: number): void {
  if (at > now && at <= now + MAX_AHEAD_MS) return;
  const [code, message] =
    at <= now
      ? ["in-the-past", "Send epoch milliseconds, or ISO 8601 with an offset, in the future."]
      : ["too-far", `At most ${MAX_AHEAD_MS / 86_400_000} days from now.`];
  throw badRequest("That is not a time to plan for.", [{ pointer: "/at", code, message }]);
}

function requirePending({ status }: store.ScheduleRow): void {
  if (status !== "pending") throw conflict("schedule-ended", `It is ${status}: what is over cannot be changed.`);
}

async function requireRoom(db: Database, environmentId: string): Promise<void> {
  if ((await store.countPending(db, environmentId)) < MAX_PENDING_SCHEDULES) return;
  const detail = `At most ${MAX_PENDING_SCHEDULES} changes wait in one environment: cancel some, or let them pass.`;
  throw conflict("too-many-schedules", detail);
}
