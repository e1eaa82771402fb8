/** What happened to everything, newest first; taking it back; and who the caller is. */
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { notFound } from "../../platform/problem.ts";
import { type AuditFilter, type AuditRow, auditPages, findAudit, isRevertible, listAudit } from "../../store/audit.ts";
import { findEnvironment } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import type { Scope } from "../../store/schema/index.ts";
import { needs, requireScope } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, json, mistake, page, pageQuery, problems, reason, resource, whole } from "../http/contract.ts";
import { delivery, killsThere } from "../write/hub-client.ts";
import { type Requested, askedOf } from "../write/request.ts";
import { etagOf, write } from "../write/write.ts";
import { cursorOf, entry, filterQuery, isAmong, pendingEntry, positionOf, shownEntry } from "./entry.ts";
import { planRevert } from "./revert.ts";

const entryPath = z.object({ id: whole(1) });

const list = operation({
  id: "listAudit",
  method: "get",
  path: "/audit",
  tag: "audit",
  summary: "List what was changed, by whom and why",
  description: "Kills and restores that were decided while the database was away come first, as pending, where the list is of one environment. A page may have fewer entries than `limit`, and none, while `nextCursor` goes on: it looks at so many and no more.",
  role: "viewer",
  reach: "own",
  query: pageQuery.extend(filterQuery.shape),
  answer: page(entry),
  returns: "Entries, newest first",
  handle: async (requested, c) => {
    const { limit, cursor, ...filter } = query;
    const after = positionOf(cursor);
    // First: what reaches the log between the two questions is in both answers, and never in none.
    const waiting = after === undefined ? await pendingKills(c, filter) : [];
    const { rows, next } = await listAudit(c.var.db, c.var.caller.scope, filter, { limit, after, order: "newest" });
    const known = new Set(rows.map((row) => row.mirrorId));
    const first = waiting.filter(({ mirrorId }) => !known.has(mirrorId)).map(({ shown }) => shown);
    return c.json({ items: [...first, ...rows.map(shownEntry)], nextCursor: next && cursorOf(next) }, 200);
  },
});

const exported = operation({
  id: "exportAudit",
  method: "get",
  path: "/audit/export",
  tag: "audit",
  summary: "All entries that match, oldest first, one a line",
  description: "Each line has a `cursor`: send the last one that arrived to go on from there. A kill that was decided while the database was away comes late, at the time at which it was decided.",
  role: "viewer",
  reach: "own",
  query: filterQuery.extend({ cursor: z.string().max(256).optional() }),
  returns: {
      description: "AuditEntry with `cursor`, a line of JSON each",
      // No schema: it would be read as that of one JSON document.
      content: { "application/x-ndjson": {} as { schema: z.ZodString } },
    },
  handle: async (requested, c) => {
    const { cursor, ...filter } = query;
    const pages = auditPages(c.var.db, c.var.caller.scope, filter, positionOf(cursor));
    // The first page is read before the answer begins: what is wrong by then still has a status.
    const first = await pages.next();
    const lines = linesOf(first, pages);
    // The contract's type knows text; this is text that comes in pieces.
    return c.body(lines, 200, { "content-type": "application/x-ndjson" }) as never;
  },
});

const read = operation({
  id: "readAuditEntry",
  method: "get",
  path: "/audit/{id}",
  tag: "audit",
  summary: "Read an entry",
  role: "viewer",
  reach: "own",
  params: entryPath,
  answer: entry.extend({ revertible: z.boolean() }).openapi("AuditEntryRead"),
  returns: "The entry",
  handle: async (requested, c) => {
    const row = await visibleEntry(c.var.db, c.var.caller.scope, path.id);
    // Nothing about an entry ever changes.
    c.header("etag", etagOf(1));
    return c.json({ ...shownEntry(row), revertible: await isRevertible(c.var.db, row.id) }, 200);
  },
});

