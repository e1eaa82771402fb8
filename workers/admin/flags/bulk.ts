/** One thing done to many flags: all to which it can be done change at once, as one change of each environment. */

import type { Flag } from "@bunting/core";
import { type ApiError, conflict, notFound } from "../../platform/problem.ts";
import type { Database, Statement } from "../../store/database.ts";
import type { FlagRow } from "../../store/documents.ts";
import { findFlags, updateFlags } from "../../store/flags/bulk.ts";
import { headOf, nameOf, type ProjectState } from "../../store/projects.ts";
import { difference, same } from "../documents/diff.ts";
import { undoOf } from "../documents/undo.ts";
import { key, reason } from "../http/contract.ts";
import { etagOf } from "../http/if-match.ts";
import { z } from "../http/zod.ts";
import { MAX_FLAGS_AT_ONCE, MAX_NAME, MAX_TAG, MAX_TAGS } from "../limits.ts";
import { operation } from "../operation.ts";
import { delivery } from "../write/hub-client.ts";
import { projectOf } from "../write/lookup.ts";
import type { Plan } from "../write/plan.ts";
import type { Requested } from "../write/request.ts";
import { statusEntry } from "./archive.ts";
import { archiveAll, unarchiveAll } from "./bulk-archive.ts";
import { audited, flagFields } from "./flags.ts";

const keys = z
  .array(key)
  .min(1)
  .max(MAX_FLAGS_AT_ONCE)
  .refine((list) => new Set(list).size === list.length, "A key is there twice.")
  .openapi({ description: `Of at most ${MAX_FLAGS_AT_ONCE} flags` });
const tags = z.array(z.string().min(1).max(MAX_TAG)).min(1).max(MAX_TAGS);
const of = { keys, reason: reason.optional() };

const bulk = z
  .discriminatedUnion("action", [
    z.strictObject({ action: z.literal("addTags"), tags, ...of }),
    z.strictObject({ action: z.literal("removeTags"), tags, ...of }),
    z.strictObject({ action: z.literal("setOwner"), owner: z.string().min(1).max(MAX_NAME).nullable(), ...of }),
    z.strictObject({ action: z.literal("setTemporary"), temporary: z.boolean(), ...of }),
    z.strictObject({ action: z.literal("archive"), ...of }),
    z.strictObject({ action: z.literal("unarchive"), ...of }),
  ])
  .openapi("FlagBulk");
type Bulk = z.infer<typeof bulk>;

const item = z
  .object({
    key,
    outcome: z.enum(["changed", "unchanged", "refused"]),
    etag: z.string().optional().openapi({ description: "Of the flag as it is now" }),
    problem: z
      .object({
        status: z.number().int(),
        code: z.string(),
        detail: z.string(),
        dependents: z.array(z.object({ environment: z.string(), kind: z.string(), key: z.string() })).optional(),
      })
      .optional()
      .openapi({ description: "What the same request for this flag alone would have been answered" }),
  })
  .openapi("BulkItem");

const change = operation({
  id: "changeFlags",
  method: "post",
  path: "/projects/{project}/flags/bulk",
  tag: "flags",
  summary: "Do one thing to many flags at once; each is answered for itself",
  role: "editor",
  body: bulk,
  answer: z.object({ items: z.array(item), environments: z.record(z.string(), delivery).optional() }),
  returns: "What became of each flag, in the order requested",
  example: { action: "addTags", keys: ["new-checkout"], tags: ["payment"], reason: "Owned by payments now" },
  problems: { 403: ["approval-required"], 413: ["change-too-large", "ruleset-too-large"] },
  plan: (requested, now) => planBulk(requested, now),
  // All of it or nothing: what the first flag to which it cannot be done would have been answered alone.
  requestable: (requested, now) => planBulk(requested, now, true),
  respond: ({ body, deliveries }) => ({ ...body, environments: deliveries }),
});

export const flagBulk = [change];

