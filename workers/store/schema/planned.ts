/** D1's tables of what is planned for a time. */
import type { Serve } from "@bunting/core";
import { sql } from "drizzle-orm";
import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

const time = (name: string) => integer(name);
const json = <T>(name: string) => text(name, { mode: "json" }).$type<T>();

/** Why something planned was not done: the problem that a request would have been answered with. */
export type PlanFailure = {
  code: string;
  detail: string;
  errors?: { pointer: string; code: string; message: string }[];
};

/** What both kinds of plan have: whose they are, and which flag of which environment they are for. */
const planned = () => ({
  id: text().primaryKey(),
  projectId: text("project_id").notNull(),
  environmentId: text("environment_id").notNull(),
  flagId: text("flag_id").notNull(),
  flagKey: text("flag_key").notNull(),
  reason: text(),
  actor: text().notNull(),
  tokenId: text("token_id"),
  /** How often D1 refused it without saying why: what fails whenever it is tried is not tried for ever. */
  attempts: integer().notNull().default(0),
  /** Never null: whoever was validated against an older version tries to make it so. */
  version: integer().notNull(),
  createdAt: time("created_at").notNull(),
  updatedAt: time("updated_at").notNull(),
});

export type ScheduleStatus = "pending" | "done" | "failed" | "cancelled";

/** A change of one flag in one environment, to be made at a time. */
export const schedules = sqliteTable(
  "schedules",
  {
    ...planned(),
    at: time("at").notNull(),
    /** `fields` or `instructions`, as they were sent. */
    edit: json<object>("edit").notNull(),
    status: text().$type<ScheduleStatus>().notNull(),
    endedAt: time("ended_at"),
    failure: json<PlanFailure>("failure"),
  },
  (table) => [
    index("schedules_by_time").on(table.projectId, table.at, table.id),
    index("schedules_by_creation").on(table.projectId, table.createdAt, table.id),
    index("schedules_by_flag").on(table.environmentId, table.flagKey, table.at),
    // Those that wait in an environment, whatever has been there before them.
    index("schedules_pending").on(table.environmentId, table.flagId).where(sql`status = 'pending'`),
    index("schedules_due").on(table.at, table.id).where(sql`status = 'pending'`),
  ],
);

export type RampStatus = "running" | "paused" | "finished" | "aborted";

/** `weight` in thousandths of a percent, and how long it is kept before the next step. */
export type RampStep = { weight: number; forMs: number };

/** Carried for whoever judges them; nothing here reads it. */
export type Guard = {
  metric: string;
  worse: "higher" | "lower";
  tolerance: number;
  action: "pause" | "abort";
};

/** What holds a ramp: `code` is `requested` where a person, `by`, has asked for it. */
export type Pause = PlanFailure & { by: string | null; at: number };

/** One split that is moved step by step. */
export const ramps = sqliteTable(
  "ramps",
  {
    ...planned(),
    /** A rule's id; empty for the fallthrough. */
    ruleId: text("rule_id").notNull(),
    variation: text().notNull(),
    /** Who shrinks; null for all others. */
    others: json<string[]>("others"),
    steps: json<RampStep[]>("steps").notNull(),
    guards: json<Guard[]>("guards").notNull(),
    status: text().$type<RampStatus>().notNull(),
    /** The step that it is at. */
    step: integer().notNull(),
    /** What was served before it began, then what each step serves: computed once, so that going back moves nobody else. */
    serves: json<Serve[]>("serves").notNull(),
    /** While it runs: when the next step is due. */
    nextAt: time("next_at"),
    /** While it is paused: what was left then of the step's time. Milliseconds. */
    remainingMs: integer("remaining_ms"),
    pause: json<Pause>("pause"),
    /** The last kill or restore of the flag that it has seen. */
    killSeq: integer("kill_seq").notNull(),
    /** What has begun it: its steps have the approvals of that. */
    changeRequestId: text("change_request_id"),
    endedAt: time("ended_at"),
    /** Of one that was aborted: whether what was served before it began is served again. */
    restored: integer({ mode: "boolean" }),
  },
  (table) => [
    uniqueIndex("ramps_at_work")
      .on(table.environmentId, table.flagId, table.ruleId)
      .where(sql`status IN ('running', 'paused')`),
    index("ramps_by_creation").on(table.projectId, table.createdAt, table.id),
    index("ramps_by_flag").on(table.environmentId, table.flagKey, table.createdAt),
    index("ramps_due").on(table.nextAt, table.id).where(sql`status = 'running'`),
  ],
);
