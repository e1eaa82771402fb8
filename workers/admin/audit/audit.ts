/** What happened to everything, newest first; and taking it back. */

import { notFound } from "../../platform/problem.ts";
import { type AuditFilter, type AuditRow, auditPages, findAudit, isRevertible, listAudit } from "../../store/audit.ts";
import { findEnvironment } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import type { Scope } from "../../store/schema/index.ts";
import { requireScope } from "../http/access.ts";
import { page, pageQuery, validationError, whole } from "../http/contract.ts";
import { etagOf } from "../http/if-match.ts";
import { answerLines } from "../http/lines.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { delivery, killsThere } from "../write/hub-client.ts";
import type { Requested } from "../write/request.ts";
import { cursorOf, entry, filterOf, filterQuery, isAmong, pendingEntry, positionOf, shownEntry } from "./entry.ts";
import { planRevert } from "./revert.ts";

const params = { entry: whole(1) };

const list = operation({
  id: "listAudit",
  method: "get",
  path: "/audit",
  tag: "audit",
  summary: "List what was changed, by whom and why",
  description:
    "Kills and restores that were decided while the database was away come first, as pending, where the list is of one environment. A page may have fewer entries than `limit`, and none, while `nextCursor` goes on: it looks at so many and no more.",
  role: "viewer",
  reach: "own",
  query: pageQuery.extend(filterQuery.shape),
  answer: page(entry),
  returns: "Entries, newest first",
  handle: async (requested) => {
    const { db, scope, query } = requested;
    const { limit, cursor, ...filters } = query;
    const filter = filterOf(filters);
    const after = positionOf(cursor);
    // First: what reaches the log between the two questions is in both answers, and never in none.
    const waiting = after === undefined ? await pendingKills(requested, filter) : [];
    const { rows, next } = await listAudit(db, scope, filter, { limit, after, order: "newest" });
    const known = new Set(rows.map((row) => row.mirrorId));
    const first = waiting.filter(({ mirrorId }) => !known.has(mirrorId)).map(({ shown }) => shown);
    return { items: [...first, ...rows.map(shownEntry)], nextCursor: next && cursorOf(next) };
  },
});

const exported = operation({
  id: "exportAudit",
  method: "get",
  path: "/audit/export",
  tag: "audit",
  summary: "All entries that match, oldest first, one a line",
  description:
    "Each line has a `cursor`: send the last one that arrived to go on from there. A kill that was decided while the database was away comes late, at the time at which it was decided.",
  role: "viewer",
  reach: "own",
  query: filterQuery.extend({ cursor: z.string().max(256).optional() }),
  answerType: "application/x-ndjson",
  returns: "AuditEntry with `cursor`, a line of JSON each",
  handle: async ({ db, scope, query }, c) => {
    const { cursor, ...filters } = query;
    return answerLines(c, linesOf(auditPages(db, scope, filterOf(filters), positionOf(cursor))));
  },
});

async function* linesOf(pages: AsyncIterable<AuditRow[]>): AsyncGenerator<object[], undefined> {
  for await (const rows of pages) yield rows.map((row) => ({ ...shownEntry(row), cursor: cursorOf(row) }));
}

const read = operation({
  id: "readAuditEntry",
  method: "get",
  path: "/audit/{entry}",
  tag: "audit",
  summary: "Read an entry",
  role: "viewer",
  reach: "own",
  params,
  answer: entry.extend({ revertible: z.boolean() }).openapi("AuditEntryRead"),
  returns: "The entry",
  handle: async ({ db, scope, path }, c) => {
    const row = await visibleEntry(db, scope, path.entry);
    // Nothing about an entry ever changes.
    c.header("etag", etagOf(1));
    return { ...shownEntry(row), revertible: await isRevertible(db, row.id) };
  },
});

const revert = operation({
  id: "revertAuditEntry",
  method: "post",
  path: "/audit/{entry}/revert",
  tag: "audit",
  summary: "Put back what an entry took away, on top of what is there now",
  description: "Where others have written at the same place since: 409 with both versions.",
  role: "editor",
  reach: "own",
  params,
  query: z.object({
    force: z
      .enum(["true", "false"])
      .default("false")
      .openapi({ description: "Overwrite what was written there since" }),
  }),
  answer: z
    .object({
      reverted: z.number().int(),
      changes: entry.shape.changes,
      warnings: z.array(validationError),
      environments: z.record(z.string(), delivery),
    })
    .openapi("Revert"),
  returns: "What was put back; nothing where it was there already",
  example: { reason: "It was not meant" },
  problems: {
    403: ["approval-required"],
    409: ["not-revertible", "changed-since", "would-not-work", "archived", "already-exists", "has-members", "in-use"],
    413: ["change-too-large", "ruleset-too-large"],
  },
  place: async ({ db, scope, path }) => {
    const { project, environment } = await visibleEntry(db, scope, path.entry);
    return project === null ? null : { project, environment };
  },
  plan: planReverting,
  requestable: planReverting,
  respond: ({ body, deliveries }) => ({ ...body, environments: deliveries }),
});

export const audit = [list, exported, read, revert];

type Path = { entry: number; project?: string };
type Query = { force?: "true" | "false" };

/** @throws ApiError 404 also for an entry of another project than the path names, 403, 409. */
async function planReverting(requested: Requested<Path, unknown, Query>, now: number) {
  const { db, scope, path, query } = requested;
  const row = await visibleEntry(db, scope, path.entry);
  if (path.project !== undefined && path.project !== row.project) throw notFound(`The entry ${path.entry}`);
  requireScope(scope, row.project ?? undefined, row.environment ?? undefined, false);
  return planRevert(requested, row, query.force === "true", now);
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

/** Newest first, at most a hundred, of the one environment that is asked for and within the caller's scope. */
async function pendingKills({ env, db, scope }: Pick<Requested, "env" | "db" | "scope">, filter: AuditFilter) {
  const { project, environment } = filter;
  if (project === undefined || environment === undefined || (filter.type ?? "flag") !== "flag") return [];
  if (!isVisible(scope, { project, environment })) return [];
  const name = await findEnvironment(db, env.KV, project, environment);
  const kills = name && (await killsThere(env, name));
  return (kills?.pending ?? [])
    .map((record) => ({ shown: pendingEntry(record), mirrorId: `${name?.id}/${record.seq}` }))
    .filter(({ shown }) => isAmong(shown, filter))
    .reverse();
}
