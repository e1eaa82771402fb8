/** One change request: what it would do now, what each step makes of it, and publishing it as one ordinary write. */
import type { z } from "@hono/zod-openapi";
import { ApiError, conflict } from "../problem.ts";
import {
  type ChangeRequestThere,
  findTokens,
  type NewChangeRequest,
  stepStatements,
} from "../store/change-requests.ts";
import type { EnvironmentName } from "../store/credentials.ts";
import type { Database } from "../store/database.ts";
import { type Approver, isAtLeast } from "../store/policy.ts";
import type { ChangeRequestEventKind, FieldChange } from "../store/schema.ts";
import { isInScope } from "./access.ts";
import { affectedBy, approvalOf, proposedBy, shownGiven } from "./approval.ts";
import { type changeRequest, shownRow, shownSaid } from "./change-request-shape.ts";
import { statusAfter, verdicts } from "./change-request-state.ts";
import { conflictsBetween } from "./conflicts.ts";
import { MAX_EVENTS } from "./limits.ts";
import { planTargeting, type TargetingEdit } from "./targeting-edit.ts";
import { type Audited, etagOf, type Plan } from "./write.ts";

export type ShownChangeRequest = z.infer<typeof changeRequest>;
type Outlook = NonNullable<ShownChangeRequest["outlook"]>;

/** Who takes a step. */
export type Actor = { id: string; name: string };

export type Step = {
  kind: Exclude<ChangeRequestEventKind, "open">;
  comment?: string | undefined;
  fields?: Partial<NewChangeRequest>;
};

/** The event, what becomes of the row, and the entry of the audit log. @throws ApiError 409 where its state does not allow it. */
function stepOf(db: Database, there: ChangeRequestThere, actor: Actor, step: Step, now: number) {
  const { row, environment } = there;
  const status = statusAfter(row.status, step.kind);
  if (status === null) {
    throw conflict("wrong-state", `A change request that is ${row.status} takes no ${step.kind}.`, {
      changeRequestStatus: row.status,
    });
  }
  // What ends it is never refused for its length.
  if (row.version >= MAX_EVENTS && !["withdraw", "publish", "fail"].includes(step.kind)) {
    throw conflict("too-many-events", `So much has happened to it (${MAX_EVENTS} times): open another.`);
  }
  const fields = { ...step.fields, id: row.id, status };
  const event = {
    changeRequestId: row.id,
    version: row.version + 1,
    kind: step.kind,
    revision: fields.revision ?? row.revision,
    actorId: actor.id,
    actor: actor.name,
    comment: step.comment ?? null,
    at: now,
  };
  const changes: Record<string, FieldChange> = {
    ...(status !== row.status && { status: { from: row.status, to: status } }),
    ...(event.revision !== row.revision && { revision: { from: row.revision, to: event.revision } }),
    ...(event.comment !== null && { comment: { to: event.comment } }),
    ...(step.kind === "approve" && { approved: { to: event.revision } }),
  };
  const next: ChangeRequestThere = {
    ...there,
    row: { ...row, ...fields, version: event.version, updatedAt: now },
    events: [...there.events, event],
  };
  return {
    next,
    statements: stepStatements(db, event, fields),
    audit: auditedStep(environment, row.id, step.kind, changes),
  };
}

export const auditedStep = (
  { project, environment }: EnvironmentName,
  id: string,
  kind: ChangeRequestEventKind,
  changes: Record<string, FieldChange>,
): Audited => ({
  action: `change-request.${kind}`,
  type: "change-request",
  project,
  environment,
  key: id,
  changes,
  changeRequest: id,
});

/** What an edit would do to the flag as it is now: its base. @throws ApiError where it cannot be done, or does nothing. */
export async function asOfNow(
  db: Database,
  environment: EnvironmentName,
  flag: string,
  edit: TargetingEdit,
  now: number,
) {
  const { before: base, write } = await planTargeting(db, environment, flag, edit, now);
  if (write === undefined) throw conflict("changes-nothing", "The flag is served like that already.");
  const affected = await affectedBy(db, environment, write.edits?.[0]?.documents ?? {});
  return {
    base,
    share: Math.max(0, ...affected.map(({ share }) => share)),
    tags: [...new Set(affected.flatMap(({ tags }) => tags))],
  };
}

/** A step that writes nothing but itself. */
export async function planStep(
  db: Database,
  there: ChangeRequestThere,
  actor: Actor,
  step: Step,
  now: number,
): Promise<Plan<ShownChangeRequest>> {
  const { next, statements, audit } = stepOf(db, there, actor, step, now);
  return {
    status: 200,
    body: await shownChangeRequest(db, next, now),
    etag: etagOf(next.row.version),
    write: { statements, audit },
  };
}

