/** What happened to everything, newest first, and who the caller is. */
import { createRoute, z } from "@hono/zod-openapi";
import type { KillRecord } from "../../durable-objects/kill.ts";
import { badRequest } from "../problem.ts";
import { type AuditRow, listAudit } from "../store/audit.ts";
import { findEnvironment } from "../store/credentials.ts";
import { needs } from "./access.ts";
import { type AdminContext, json, page, pageOf, pageQuery, problems, resource, time } from "./contract.ts";
import { killsThere } from "./hubs.ts";

const entry = z
  .object({
    id: z.number().int().nullable(),
    pending: z.literal(true).optional().openapi({
      description: "A kill or restore that the hub has decided and the log does not have yet, and so without an id",
    }),
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
  })
  .openapi("AuditEntry");

const shown = (row: AuditRow): z.infer<typeof entry> => ({
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
});

const pending = ({ action, flag, origin, at, reason }: KillRecord): z.infer<typeof entry> => ({
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
});

const list = createRoute({
  method: "get",
  path: "/audit",
  tags: ["audit"],
  summary: "List what was changed, by whom and why",
  description:
    "Kills and restores that were decided while the database was away come first, as pending, where the list is of one environment.",
  middleware: needs("viewer", "own"),
  request: {
    query: pageQuery.extend({
      project: z.string().optional(),
      environment: z.string().optional(),
      type: z.string().optional(),
      key: z.string().optional(),
      action: z.string().optional(),
    }),
  },
  responses: { 200: json(page(entry), "Entries, newest first"), ...problems },
});

const me = createRoute({
  method: "get",
  path: "/me",
  tags: ["me"],
  summary: "Who the token is, and what it may",
  middleware: needs("viewer", "own"),
  responses: {
    200: json(
      z.object({
        id: z.string(),
        name: z.string(),
        role: z.enum(["viewer", "editor", "approver", "admin"]),
        scope: z.object({ projects: z.array(z.string()), environments: z.array(z.string()) }),
      }),
      "The caller",
    ),
    ...problems,
  },
});

export const audit = resource()
  .openapi(list, async (c) => {
    const { limit, cursor, ...filter } = c.req.valid("query");
    const before = cursor ? Number(cursor) : undefined;
    if (before !== undefined && !Number.isSafeInteger(before)) throw badRequest("That is not a cursor of this list.");
    // First: what reaches the log between the two questions is in both answers, and never in none.
    const waiting = before === undefined ? await pendingKills(c, filter) : [];
    const rows = await listAudit(c.var.db, c.var.caller.scope, { ...filter, before }, limit + 1);
    const known = new Set(rows.map((row) => row.mirrorId));
    const { items, nextCursor } = pageOf(rows, limit, (row) => String(row.id), shown);
    const first = waiting.filter(({ mirrorId }) => !known.has(mirrorId)).map(({ record }) => pending(record));
    return c.json({ items: [...first, ...items], nextCursor }, 200);
  })
  .openapi(me, async (c) => {
    const { id, name, role, scope } = c.var.caller;
    return c.json({ id, name, role, scope }, 200);
  });

type Filter = { project?: string | undefined; environment?: string | undefined; type?: string | undefined } & {
  key?: string | undefined;
  action?: string | undefined;
};

/** Newest first, at most a hundred, of the one environment that is asked for and within the caller's scope. */
async function pendingKills(c: AdminContext, { project, environment, type, key, action }: Filter) {
  if (project === undefined || environment === undefined || (type ?? "flag") !== "flag") return [];
  const { projects, environments } = c.var.caller.scope;
  if (projects.length > 0 && !projects.includes(project)) return [];
  if (environments.length > 0 && !environments.includes(`${project}/${environment}`)) return [];
  const name = await findEnvironment(c.var.db, c.env.KV, project, environment);
  const kills = name && (await killsThere(c.env, name));
  return (kills?.pending ?? [])
    .filter(
      (record) =>
        (key ?? record.flag) === record.flag && (action ?? `flag.${record.action}`) === `flag.${record.action}`,
    )
    .map((record) => ({ record, mirrorId: `${name?.id}/${record.seq}` }))
    .reverse();
}
