/** What a change request would do as things are: whom it would affect, what it would change, and what is in its way. */

import { ApiError, conflict } from "../../../platform/problem.ts";
import type { ChangeRequestThere, Subject } from "../../../store/approvals/change-requests.ts";
import type { Approver } from "../../../store/approvals/policy.ts";
import type { Database } from "../../../store/database.ts";
import type { AffectedByChange } from "../../../store/schema/index.ts";
import { baseOf, shownDocument, type Touched } from "../../documents/changed-document.ts";
import { conflictsOf } from "../../documents/conflicts.ts";
import type { Changes } from "../../documents/diff.ts";
import { movedIn, shareMoved } from "../../documents/moved.ts";
import type { z } from "../../http/zod.ts";
import { MAX_CHANGE_BYTES, MAX_REQUESTED_BYTES, MAX_SHOWN, MAX_TAGS_KEPT } from "../../limits.ts";
import { authorThere } from "../../planned/planned.ts";
import { affectedBy, approvalOf, proposedBy, shownGiven, tagsBeforeAndAfter } from "../../write/approval.ts";
import { touchedBy } from "../../write/changed-documents.ts";
import type { Audited, Plan } from "../../write/plan.ts";
import type { Requested, Requester } from "../../write/request.ts";
import { requireRoom } from "../../write/write.ts";
import { statusAfter, verdicts } from "../change-request-state.ts";
import type { changeRequest } from "./representation.ts";
import { type Change, planChange } from "./requested-operation.ts";

/** Where everything is. */
export type Place = Pick<Requested, "env" | "db">;

type ChangeRequestPreview = NonNullable<z.infer<typeof changeRequest>["preview"]>;
type Write = NonNullable<Plan<unknown>["write"]>;

/** What a revision is of, and where its row is found. @throws ApiError where it cannot be done, does nothing, or is too large to keep. */
export async function asOfNow(requester: Requester, project: { id: string; key: string }, change: Change, now: number) {
  const plan = await planChange(change, requester, project.key, now);
  const { write, sources = [] } = plan;
  if (write === undefined) throw conflict("changes-nothing", "That is as it is already.");
  await requireRoom(requester.db, write.edits);
  const touched = await touchedBy(requester.db, plan);
  const base = [...touched.map(baseOf), ...sources];
  if (new TextEncoder().encode(JSON.stringify([change, base])).byteLength > MAX_REQUESTED_BYTES) {
    const detail = `The change, and the documents that it changes, come to more than ${MAX_REQUESTED_BYTES / 1_000} KB: request less at once.`;
    throw new ApiError(413, "change-too-large", detail);
  }
  const environment = write.audit.environment === undefined ? null : proposedBy(write).edits[0]!.name;
  const fields = {
    operation: change.operation,
    path: change.path ?? {},
    environmentId: environment?.id ?? null,
    affected: await affectedOf(requester.db, write),
  };
  return { base, environment, fields, subjects: subjectsOf(touched, auditsOf(write)) };
}

async function affectedOf(db: Database, write: Write): Promise<AffectedByChange> {
  const { edits } = proposedBy(write);
  const affected = (await Promise.all(edits.map((one) => affectedBy(db, one.name, one.documents)))).flat();
  const shares: Record<string, number> = {};
  for (const { environment, share } of affected) shares[environment] = Math.max(shares[environment] ?? 0, share);
  const untagged = auditsOf(write)
    .flatMap(tagsBeforeAndAfter)
    .flatMap(([before, after]) => before.filter((tag) => !after.includes(tag)));
  const kept = (tags: string[]) => [...new Set(tags)].slice(0, MAX_TAGS_KEPT);
  return { shares, tags: kept(affected.flatMap(({ tags }) => tags)), untagged: kept(untagged) };
}

const auditsOf = ({ audit, alsoAudited = [] }: Write): Audited[] => [audit, ...alsoAudited];

function subjectsOf(touched: Touched[], audits: Audited[]): Subject[] {
  const named = audits.flatMap(({ type, key }) => (type === "flag" || type === "segment" ? [{ kind: type, key }] : []));
  const all = [...touched.map(({ kind, key }) => ({ kind, key })), ...named];
  return [...new Map(all.map((one) => [`${one.kind} ${one.key}`, one])).values()];
}

