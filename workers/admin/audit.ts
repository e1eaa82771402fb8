/** What happened to everything, newest first, and who the caller is. */
import { createRoute, z } from "@hono/zod-openapi";
import { badRequest } from "../problem.ts";
import { type AuditRow, listAudit } from "../store/audit.ts";
import { needs } from "./access.ts";
import { json, page, pageOf, pageQuery, problems, resource, time } from "./contract.ts";

const entry = z
  .object({
    id: z.number().int(),
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

const list = createRoute({
  method: "get",
  path: "/audit",
  tags: ["audit"],
  summary: "List what was changed, by whom and why",
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
    const rows = await listAudit(c.var.db, c.var.caller.scope, { ...filter, before }, limit + 1);
    return c.json(
      pageOf(rows, limit, (row) => String(row.id), shown),
      200,
    );
  })
  .openapi(me, async (c) => {
    const { id, name, role, scope } = c.var.caller;
    return c.json({ id, name, role, scope }, 200);
  });
