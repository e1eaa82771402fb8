/** Putting back what an entry of the audit log took away, on top of whatever is there now. */
import type { Flag } from "@bunting/core";
import { conflict, type ValidationError } from "../../platform/problem.ts";
import { type AuditRow, undoOfEntry } from "../../store/audit.ts";
import type { Database } from "../../store/database.ts";
import type { UndoOf } from "../../store/outbox/change.ts";
import type { FieldChange } from "../../store/schema/index.ts";
import { type SegmentFields, segmentFields } from "../documents/segment-fields.ts";
import { shownServe } from "../documents/splits.ts";
import { targetingOf } from "../documents/targeting.ts";
import { revert } from "../documents/undo.ts";
import { planArchive, planRemake, planUnarchive } from "../flags/archive.ts";
import { type DocumentEdit, planDocuments } from "../flags/environment-edit.ts";
import { type FlagFields, flagFields, flagOf, planFlag } from "../flags/flags.ts";
import type { Delivery } from "../write/hub-client.ts";
import { environmentOf, projectOf } from "../write/lookup.ts";
import type { Plan } from "../write/plan.ts";
import type { Requested } from "../write/request.ts";

export type Revert = {
  reverted: number;
  changes: Record<string, FieldChange>;
  warnings: ValidationError[];
  /** The delivery to each environment; empty before the revert is written. */
  environments: Record<string, Delivery>;
};

/** What to do about entries that hold nothing to put back, by action. */
const otherwise: [RegExp, string][] = [
  [/^flag\.kill$/, "A kill is lifted with …/restore."],
  [/^flag\.restore$/, "What was restored can be killed again with …/kill."],
  [/^flag\.(create|revert)$/, "To undo a creation, archive the flag and then delete it."],
  [/^(key|token)\./, "A credential that is gone stays gone: make another one."],
  [/^segment\./, "Members that were uploaded are not in the log: upload them again."],
];

/** @throws ApiError 409 where the entry holds nothing to put back, or something else was written there since. */
export async function planRevert(
  requested: Pick<Requested, "env" | "db">,
  entry: AuditRow,
  force: boolean,
  now: number,
): Promise<Plan<Revert>> {
  const taken = await undoOfEntry(requested.db, entry.id);
  if (taken.length === 0) {
    const advice = otherwise.find(([action]) => action.test(entry.action))?.[1] ?? "Change it by hand.";
    throw conflict("not-revertible", `Entry ${entry.id} (${entry.action}) cannot be reverted. ${advice}`);
  }
  const { status, body, write } = await (entry.environment === null
    ? planProject(requested.db, entry, taken, force, now)
    : planEnvironment(requested, entry, entry.environment, taken, force, now));
  const warnings = "warnings" in body ? body.warnings : [];
  const answer = { reverted: entry.id, changes: write?.audit.changes ?? {}, warnings, environments: {} };
  if (write === undefined) return { status, body: answer };
  const audit = { ...write.audit, action: `${write.audit.type}.revert`, reverts: entry.id };
  return { status, body: answer, write: { ...write, audit } };
}

async function planEnvironment(
  { env, db }: Pick<Requested, "env" | "db">,
  entry: AuditRow,
  environmentKey: string,
  taken: UndoOf[],
  force: boolean,
  now: number,
) {
  const path = { project: entry.project ?? "", environment: environmentKey };
  const environment = await environmentOf({ env, db, path });
  const edits = taken.map((one): DocumentEdit => {
    if (one.kind === "flag") {
      return {
        kind: "flag",
        key: one.key,
        edit: (flag) => ({ ...flag, ...putBack(one, targetingOf(flag), force, shownTargetingOf) }),
      };
    }
    return {
      kind: "segment",
      key: one.key,
      edit: (segment) =>
        putBack(one, segment && segmentFields(segment), force, (fields) => fields) as SegmentFields | null,
    };
  });
  return planDocuments(db, environment, { edits, verb: "revert" }, now);
}

async function planProject(db: Database, entry: AuditRow, taken: UndoOf[], force: boolean, now: number) {
  const state = await projectOf(db, entry.project ?? "", entry.key);
  const [whole] = taken;
  if (whole === undefined || entry.action === "flag.delete") return planRemake(db, state, taken, now);
  const row = flagOf(state, entry.key);
  const before = { ...flagFields(row), archivedAt: row.archivedAt };
  const next = putBack(whole, before, force, (fields) => fields) as typeof before;
  if (row.archivedAt === null && next.archivedAt !== null) return planArchive(db, state, row.key, now);
  if (row.archivedAt !== null && next.archivedAt === null) return planUnarchive(db, state, row.key, now);
  const { archivedAt: _, ...fields } = next;
  return planFlag(db, state, row.key, fields satisfies FlagFields, now);
}

type Fields = Record<string, unknown>;

/** @throws ApiError 409 with both versions where others have written there since. */
function putBack<T extends Fields>(one: UndoOf, document: T | null, force: boolean, shown: (fields: Fields) => Fields) {
  const { next, conflicts } = revert(one.undo, document, force);
  if (conflicts.length === 0) return next;
  const forced = force ? null : revert(one.undo, document, true).next;
  const lost = conflicts.some(({ gone }) => gone);
  throw conflict(
    "changed-since",
    `The ${one.kind} ${one.key} has been changed there since. ${lost ? "Part of it is gone." : "To overwrite that, send ?force=true."}`,
    { conflicts, current: document && shown(document), proposed: forced && shown(forced) },
  );
}

const shownTargetingOf = (fields: Fields): Fields => {
  const { rules, fallthrough, ...rest } = fields as ReturnType<typeof targetingOf>;
  const shownRules = rules.map((rule: Flag["rules"][number]) => ({ ...rule, serve: shownServe(rule.serve) }));
  return { ...rest, rules: shownRules, fallthrough: shownServe(fallthrough) };
};
