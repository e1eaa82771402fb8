/** How requests and answers show a schedule. */

import type { ScheduleRow } from "../../../store/planned/schedules.ts";
import { instructions } from "../../documents/instructions.ts";
import { targeting } from "../../documents/schema.ts";
import type { TargetingEdit } from "../../flags/targeting-edit.ts";
import { key, reason, time, validationError } from "../../http/contract.ts";
import { instant } from "../../http/quantities.ts";
import { z } from "../../http/zod.ts";
import { preview } from "../../write/preview.ts";
import { author, failure } from "../planned.ts";

export const status = z.enum(["pending", "done", "failed", "cancelled"]);

const at = instant.openapi({
  description: "Epoch milliseconds or ISO 8601 with an offset, in the future",
  example: 1_800_000_000_000,
});
const edit = { fields: targeting.partial().optional(), instructions: instructions.optional() };

export const newSchedule = z
  .strictObject({ environment: key, flag: key, at, ...edit, reason: reason.optional() })
  .openapi("NewSchedule", {
    description: "With either `fields` or `instructions`, as the targeting of the flag takes them",
    example: {
      environment: "production",
      flag: "new-checkout",
      at: 1_800_000_000_000,
      instructions: [{ kind: "turnOn" }],
      reason: "Launch",
    },
  });

export const scheduleChange = z
  .strictObject({ at: at.optional(), ...edit, reason: reason.nullable().optional() })
  .openapi("ScheduleChange", { description: "`fields` or `instructions` take the place of what was planned" });

export const schedule = z
  .object({
    id: z.string(),
    environment: key,
    flag: key,
    at: time,
    ...edit,
    reason: z.string().nullable(),
    status,
    failure: failure.nullable().openapi({ description: "Why it failed" }),
    author,
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
    endedAt: time.nullable().openapi({ description: "When it was done, failed or was cancelled" }),
  })
  .openapi("Schedule");

export const rehearsedSchedule = schedule
  .extend({
    warnings: z.array(validationError),
    preview: preview.openapi({ description: "What it would do if its time were now" }),
  })
  .openapi("RehearsedSchedule");

export const shownSchedule = (row: ScheduleRow & { environment: string }): z.infer<typeof schedule> => ({
  id: row.id,
  environment: row.environment,
  flag: row.flagKey,
  at: row.at,
  ...(row.edit as TargetingEdit),
  reason: row.reason,
  status: row.status,
  failure: row.failure,
  author: { actor: row.actor, token: row.tokenId },
  version: row.version,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
  endedAt: row.endedAt,
});
