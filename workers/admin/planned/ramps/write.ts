/** A ramp's step, and all else that becomes of it, as one write: the split and the ramp's row change together or not at all. */

import type { Env } from "../../../env.ts";
import { ApiError, conflict, unavailable } from "../../../platform/problem.ts";
import type { EnvironmentName } from "../../../store/credentials.ts";
import type { Database } from "../../../store/database.ts";
import { type FlagThere, flagIn } from "../../../store/flags/flags.ts";
import { type Ramped, type RampRow, updateRamp } from "../../../store/planned/ramps.ts";
import type { PlanFailure } from "../../../store/schema/index.ts";
import { approversBy } from "../../approvals/approvers.ts";
import { difference, same } from "../../documents/diff.ts";
import { serveAt } from "../../documents/targeting.ts";
import { asSeen, planTargeting } from "../../flags/targeting-edit.ts";
import { etagOf } from "../../http/if-match.ts";
import { lastKillOf } from "../../write/hub-client.ts";
import type { Audited, Origin, Plan } from "../../write/plan.ts";
import { shownRamp } from "./representation.ts";
import { decide, isOver, type RampEvent, type RampState } from "./state.ts";

type Shown = ReturnType<typeof shownRamp>;

/**
 * A tick that meets what it must not write over holds the ramp instead.
 * @throws ApiError 503 for a step while the hub does not say whether the flag is killed, 409 for what a person asks and cannot be done; what the step itself would be answered with.
 */
export async function planRamp(
  { db, env }: { db: Database; env: Env },
  { row, environment }: Ramped,
  wanted: RampEvent,
  now: number,
  by?: Pick<Origin, "actor" | "tokenId">,
): Promise<Plan<Shown>> {
  const there = await flagIn(db, environment.projectId, environment.id, row.flagKey);
  const ticks = wanted.kind === "tick";
  const { kill, isFromHub } = await lastKillOf(env, environment, row.flagKey, there?.kill ?? null);
  const obstacle = obstacleOf(row, there, kill, ticks);
  const event: RampEvent =
    ticks && obstacle !== null ? { kind: "hold", pause: { ...obstacle, by: null, at: now } } : wanted;
  const decision = decide(row, event, now);
  if ("refused" in decision) throw refusal(decision.refused, row);
  const shown = (one: RampRow) => shownRamp({ ...one, environment: environment.environment });
  if ("unchanged" in decision) return { status: 200, body: shown(row), etag: etagOf(row.version) };
  // It could be killed, and D1 not know it yet.
  if (event.kind === "tick" && !isFromHub) throw unavailable("The environment's hub does not answer.");
  const next: RampRow = { ...row, ...decision.next, attempts: 0, version: row.version + 1, updatedAt: now };
  if (event.kind === "resume" || event.kind === "jump") {
    if (obstacle !== null) throw conflict(obstacle.code, obstacle.detail);
    // Whoever lets it go on answers for its next steps.
    Object.assign(next, {
      killSeq: kill?.seq ?? 0,
      actor: by?.actor ?? row.actor,
      tokenId: by?.tokenId ?? row.tokenId,
    });
  }
  // Somebody's own change of the split stays: a ramp never fights. Going back does no harm while nobody sees it.
  if (event.kind === "abort") next.restored = obstacle === null || ["flag-off", "killed"].includes(obstacle.code);
  const serve = decision.serve === undefined || next.restored === false ? undefined : row.serves[decision.serve];
  const placed = serve && { rule: row.ruleId === "" ? null : row.ruleId, serve };
  const split =
    placed &&
    (await planTargeting(db, environment, row.flagKey, { placed }, now, asSeen(there?.configuration.version)));
  return {
    status: 200,
    body: shown(next),
    etag: etagOf(next.version),
    wakeAt: next.nextAt,
    write: {
      edits: split?.write?.edits ?? [],
      isRollback: event.kind === "abort",
      approvedBy: split === undefined ? [] : await approversBy(db, row.changeRequestId),
      statements: [...(split?.write?.statements ?? []), updateRamp(db, row, next)],
      audit: auditedRamp(actionOf(event, next), environment, row, difference(auditable(row), auditable(next))),
      alsoAudited: split?.write === undefined ? [] : [{ ...split.write.audit, ramp: row.id }],
    },
  };
}

/** What there is now that a ramp must not write over, or that nobody would see. Null: what it wrote last is served. */
function obstacleOf(
  row: RampRow,
  there: FlagThere | null,
  kill: { seq: number; killed: boolean } | null,
  ticks: boolean,
): PlanFailure | null {
  if (there === null || there.flag.id !== row.flagId)
    return failure("flag-gone", `The flag ${row.flagKey} was deleted.`);
  const { flag, configuration } = there;
  if (flag.archivedAt !== null) return failure("archived", `The flag ${row.flagKey} is archived.`);
  const serve = serveAt(configuration, row.ruleId === "" ? null : row.ruleId);
  if (serve === null) return failure("rule-gone", `There is no rule ${row.ruleId}: somebody has removed it.`);
  if (!same(serve, row.serves[row.step + 1])) {
    return failure("edited", "Somebody has changed the split since: abort this ramp, and begin another from there.");
  }
  // A kill that is over holds a ramp too; not whoever has looked at it and goes on.
  if (ticks ? (kill?.seq ?? 0) > row.killSeq : kill?.killed)
    return failure("killed", `The flag ${row.flagKey} was killed.`);
  return configuration.on ? null : failure("flag-off", `The flag ${row.flagKey} is off: nobody would see a step.`);
}

const failure = (code: string, detail: string): PlanFailure => ({ code, detail });

export const auditedRamp = (
  action: string,
  { project, environment }: EnvironmentName,
  { id }: Pick<RampRow, "id">,
  changes: Audited["changes"],
): Audited => ({ action, type: "ramp", project, environment, key: id, changes, ramp: id });

const ACTIONS = {
  tick: "step",
  hold: "pause",
  pause: "pause",
  resume: "resume",
  jump: "jump",
  abort: "abort",
} as const;

const actionOf = ({ kind }: RampEvent, { status }: RampState) =>
  `ramp.${kind === "tick" && status === "finished" ? "finish" : ACTIONS[kind]}`;

const auditable = ({ status, step, pause, restored }: RampRow) => ({
  status,
  step,
  pause: pause?.code ?? null,
  restored,
});

function refusal(code: "ramp-ended" | "no-such-step", row: RampRow): ApiError {
  if (code === "ramp-ended" && isOver(row)) return conflict(code, `It is ${row.status}: begin another.`);
  const message = `It has the steps 0 to ${row.steps.length - 1}.`;
  return new ApiError(400, "invalid-request", "There is no such step.", {
    errors: [{ pointer: "/step", code, message }],
  });
}
