/** How answers show an entry of the audit log, and how its list is narrowed. */

import type { KillRecord } from "../../../durable-objects/hub/kills/kill.ts";
import { badRequest } from "../../platform/problem.ts";
import type { AuditFilter, AuditPosition, AuditRow } from "../../store/audit.ts";
import { pending, time } from "../http/contract.ts";
import { instantInQuery } from "../http/quantities.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME } from "../limits.ts";

export const entry = z
  .object({
    id: z.number().int().nullable(),
    pending,
    timestamp: time,
    actor: z.string(),
    action: z.string().openapi({ example: "flag.update" }),
    resource: z.object({
      type: z.string(),
      project: z.string().nullable(),
      environment: z.string().nullable(),
      key: z.string(),
    }),
    flag_key: z.string().nullable(),
    changes: z.record(z.string(), z.object({ from: z.unknown().optional(), to: z.unknown().optional() })).openapi({
      example: { "rules[0].conditions[0].values": { from: ["free"], to: ["free", "pro"] } },
    }),
    source_ip: z.string().nullable(),
    user_agent: z.string().nullable(),
    correlation_id: z.string(),
    reason: z.string().nullable(),
    token: z.string().nullable(),
    reverts: z.number().int().nullable().openapi({ description: "The entry that this one has put back" }),
    change_request: z.string().nullable().openapi({ description: "The change request that this is a part of" }),
    schedule: z.string().nullable().openapi({ description: "The schedule that this is a part of" }),
    ramp: z.string().nullable().openapi({ description: "The ramp that this is a part of" }),
    bypassed: z.array(z.string()).optional().openapi({
      description: "Policies whose approvals the caller's role was allowed to do without",
    }),
  })
  .openapi("AuditEntry");

export const shownEntry = (row: AuditRow): z.infer<typeof entry> => ({
  id: row.id,
  timestamp: row.timestamp,
  actor: row.actor,
  action: row.action,
  resource: { type: row.resourceType, project: row.project, environment: row.environment, key: row.key },
  flag_key: row.resourceType === "flag" ? row.key : null,
  changes: row.changes,
  source_ip: row.sourceIp,
  user_agent: row.userAgent,
  correlation_id: row.correlationId,
  reason: row.reason,
  token: row.tokenId,
  reverts: row.reverts,
  change_request: row.changeRequest,
  schedule: row.schedule,
  ramp: row.ramp,
  ...(row.bypassed && { bypassed: row.bypassed }),
});

export const pendingEntry = ({ action, flag, origin, at, reason }: KillRecord): z.infer<typeof entry> => ({
  id: null,
  pending: true,
  timestamp: at,
  actor: origin.actor,
  action: `flag.${action}`,
  resource: { type: "flag", project: origin.project, environment: origin.environment, key: flag },
  flag_key: flag,
  changes: { killed: { from: action !== "kill", to: action === "kill" } },
  source_ip: origin.sourceIp,
  user_agent: origin.userAgent,
  correlation_id: origin.correlationId,
  reason: reason === "" ? null : reason,
  token: origin.tokenId,
  reverts: null,
  change_request: null,
  schedule: null,
  ramp: null,
});

const exactly = z.string().max(MAX_NAME).optional();
const moment = instantInQuery.optional();

export const filterQuery = z.object({
  project: exactly,
  environment: exactly,
  type: exactly.openapi({ example: "flag" }),
  key: exactly.openapi({ description: "The key of what was changed, also as one of many in one change" }),
  flag_key: exactly.openapi({ description: "The same as `type=flag` and `key`" }),
  action: exactly.openapi({ example: "flag.update" }),
  actor: exactly,
  token: exactly.openapi({ description: "The id of an API token" }),
  correlation_id: exactly,
  from: moment.openapi({ description: "At this time or later: epoch milliseconds, or ISO 8601 with an offset" }),
  to: moment.openapi({ description: "Before this time: epoch milliseconds, or ISO 8601 with an offset" }),
  reason: exactly.openapi({ description: "Text that is part of the reason" }),
});

/** As the store names it. */
export function filterOf({ correlation_id, flag_key, ...rest }: z.output<typeof filterQuery>): AuditFilter {
  return {
    ...rest,
    correlationId: correlation_id,
    ...(flag_key !== undefined && { type: "flag", key: flag_key }),
  };
}

export const cursorOf = ({ timestamp, id }: AuditPosition) => `${timestamp}-${id}`;

/** An empty one is none. */
export function positionOf(cursor: string | undefined): AuditPosition | undefined {
  if (cursor === undefined || cursor === "") return undefined;
  const [timestamp, id] = /^\d{1,15}-\d{1,15}$/.test(cursor) ? cursor.split("-").map(Number) : [];
  if (timestamp === undefined || id === undefined) throw badRequest("The cursor is not from this list.");
  return { timestamp, id };
}

/** What the log's own filter does to its rows, done to what is not a row yet. */
export const isAmong = (one: z.infer<typeof entry>, filter: AuditFilter): boolean =>
  [
    [filter.project, one.resource.project],
    [filter.environment, one.resource.environment],
    [filter.type, one.resource.type],
    [filter.key, one.resource.key],
    [filter.action, one.action],
    [filter.actor, one.actor],
    [filter.token, one.token],
    [filter.correlationId, one.correlation_id],
  ].every(([wanted, is]) => wanted === undefined || wanted === is) &&
  one.timestamp >= (filter.from ?? 0) &&
  one.timestamp < (filter.to ?? Number.POSITIVE_INFINITY) &&
  (filter.reason === undefined || (one.reason ?? "").toLowerCase().includes(filter.reason.toLowerCase()));
