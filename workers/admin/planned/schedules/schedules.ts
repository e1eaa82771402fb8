/** One change of one flag in one environment, at a time. */
import type { z } from "../../http/zod.ts";
import { operation } from "../../operation.ts";
import { badRequest, conflict } from "../../../platform/problem.ts";
import { newId } from "../../../platform/random-id.ts";
import type { Database } from "../../../store/database.ts";
import * as store from "../../../store/planned/schedules.ts";
import { difference, isEmpty } from "../../documents/diff.ts";
import type { TargetingEdit } from "../../flags/targeting-edit.ts";
import { needs, visibleEnvironments } from "../../http/access.ts";
import { body, json, page, problems, projectPath, resource } from "../../http/contract.ts";
import { listing, scheduledQuery } from "../../http/pagination.ts";
import { MAX_AHEAD_MS, MAX_PENDING_SCHEDULES, MAX_SCHEDULED_BYTES } from "../../limits.ts";
import { askedOf } from "../../write/request.ts";
import { etagOf, origin, requireMatch, write } from "../../write/write.ts";
import { environmentInBody, plannedPath, plannedThere, projectThere } from "../planned.ts";
import { newSchedule, rehearsedSchedule, schedule, scheduleChange, shownSchedule, status } from "./representation.ts";
import { auditedSchedule, ending, rehearsed } from "./run.ts";

const PATH = "/projects/{project}/schedules" as const;

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
  problems: { 403: ["approval-required"], 409: [...PLANNED, "too-many-schedules"], 413: TOO_LARGE },
  handle: async (requested, c) => {
    const { environment: named, flag, at, reason = null, ...sent } = body;
    const edit = editOf(sent);
    if (edit === null) throw notOneEdit();
    const environment = await environmentInBody(askedOf(c, path, body));
    const { actor, tokenId } = origin(c);
    const plan = async (now: number) => {
      requireTime(at, now);
      await requireRoom(c.var.db, environment.id);
      const { flagId, would } = await rehearsed(c.var.db, environment, flag, edit, now);
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
        actor,
        tokenId,
        attempts: 0,
        version: 1,
        createdAt: now,
        updatedAt: now,
      };
      return {
        status: 201 as const,
        wakeAt: at,
        body: { ...shownSchedule({ ...row, environment: named }), ...would },
        etag: etagOf(row.version),
        write: {
          statements: [store.insertSchedule(c.var.db, row)],
          audit: auditedSchedule("schedule.create", environment, row, difference({}, { flag, at, ...edit })),
        },
      };
    };
    const done = await write(c, plan, reason ?? undefined);
    return c.json(done.body, 201);
  },
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
    const { environment, flag, author, status, q, ...query } = query;
    const { page, told } = await listing(c, query, "id");
    const { id: projectId, key } = await projectThere(c);
    const visible = visibleEnvironments(c.var.caller.scope, key);
    const rows = await store.listSchedules(
      c.var.db,
      { projectId, visible, environment, flag, author, status, q },
      page,
    );
    return c.json(told(rows, shownSchedule), 200);
  },
});

const read = operation({
  id: "readSchedule",
  method: "get",
  path: `${PATH}/{id}`,
  tag: "schedules",
  summary: "Read a schedule",
  role: "viewer",
  answer: schedule,
  returns: "The schedule",
  handle: async (requested, c) => {
    const { row, environment } = await plannedThere(c, "schedule", store.findSchedule);
    c.header("etag", etagOf(row.version));
    return c.json(shownSchedule({ ...row, environment: environment.environment }), 200);
  },
});

const patch = operation({
  id: "updateSchedule",
  method: "patch",
  path: `${PATH}/{id}`,
  tag: "schedules",
  summary: "Change a schedule before its time",
  role: "editor",
  reach: "part",
  body: scheduleChange,
  answer: rehearsedSchedule,
  returns: "The schedule",
  example: { reason: "The sale goes on for a week" },
  problems: { 403: ["approval-required"], 409: [...PLANNED, "schedule-ended"], 413: TOO_LARGE },
  handle: async (requested, c) => {
    const { at, reason, ...sent } = body;
    const edit = editOf(sent);
    const done = await write(c, async (now) => {
      const { row, environment } = await plannedThere(c, "schedule", store.findSchedule);
      requireMatch(c, etagOf(row.version));
      requirePending(row);
      const next = {
        ...row,
        ...(edit && { edit }),
        ...(at !== undefined && { at }),
        ...(reason !== undefined && { reason }),
      };
      const changes = difference(planOf(row), planOf(next));
      const { flagId, would } = await rehearsed(c.var.db, environment, row.flagKey, next.edit as TargetingEdit, now);
      const told = () => ({ ...shownSchedule({ ...next, environment: environment.environment }), ...would });
      if (isEmpty(changes)) return { status: 200, body: told(), etag: etagOf(row.version) };
      if (next.at !== row.at) requireTime(next.at, now);
      // Whoever changes it answers for it.
      const { actor, tokenId } = origin(c);
      Object.assign(next, { flagId, actor, tokenId, version: row.version + 1, updatedAt: now });
      return {
        status: 200,
        wakeAt: next.at,
        body: told(),
        etag: etagOf(next.version),
        write: {
          statements: [store.updateSchedule(c.var.db, row, next)],
          audit: auditedSchedule("schedule.update", environment, row, changes),
        },
      };
    });
    return c.json(done.body, 200);
  },
});

const cancel = operation({
  id: "deleteSchedule",
  method: "delete",
  path: `${PATH}/{id}`,
  tag: "schedules",
  summary: "Cancel a schedule before its time; it stays to be read",
  role: "editor",
  reach: "part",
  status: 204,
  returns: { description: "Cancelled" },
  problems: { 409: ["schedule-ended"] },
  handle: async (requested, c) => {
    await write(c, async (now) => {
      const { row, environment } = await plannedThere(c, "schedule", store.findSchedule);
      requireMatch(c, etagOf(row.version));
      if (row.status === "cancelled") return { status: 204, body: null };
      requirePending(row);
      const changes = { status: { from: row.status, to: "cancelled" } };
      return {
        status: 204,
        body: null,
        write: {
          statements: [store.updateSchedule(c.var.db, row, ending(row, "cancelled", now))],
          audit: auditedSchedule("schedule.cancel", environment, row, changes),
        },
      };
    });
    return c.body(null, 204);
  },
});

export const schedules = [create, list, read, patch, cancel];

const planOf = ({ at, edit, reason }: store.ScheduleRow) => ({ at, ...edit, reason });

/** Null where neither is sent. */
function editOf({ fields, instructions }: z.infer<typeof scheduleChange>): TargetingEdit | null {
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
  return badRequest("It has to say what to change.", [
    { pointer: "/fields", code: "one-of-two", message },
    { pointer: "/instructions", code: "one-of-two", message },
  ]);
}

function requireTime(at: number, now: number): void {
  if (at > now && at <= now + MAX_AHEAD_MS) return;
  const [code, message] =
    at <= now
      ? ["in-the-past", "Send epoch milliseconds, in the future."]
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
