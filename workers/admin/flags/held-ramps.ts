/** Ramps whose split somebody else has changed: they are held with that very change, and it says so. */
import type { Flag } from "@bunting/core";
import type { ValidationError } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database, Statement } from "../../store/database.ts";
import { type RampRow, runningRamps, updateRamp } from "../../store/planned/ramps.ts";
import { same } from "../documents/diff.ts";
import { serveAt } from "../documents/targeting.ts";
import type { Audited } from "../write/plan.ts";

export type Held = { statements: Statement[]; warnings: ValidationError[]; audits: Audited[] };

/** Of the ramps that run on this flag, those that `next` takes the split of their step away from. */
export async function heldRamps(
  db: Database,
  { id, project, environment }: EnvironmentName,
  flagId: string,
  next: Flag,
  now: number,
): Promise<Held> {
  const held: Held = { statements: [], warnings: [], audits: [] };
  for (const row of await runningRamps(db, id, flagId)) {
    const rule = row.ruleId === "" ? null : row.ruleId;
    const serve = serveAt(next, rule);
    if (serve !== null && same(serve, row.serves[row.step + 1])) continue;
    const code = serve === null ? "rule-gone" : "edited";
    const detail =
      serve === null
        ? `There is no rule ${row.ruleId}: somebody has removed it.`
        : "Somebody has changed the split since: abort this ramp, and begin another from there.";
    held.statements.push(updateRamp(db, row, heldRow(row, { code, detail, by: null, at: now }, now)));
    held.warnings.push({
      pointer: rule === null ? "/fallthrough" : `/rules/${next.rules.findIndex((one) => one.id === rule)}`,
      code: "ramp-held",
      message: `The ramp ${row.id} moves this split. It is paused and cannot go on from here: abort it, and begin another.`,
    });
    held.audits.push({
      action: "ramp.pause",
      type: "ramp",
      project,
      environment,
      key: row.id,
      ramp: row.id,
      changes: { status: { from: row.status, to: "paused" }, pause: { from: null, to: code } },
    });
  }
  return held;
}

/** The step has its whole time again, whoever lets it go on. */
const heldRow = (row: RampRow, pause: NonNullable<RampRow["pause"]>, now: number): RampRow => ({
  ...row,
  status: "paused",
  nextAt: null,
  remainingMs: row.steps[row.step]?.forMs ?? 0,
  pause,
  attempts: 0,
  version: row.version + 1,
  updatedAt: now,
});