export const revert = operation({
  id: "revertAuditEntry",
  method: "post",
  path: "/audit/{id}/revert",
  tag: "audit",
  summary: "Put back what an entry took away, on top of what is there now",
  description: "Where others have written at the same place since: 409 with both versions.",
  role: "editor",
  reach: "own",
  params: entryPath,
  query: z.object({
      force: z
        .enum(["true", "false"])
        .default("false")
        .openapi({ description: "Overwrite what was written there since" }),
    }),
  body: z.strictObject({ reason: reason.optional() }),
  answer: z
        .object({
          reverted: z.number().int(),
          changes: entry.shape.changes,
          warnings: z.array(mistake),
          environments: z.record(z.string(), delivery),
        })
        .openapi("Revert"),
  returns: "What was put back; nothing where it was there already",
  example: { reason: "It was not meant" },
  problems: {
      403: ["approval-required"],
      409: ["not-revertible", "changed-since", "would-not-work", "archived", "already-exists", "has-members", "in-use"],
      413: ["change-too-large", ...TOO_LARGE],
    },
  handle: async (requested, c) => {
    const asked = askedOf(c, path, body, query);
    const { project, environment } = await visibleEntry(c.var.db, c.var.caller.scope, path.id);
    const place = project === null ? null : { project, environment };
    const done = await write(c, (now) => planReverting(asked, now), body.reason, place);
    return c.json({ ...done.body, environments: done.deliveries }, 200);
  },
});

const me = operation({
  id: "readMe",
  method: "get",
  path: "/me",
  tag: "me",
  summary: "Who the token is, and what it may",
  role: "viewer",
  reach: "own",
  answer: z.object({
        id: z.string(),
        name: z.string(),
        role: z.enum(["viewer", "editor", "approver", "admin"]),
        scope: z.object({ projects: z.array(z.string()), environments: z.array(z.string()) }),
        groups: z.array(z.string()),
      }),
  returns: "The caller",
  handle: async (requested, c) => {
    const { id, name, role, scope, groups } = c.var.caller;
    return c.json({ id, name, role, scope, groups }, 200);
  },
});

export const audit = [list, exported, read, revert, me];

type RevertAsked = Requested<{ id: number; project?: string }, unknown, { force?: "true" | "false" | undefined }>;

/** @throws ApiError 404 also for an entry of another project than was told, 403, 409. */
export async function planReverting({ path, query, scope, ...asked }: RevertAsked, now: number) {
  const row = await visibleEntry(asked.db, scope, path.id);
  if (path.project !== undefined && path.project !== row.project) throw notFound(`The entry ${path.id}`);
  requireScope(scope, row.project ?? undefined, row.environment ?? undefined, false);
  return planRevert(asked, row, query.force === "true", now);
}

async function visibleEntry(db: Database, scope: Scope, id: number): Promise<AuditRow> {
  const row = await findAudit(db, id);
  if (row === undefined || !isVisible(scope, row)) throw notFound(`The entry ${id}`);
  return row;
}

/** As the list does it: what belongs to a project as a whole is for those who see all of it. */
const isVisible = ({ projects, environments }: Scope, row: Pick<AuditRow, "project" | "environment">): boolean =>
  (projects.length === 0 || (row.project !== null && projects.includes(row.project))) &&
  (environments.length === 0 || environments.includes(`${row.project}/${row.environment}`));

/** A page at a time, when the last one has been taken: however many there are, one is held. */
function linesOf(first: IteratorResult<AuditRow[]>, pages: AsyncIterator<AuditRow[]>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next: IteratorResult<AuditRow[]> | undefined = first;
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = next ?? (await pages.next());
      next = undefined;
      if (done) return controller.close();
      const lines = value.map((row) => `${JSON.stringify({ ...shownEntry(row), cursor: cursorOf(row) })}\n`);
      controller.enqueue(encoder.encode(lines.join("")));
    },
    cancel: () => void pages.return?.(),
  });
}

/** Newest first, at most a hundred, of the one environment that is asked for and within the caller's scope. */
async function pendingKills(c: AdminContext, filter: AuditFilter) {
  const { project, environment } = filter;
  if (project === undefined || environment === undefined || (filter.type ?? "flag") !== "flag") return [];
  if (!isVisible(c.var.caller.scope, { project, environment })) return [];
  const name = await findEnvironment(c.var.db, c.env.KV, project, environment);
  const kills = name && (await killsThere(c.env, name));
  return (kills?.pending ?? [])
    .map((record) => ({ shown: pendingEntry(record), mirrorId: `${name?.id}/${record.seq}` }))
    .filter(({ shown }) => isAmong(shown, filter))
    .reverse();
}
