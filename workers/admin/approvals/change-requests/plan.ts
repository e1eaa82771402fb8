/** One change request: what it would do now, what each step makes of it, and publishing it as one ordinary write. */

import { conflict } from "../../../platform/problem.ts";
import {
  type ChangeRequestThere,
  insertRevision,
  type NewChangeRequest,
  stepStatements,
} from "../../../store/approvals/change-requests.ts";
import type { Approver } from "../../../store/approvals/policy.ts";
import type { Database } from "../../../store/database.ts";
import type { ChangeRequestEventKind, FieldChange } from "../../../store/schema/index.ts";
import { conflictsOf } from "../../documents/conflicts.ts";
import { etagOf } from "../../http/if-match.ts";
import type { z } from "../../http/zod.ts";
import { MAX_EVENTS } from "../../limits.ts";
import { touchedBy } from "../../write/changed-documents.ts";
import type { Audited, Plan } from "../../write/plan.ts";
import type { Requester } from "../../write/request.ts";
import { approversOf } from "../approvers.ts";
import { statusAfter, verdicts } from "../change-request-state.ts";
import { askingFor, asOfNow, type Place, previewNow } from "./preview.ts";
import { type changeRequest, shownRow, shownSaid } from "./representation.ts";
import { type Change, planChange } from "./requested-operation.ts";

export type ShownChangeRequest = z.infer<typeof changeRequest>;

/** Who takes a step. */
export type Actor = { id: string; name: string };
export const actorOf = ({ by }: Pick<Requester, "by">): Actor => ({ id: by.tokenId ?? "", name: by.actor });

export type Step = {
  kind: Exclude<ChangeRequestEventKind, "open">;
  comment?: string | undefined;
  fields?: Partial<NewChangeRequest>;
};

/** The event, what becomes of the row, and the entry of the audit log. @throws ApiError 409 where its state does not allow it. */
function stepOf(db: Database, there: ChangeRequestThere, actor: Actor, step: Step, now: number) {
  const { row } = there;
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
  const planned = step.kind === "submit" ? { publishAt: stillMeant(row, now) } : {};
  const fields = { ...planned, ...step.fields, id: row.id, status };
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
    audit: auditedStep(there, row.id, step.kind, changes),
  };
}

/** A time that is over is not meant any more: somebody publishes it. */
const stillMeant = ({ publishAt }: Pick<ChangeRequestThere["row"], "publishAt">, now: number): number | null =>
  publishAt !== null && publishAt <= now ? null : publishAt;

export const auditedStep = (
  { project, environment }: Pick<ChangeRequestThere, "project" | "environment">,
  id: string,
  kind: ChangeRequestEventKind,
  changes: Record<string, FieldChange>,
): Audited => ({
  action: `change-request.${kind}`,
  type: "change-request",
  project: project.key,
  ...(environment && { environment: environment.environment }),
  key: id,
  changes,
  changeRequest: id,
});

/** A step that writes nothing but itself. */
export async function planStep(
  place: Place,
  there: ChangeRequestThere,
  actor: Actor,
  step: Step,
  now: number,
): Promise<Plan<ShownChangeRequest>> {
  const { next, statements, audit } = stepOf(place.db, there, actor, step, now);
  const { status, publishAt, version } = next.row;
  return {
    status: 200,
    body: await shownChangeRequest(place, next, now),
    etag: etagOf(version),
    wakeAt: status === "open" ? publishAt : null,
    write: { statements, audit },
  };
}