/** Its author, as they are now. @throws ApiError 403 where they may no longer write. */
export async function askingFor({ env, db }: Place, { row }: ChangeRequestThere, now: number): Promise<Requester> {
  const { scope } = await authorThere(db, row.authorId, now);
  return { env, db, scope, by: { actor: row.author, tokenId: row.authorId }, changeRequest: row.id };
}

export async function previewNow(
  place: Place,
  there: ChangeRequestThere,
  approvedBy: Approver[],
  now: number,
): Promise<ChangeRequestPreview> {
  const { row, revision, project, events } = there;
  try {
    const plan = await planChange(revision.change, await askingFor(place, there, now), project.key, now);
    const touched = await touchedBy(place.db, plan);
    const conflicts = conflictsOf(revision.base, touched, plan.sources ?? []);
    const { met, lacking } = await approvalOf(
      place.db,
      proposedBy(plan.write),
      null,
      { tokenId: row.authorId, at: now },
      approvedBy,
    );
    // What it would do is shown all the same: one sees what is to be made smaller.
    const obstacle = await requireRoom(place.db, plan.write?.edits).then(() => null, shownObstacle);
    const inItsWay = conflicts.length + lacking.length + verdicts(events, row.revision).objections.length;
    const moved = movedIn(touched);
    return {
      changes: plan.write === undefined ? {} : changesOf(auditsOf(plan.write)),
      moved,
      share: shareMoved(moved),
      documents: shownTouched(touched),
      conflicts,
      obstacle,
      policies: met.map((one) => ({ ...shownGiven(one), bypassed: false })),
      publishable: statusAfter(row.status, "publish") !== null && obstacle === null && inItsWay === 0,
    };
  } catch (error) {
    const obstacle = shownObstacle(error);
    return {
      changes: {},
      moved: [],
      share: 0,
      documents: [],
      conflicts: [],
      obstacle,
      policies: [],
      publishable: false,
    };
  }
}

/** As one entry would have them. */
function changesOf(audits: Audited[]): Changes {
  if (audits.length === 1) return audits[0]!.changes;
  return Object.fromEntries(
    audits.flatMap(({ type, key, changes }) =>
      Object.entries(changes).map(([path, change]) => [
        // What has an id of its own has another each time that it is looked at.
        type === "flag" || type === "segment" ? `${type}s.${key}.${path}` : `${type}.${path}`,
        change,
      ]),
    ),
  );
}

/** What does not fit into an answer is named, without its text. */
function shownTouched(touched: Touched[]): ChangeRequestPreview["documents"] {
  let left = MAX_CHANGE_BYTES;
  return touched.slice(0, MAX_SHOWN).map((one) => {
    const { environment, kind, key } = one;
    const text = { current: shownDocument(one.before), proposed: shownDocument(one.after) };
    left -= JSON.stringify(text).length;
    return { environment: environment || null, kind, key, ...(left >= 0 && text) };
  });
}

/** Of environments that a reader may not look into: that they would change. `visible` null is all. */
export function previewWithin(preview: ChangeRequestPreview, visible: string[] | null): ChangeRequestPreview {
  const isSeen = ({ environment }: { environment: string | null }) =>
    environment === null || visible === null || visible.includes(environment);
  return {
    ...preview,
    moved: preview.moved.filter(isSeen),
    documents: preview.documents?.map((one) => {
      const { environment, kind, key } = one;
      return isSeen(one) ? one : { environment, kind, key };
    }),
    conflicts: preview.conflicts?.map((one) => {
      const { environment, kind, key, path } = one;
      return isSeen(one) ? one : { environment, kind, key, path };
    }),
  };
}

/** What is the request's own fault is shown; what failed on the way is not. */
function shownObstacle(error: unknown): NonNullable<ChangeRequestPreview["obstacle"]> {
  if (!(error instanceof ApiError) || error.status >= 500) throw error;
  const { code, message: detail, extra } = error;
  return { code, detail, ...(extra.errors && { errors: extra.errors }) };
}