/**
 * Publishing what is published changes nothing.
 * @throws ApiError 409 for its state, for conflicts, for changes that somebody asked for, and whatever the edit throws.
 * Whether it has its approvals is asked by the write itself.
 */
export async function planPublication(
  db: Database,
  there: ChangeRequestThere,
  actor: Actor,
  now: number,
): Promise<Plan<ShownChangeRequest>> {
  const { row, revision, environment, events } = there;
  if (row.status === "published") {
    return { status: 200, body: await shownChangeRequest(db, there, now), etag: etagOf(row.version) };
  }
  const step = stepOf(db, there, actor, { kind: "publish", fields: { publishedAt: now, failure: null } }, now);
  const { objections } = verdicts(events, row.revision);
  if (objections.length > 0) {
    const by = objections.map(({ actor }) => actor).join(", ");
    throw conflict("changes-requested", `${by} asked for changes: edit it, or have it approved.`);
  }
  const plan = await planTargeting(db, environment, row.flagKey, revision.edit as TargetingEdit, now);
  const conflicts = conflictsBetween(revision.base, plan.before, plan.next);
  if (conflicts.length > 0) {
    const detail = "Something that it changes has been changed since. Look at both, then rebase it, or edit it.";
    throw conflict("change-request-conflicts", detail, { conflicts });
  }
  return {
    status: 200,
    body: await shownChangeRequest(db, step.next, now),
    etag: etagOf(step.next.row.version),
    write: {
      statements: [...step.statements, ...(plan.write?.statements ?? [])],
      edits: plan.write?.edits ?? [],
      // The flag's own entry comes first: it is what can be reverted.
      audit: plan.write === undefined ? step.audit : { ...plan.write.audit, changeRequest: row.id },
      alsoAudited: plan.write === undefined ? [] : [step.audit],
      approvedBy: await approversOf(db, there),
    },
  };
}

/** Who has approved of it as it is, as far as they still may: whose token is revoked or has lost its role or scope may not. */
async function approversOf(db: Database, { row, events, environment }: ChangeRequestThere): Promise<Approver[]> {
  const { approvals } = verdicts(events, row.revision);
  if (approvals.length === 0) return [];
  const tokens = await findTokens(
    db,
    approvals.map(({ actorId }) => actorId),
  );
  return tokens.filter(
    ({ id, revokedAt, role, scope }) =>
      id !== row.authorId &&
      revokedAt === null &&
      isAtLeast(role, "approver") &&
      isInScope(scope, environment.project, environment.environment),
  );
}

export async function shownChangeRequest(
  db: Database,
  there: ChangeRequestThere,
  now: number,
): Promise<ShownChangeRequest> {
  const { row, revision, events, environment } = there;
  const { approvals, objections } = verdicts(events, row.revision);
  const isOver = row.status === "published" || row.status === "withdrawn";
  return {
    ...shownRow(environment, row),
    ...(revision.edit as Pick<ShownChangeRequest, "instructions" | "fields">),
    approvals: approvals.map(shownSaid),
    objections: objections.map(shownSaid),
    outlook: isOver ? null : await outlookOf(db, there, objections.length, now),
  };
}

async function outlookOf(db: Database, there: ChangeRequestThere, objections: number, now: number): Promise<Outlook> {
  const { row, revision, environment } = there;
  const baseVersion = revision.base.version;
  const nothing = { baseVersion, changes: {}, moved: [], conflicts: [], policies: [], publishable: false };
  try {
    const unchanged = { instructions: [] };
    const [{ body: current }, plan] = await Promise.all([
      planTargeting(db, environment, row.flagKey, unchanged, now),
      planTargeting(db, environment, row.flagKey, revision.edit as TargetingEdit, now).catch(obstacle),
    ]);
    if (plan instanceof ApiError) return { ...nothing, current, proposed: null, obstacle: shownObstacle(plan) };
    const { warnings: _, ...proposed } = plan.body;
    const { met, lacking } = await approvalOf(db, proposedBy(plan.write), null, await approversOf(db, there));
    const conflicts = conflictsBetween(revision.base, plan.before, plan.next);
    return {
      baseVersion,
      current,
      proposed,
      changes: plan.changes,
      moved: plan.moved,
      conflicts,
      obstacle: null,
      policies: met.map(shownGiven),
      publishable: statusAfter(row.status, "publish") !== null && conflicts.length + lacking.length + objections === 0,
    };
  } catch (error) {
    return { ...nothing, current: null, proposed: null, obstacle: shownObstacle(obstacle(error)) };
  }
}

/** What is the request's own fault is shown; what failed on the way is not. */
function obstacle(error: unknown): ApiError {
  if (error instanceof ApiError && error.status < 500) return error;
  throw error;
}

const shownObstacle = ({ code, message, extra }: ApiError): NonNullable<Outlook["obstacle"]> => ({
  code,
  detail: message,
  ...(extra.errors && { errors: extra.errors }),
});