async function planBulk(
  { db, path, body: bulk }: Requested<{ project: string }, Bulk>,
  now: number,
  whole = false,
): Promise<Plan<{ items: z.infer<typeof item>[] }>> {
  const state = await projectOf(db, path.project);
  const rows = new Map((await findFlags(db, state.project.id, bulk.keys)).map((row) => [row.key, row]));
  const { changed, refused, statements, documents } = await planned(db, state, [...rows.values()], bulk, now);
  for (const key of bulk.keys) if (!rows.has(key)) refused.set(key, notFound(`The flag ${state.project.key}/${key}`));
  const [first] = refused.values();
  if (whole && first !== undefined) throw first;
  const nexts = new Map(changed.map(({ next }) => [next.key, next]));
  const items = bulk.keys.map((key) => {
    const problem = refused.get(key);
    if (problem !== undefined) return { key, outcome: "refused" as const, problem: problemOf(problem) };
    const next = nexts.get(key);
    const outcome = next === undefined ? ("unchanged" as const) : ("changed" as const);
    return { key, outcome, etag: etagOf((next ?? rows.get(key)!).version) };
  });
  const [entry, ...others] = changed.map(({ row, next }) => entryOf(state, bulk.action, row, next));
  if (entry === undefined) return { status: 200, body: { items } };
  return {
    status: 200,
    body: { items },
    write: {
      statements: [...updateFlags(db, [...nexts.values()]), ...statements],
      edits:
        documents === null
          ? []
          : state.environments.map((environment) => ({
              name: nameOf(state.project, environment),
              head: headOf(environment),
              documents: { flags: documents(environment.id) },
            })),
      project: state.project,
      audit: entry,
      alsoAudited: others,
    },
  };
}

/** As if it had been changed alone, and so that it can be put back alone. */
function entryOf(state: ProjectState, action: Bulk["action"], row: FlagRow, next: FlagRow) {
  if (action === "archive" || action === "unarchive") return statusEntry(`flag.${action}`, state, row, next);
  const [before, after] = [flagFields(row), flagFields(next)];
  const undo = [{ kind: "flag" as const, key: row.key, environment: "", undo: undoOf(before, after) }];
  return { ...audited("flag.update", state, row.key, difference(before, after)), undo };
}

type Planned = {
  changed: { row: FlagRow; next: FlagRow }[];
  refused: Map<string, ApiError>;
  statements: Statement[];
  /** Null where no client sees any of it. */
  documents: ((environmentId: string) => Record<string, Flag | null>) | null;
};

async function planned(db: Database, state: ProjectState, rows: FlagRow[], bulk: Bulk, now: number): Promise<Planned> {
  const edits = rows.map((row) => {
    return { row, next: edited(row, bulk, now) };
  });
  const open = edits.filter(({ row, next }) => !same(row, next));
  const plan = await judged(
    db,
    state,
    open.map(({ row }) => row),
    bulk,
    now,
  );
  const changed = open
    .filter(({ row }) => !plan.refused.has(row.key))
    .map(({ row, next }) => ({ row, next: { ...next, version: row.version + 1, updatedAt: now } }));
  return { ...plan, changed };
}

/** What of it can be done, among the flags that it would change. */
async function judged(db: Database, state: ProjectState, rows: FlagRow[], bulk: Bulk, now: number) {
  if (rows.length > 0 && bulk.action === "archive") return archiveAll(db, state, rows);
  if (rows.length > 0 && bulk.action === "unarchive") return unarchiveAll(db, state, rows, now);
  const refused = new Map<string, ApiError>();
  for (const row of rows) {
    if (row.archivedAt !== null) refused.set(row.key, conflict("archived", `The flag ${row.key} is archived.`));
    else if (edited(row, bulk, now).tags.length > MAX_TAGS) {
      refused.set(row.key, conflict("too-many-tags", `A flag has at most ${MAX_TAGS} tags.`));
    }
  }
  return { refused, statements: [], documents: null };
}

function edited(row: FlagRow, bulk: Bulk, now: number): FlagRow {
  switch (bulk.action) {
    case "addTags":
      return { ...row, tags: [...new Set([...row.tags, ...bulk.tags])] };
    case "removeTags":
      return { ...row, tags: row.tags.filter((tag) => !bulk.tags.includes(tag)) };
    case "setOwner":
      return { ...row, owner: bulk.owner };
    case "setTemporary":
      return { ...row, temporary: bulk.temporary };
    case "archive":
      return { ...row, archivedAt: row.archivedAt ?? now };
    case "unarchive":
      return { ...row, archivedAt: null };
  }
}

const problemOf = ({ status, code, message: detail, extra }: ApiError) => ({
  status,
  code,
  detail,
  ...(extra.dependents !== undefined && { dependents: extra.dependents as [] }),
});