/** Asks for it anew, as of now: approvals were of what it was before. @throws ApiError whatever the write itself would throw. */
export async function planRevision(
  place: Place,
  there: ChangeRequestThere,
  requester: Pick<Requester, "by" | "scope">,
  change: Change,
  step: Step,
  { changes = {}, now }: { changes?: Record<string, FieldChange>; now: number },
): Promise<Plan<ShownChangeRequest>> {
  const { row, project } = there;
  const { by, scope } = requester;
  const { base, environment, fields, subjects } = await asOfNow({ ...place, by, scope }, project, change, now);
  const revision = { changeRequestId: row.id, revision: row.revision + 1, change, base, createdAt: now };
  const anew = {
    ...fields,
    revision: revision.revision,
    failure: null,
    attempts: 0,
    publishAt: stillMeant(row, now),
  };
  const next = { ...step, fields: { ...anew, ...step.fields } };
  const plan = await planStep(place, { ...there, revision, environment }, actorOf(requester), next, now);
  const { statements, audit } = plan.write!;
  return {
    ...plan,
    write: {
      statements: [...statements, ...insertRevision(place.db, project.id, revision, subjects)],
      audit: { ...audit, changes: { ...audit.changes, ...changes } },
    },
  };
}

/**
 * Its author's write, with who has approved of it. Publishing what is published changes nothing.
 * @throws ApiError 409 for its state, for conflicts, for changes that somebody asked for, 403 where its author may no longer
 * write, and whatever the write itself throws. Whether it has its approvals is asked where everything is written.
 */
export async function planPublication(
  place: Place,
  there: ChangeRequestThere,
  actor: Actor,
  now: number,
): Promise<Plan<ShownChangeRequest>> {
  const { row, revision, events, project } = there;
  if (row.status === "published") {
    return { status: 200, body: await shownChangeRequest(place, there, now), etag: etagOf(row.version) };
  }
  const step = stepOf(place.db, there, actor, { kind: "publish", fields: { publishedAt: now, failure: null } }, now);
  const { objections } = verdicts(events, row.revision);
  if (objections.length > 0) {
    const by = objections.map(({ actor }) => actor).join(", ");
    throw conflict("changes-requested", `${by} requested changes: edit the change request, or have it approved.`);
  }
  const plan = await planChange(revision.change, await askingFor(place, there, now), project.key, now);
  const conflicts = conflictsOf(revision.base, await touchedBy(place.db, plan), plan.sources ?? []);
  if (conflicts.length > 0) {
    const detail = "Something that it changes has been changed since. Look at both, then rebase it, or edit it.";
    throw conflict("change-request-conflicts", detail, { conflicts });
  }
  const approvedBy = await approversOf(place.db, there);
  const published = { ...step.audit, changes: { ...step.audit.changes, ...approved(approvedBy) } };
  const { audit, alsoAudited = [], ...write } = plan.write ?? { statements: [], audit: null };
  const by = actor.id === row.authorId ? {} : { by: BY_AUTHOR(row) };
  const theirs = [audit ?? [], alsoAudited].flat().map((entry) => ({ ...entry, ...by, changeRequest: row.id }));
  // The documents' own entries come first: they are what can be reverted.
  const [first = published, ...others] = [...theirs, published];
  return {
    status: 200,
    body: await shownChangeRequest(place, step.next, now),
    etag: etagOf(step.next.row.version),
    wakeAt: plan.wakeAt ?? null,
    write: {
      ...write,
      statements: [...step.statements, ...write.statements],
      audit: first,
      alsoAudited: others,
      approvedBy,
    },
  };
}

/** Somebody else publishes what the author has asked for: from where the author did is not known. */
const BY_AUTHOR = ({ authorId, author }: ChangeRequestThere["row"]): Audited["by"] & object => ({
  actor: author,
  tokenId: authorId,
  sourceIp: null,
  userAgent: null,
});

const approved = (by: (Approver & { name: string })[]): Record<string, FieldChange> =>
  by.length === 0 ? {} : { approvedBy: { to: by.map(({ id, name }) => ({ id, name })) } };

export async function shownChangeRequest(
  place: Place,
  there: ChangeRequestThere,
  now: number,
): Promise<ShownChangeRequest> {
  const { row, revision, events, project, environment } = there;
  const { approvals, objections } = verdicts(events, row.revision);
  const isOver = row.status === "published" || row.status === "withdrawn";
  return {
    ...shownRow({ project: project.key, environment: environment?.environment ?? null }, row),
    change: revision.change,
    approvals: approvals.map(shownSaid),
    objections: objections.map(shownSaid),
    preview: isOver ? null : await previewNow(place, there, await approversOf(place.db, there), now),
  };
}
