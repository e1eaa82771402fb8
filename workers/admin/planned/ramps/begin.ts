/** Beginning a ramp: its first step now, and the right to all of them. */

import { type ApiError, badRequest, conflict, type ValidationError } from "../../../platform/problem.ts";
import { newId } from "../../../platform/random-id.ts";
import type { FlagThere } from "../../../store/flags/flags.ts";
import * as store from "../../../store/planned/ramps.ts";
import { difference } from "../../documents/diff.ts";
import { serveAt } from "../../documents/targeting.ts";
import { asSeen, flagThere, planTargeting, ruleGone } from "../../flags/targeting-edit.ts";
import { etagOf } from "../../http/if-match.ts";
import { lastKillOf } from "../../write/hub-client.ts";
import { NO_APPROVAL, previewOf } from "../../write/preview.ts";
import type { Requested } from "../../write/request.ts";
import { environmentInBody } from "../planned.ts";
import { type NewRamp, shownRamp, stepsOf } from "./representation.ts";
import { servesOf, weightsServed } from "./served-splits.ts";
import { begun } from "./state.ts";
import { auditedRamp } from "./write.ts";

/** @throws ApiError 403, 404, 400 for steps that do not fit, 409 for a flag that is off, killed or archived, and for another ramp. */
export async function planStart(requested: Requested<{ project: string }, NewRamp>, now: number) {
  const { db, env, body: sent, by, changeRequest = null } = requested;
  const environment = await environmentInBody(requested);
  const { flag: flagKey, rule = null, others = null, variation, guards = [], reason = requested.reason } = sent;
  const steps = stepsOf(sent.steps);
  const there = await flagThere(db, environment, flagKey);
  const { flag, configuration } = there;
  const { kill } = await lastKillOf(env, environment, flagKey, there.kill);
  requireServing(there, kill);
  const began = serveAt(configuration, rule);
  if (began === null) throw ruleGone(rule!);
  const other = await store.rampAt(db, environment.id, flag.id, rule ?? "");
  if (other !== undefined) throw atWork(other);
  requireFit(sent, there, weightsServed(began));
  const serves = servesOf(began, { variation, others, steps }, flag);
  const seen = asSeen(configuration.version);
  const placed = (serve = began) => ({ placed: { rule, serve } });
  // Whole before its first step: what its last one would not be allowed to do is refused now.
  const whole = await planTargeting(db, environment, flagKey, placed(serves.at(-1)), now, seen);
  const first = await planTargeting(db, environment, flagKey, placed(serves[1]), now, seen);
  const row: store.RampRow = {
    ...begun(steps, now),
    id: newId("rmp"),
    projectId: environment.projectId,
    environmentId: environment.id,
    flagId: flag.id,
    flagKey,
    ruleId: rule ?? "",
    variation,
    others,
    guards,
    serves,
    reason: reason ?? null,
    killSeq: kill?.seq ?? 0,
    restored: null,
    actor: by.actor,
    tokenId: by.tokenId,
    changeRequestId: changeRequest,
    attempts: 0,
    version: 1,
    createdAt: now,
    updatedAt: now,
  };
  const planned = { flag: flagKey, rule, variation, others, steps, guards };
  const preview = await previewOf(db, whole, NO_APPROVAL);
  return {
    status: 201 as const,
    body: {
      ...shownRamp({ ...row, environment: environment.environment }),
      warnings: whole.body.warnings ?? [],
      preview,
    },
    etag: etagOf(row.version),
    wakeAt: row.nextAt,
    write: {
      edits: first.write?.edits ?? [],
      finalEdits: whole.write?.edits ?? [],
      statements: [...(first.write?.statements ?? []), store.insertRamp(db, row)],
      audit: auditedRamp("ramp.create", environment, row, difference({}, planned)),
      alsoAudited: first.write === undefined ? [] : [{ ...first.write.audit, ramp: row.id }],
    },
  };
}

function requireServing({ flag, configuration }: FlagThere, kill: { killed: boolean } | null): void {
  if (flag.archivedAt !== null) throw conflict("archived", `The flag ${flag.key} is archived.`);
  if (kill?.killed) throw conflict("killed", `The flag ${flag.key} is killed: restore it first.`);
  if (!configuration.on) throw conflict("flag-off", `The flag ${flag.key} is off: turn it on first.`);
}

/** Variations of the flag, and weights that it can grow to from what it has. */
function requireFit({ variation, others = [], steps }: NewRamp, { flag }: FlagThere, present: Record<string, number>) {
  const errors: ValidationError[] = [];
  const addError = (pointer: string, code: string, message: string) => errors.push({ pointer, code, message });
  const isKnown = (key: string) => flag.variations.some((one) => one.key === key);
  if (!isKnown(variation)) addError("/variation", "unknown-variation", `The flag has no variation ${variation}.`);
  others.forEach((key, index) => {
    if (!isKnown(key)) addError(`/others/${index}`, "unknown-variation", `The flag has no variation ${key}.`);
    if (key === variation)
      addError(`/others/${index}`, "grows", `${key} is the ramp's own variation and cannot be among the others.`);
    if (others.indexOf(key) < index) addError(`/others/${index}`, "twice", `${key} is listed twice.`);
  });
  const has = (key: string) => (Object.hasOwn(present, key) ? present[key]! : 0);
  const last = steps.at(-1)?.weight ?? 0;
  if ((steps[0]?.weight ?? 0) <= has(variation)) {
    const message = `The first step must be larger than ${has(variation)} thousandths of a percent, which ${variation} has already.`;
    addError("/steps/0/weight", "not-larger", message);
  }
  const room = has(variation) + [...new Set(others)].reduce((sum, key) => sum + has(key), 0);
  if (others.length > 0 && last > room) {
    addError("/others", "too-little", `Together with what ${variation} has they come to ${room}, and not to ${last}.`);
  }
  if (errors.length > 0) throw badRequest("The ramp does not fit the flag; each error is listed.", errors);
}

function atWork({ id, status }: store.RampRow): ApiError {
  const detail = `The ramp ${id} is ${status} there: abort it first, or let it finish.`;
  return conflict("ramp-at-work", detail, { ramp: id });
}
