/** Whether a write may be made: which policies it meets, and whether those who they name have approved of it. */
import type { Segment } from "@bunting/core";
import { ApiError } from "../../platform/problem.ts";
import { insertMoved, type Moved, movedSince } from "../../store/approvals/moved-shares.ts";
import { editPolicies, flagsReached, policiesOf, policiesUnchanged } from "../../store/approvals/policies.ts";
import {
  type Affected,
  type Approver,
  type Given,
  given,
  isEscaped,
  isExempt,
  isMet,
  lacking,
  type PolicyRow,
} from "../../store/approvals/policy.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database, Statement } from "../../store/database.ts";
import { documentsThere } from "../../store/documents.ts";
import type { Documents } from "../../store/outbox/change.ts";
import type { DocumentKind, Role } from "../../store/schema/index.ts";
import { same } from "../documents/diff.ts";
import { listedInFlag, listedInSegment, shareOfAll, shareOfFlag, shareOfSegment } from "../documents/impact.ts";
import { key } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { approvers } from "./approver.ts";
import type { Audited, Plan } from "./plan.ts";

/** What a write is about to change, as a plan has it. */
export type Proposed = {
  edits: { name: EnvironmentName; documents: Partial<Documents> }[];
  audits: Audited[];
  projectId?: string | undefined;
};

/** `write` of a plan; nothing where it changes nothing. */
export const proposedBy = (write: Plan<unknown>["write"]): Proposed => ({
  edits: write?.finalEdits ?? write?.edits ?? [],
  audits: write === undefined ? [] : [write.audit, ...(write.alsoAudited ?? [])],
  projectId: write?.project?.id,
});

/** One policy and how far it is satisfied. */
export const policyMet = z
  .object({
    key,
    name: z.string(),
    approvers,
    approvals: z.number().int(),
    given: z.number().int(),
  })
  .openapi("PolicyMet");

/** Policies that a change meets and that are still to be satisfied, and those that the caller may do without. */
export type Approval = {
  met: Given<PolicyRow>[];
  lacking: Given<PolicyRow>[];
  bypassed: PolicyRow[];
  /** To be written in the same transaction, so that it is about the policies and tags that are in force then. */
  guard: (now: number) => Statement[];
};

/** Whose change it is, and when: what they have moved within a day before counts with it. */
export type By = { tokenId: string | null; at: number };

const DAY_MS = 24 * 60 * 60_000;

/** `role` is the caller's own, null where nobody is asking any more. */
export async function approvalOf(
  db: Database,
  proposed: Proposed,
  role: Role | null,
  by: By,
  approvedBy: Approver[] = [],
): Promise<Approval> {
  const touched = proposed.edits.filter(({ documents: { flags = {}, segments = {} } }) => holdsAny(flags, segments));
  const retagged = proposed.audits.flatMap(tagsBeforeAndAfter);
  const projectId = touched[0]?.name.projectId ?? proposed.projectId;
  if (projectId === undefined || (touched.length === 0 && retagged.length === 0)) return NONE;
  const there = await policiesOf(db, projectId);
  // Another tag brings other policies, which whoever was validated before has not looked at.
  const guard = (now: number) => [
    policiesUnchanged(db, there),
    ...(retagged.length > 0 ? [editPolicies(db, there, now)] : []),
  ];
  const enabled = there.policies.filter((policy) => policy.enabled);
  const affected = await Promise.all(
    touched
      .filter(({ name }) => enabled.some(({ environments }) => isAmong(environments, name.environment)))
      .map(({ name, documents }) => affectedBy(db, name, documents, by)),
  );
  const byShare = enabled.some(({ share }) => share > 0);
  const met = enabled.filter(
    (policy) =>
      affected.flat().some((one) => isMet(policy, one)) || retagged.some((tags) => isEscaped(policy, ...tags)),
  );
  const bypassed = met.filter((policy) => isExempt(policy, role));
  // What somebody has approved of, or may be made without approvals, is not counted against a later change.
  const { tokenId } = by;
  const moved = met.length === 0 && byShare && tokenId !== null ? affected.flat().filter(isMoved) : [];
  const counting = (now: number) => [
    ...guard(now),
    ...moved.map(({ document, moved }) => insertMoved(db, document, tokenId!, moved, now)),
  ];
  const all = given(met, approvedBy);
  return {
    met: all,
    lacking: lacking(all).filter(({ policy }) => !bypassed.includes(policy)),
    bypassed,
    guard: counting,
  };
}

/**
 * What to write beside it, and the policies that the role may do without.
 * @throws ApiError 403 that names the policies, what they lack, and the way to ask.
 */
export async function requireApproval(
  ...proposal: Parameters<typeof approvalOf>
): Promise<Pick<Approval, "guard"> & { bypassed: string[] }> {
  const { lacking, guard, bypassed } = await approvalOf(...proposal);
  if (lacking.length > 0) throw approvalRequired(lacking, proposal[4] !== undefined);
  return { guard, bypassed: bypassed.map(({ key }) => key) };
}

export const shownGiven = ({ policy, given }: Given<PolicyRow>): z.infer<typeof policyMet> => ({
  key: policy.key,
  name: policy.name,
  approvers: policy.approvers as z.infer<typeof approvers>,
  approvals: policy.approvals,
  given,
});

/** `isRequested`: a change request carries it already, and is what has to be approved. */
export function approvalRequired(lacking: Given<PolicyRow>[], isRequested: boolean, more: object = {}): ApiError {
  const names = lacking.map(({ policy }) => policy.key).join(", ");
  const detail = isRequested
    ? `This change request lacks approvals of the policies ${names}. It can be published once they have approved: POST …/approve.`
    : `This change needs the approvals of the policies ${names}. ${REQUEST_IT}`;
  return new ApiError(403, "approval-required", detail, { policies: lacking.map(shownGiven), ...more });
}

const REQUEST_IT =
  "Open a change request: POST /projects/{project}/change-requests with {title, change: {operation, path, body}}. " +
  "It can be published once they have approved.";

const NONE: Approval = { met: [], lacking: [], bypassed: [], guard: () => [] };

const isAmong = (environments: string[], key: string) => environments.length === 0 || environments.includes(key);
const holdsAny = (...all: object[]) => all.some((documents) => Object.keys(documents).length > 0);

/** A flag's tags before and after, where an entry of the audit log says that they change. */
export function tagsBeforeAndAfter({ type, changes }: Proposed["audits"][number]): [string[], string[]][] {
  const { tags } = changes;
  return type === "flag" && tags?.from !== undefined ? [[tags.from as string[], (tags.to ?? []) as string[]]] : [];
}

const NOTHING: Moved = { share: 0, listed: 0 };

type AffectedDocument = Affected & {
  document: { environmentId: string; kind: DocumentKind; key: string };
  /** By this change alone. */
  moved: Moved;
};

const isMoved = ({ moved }: AffectedDocument) => moved.share > 0 || moved.listed > 0;

/**
 * Read after the head that the edit is put on top of: what has changed since then makes the write lose its race. `by`: with
 * what they have moved of the same documents lately.
 */
export async function affectedBy(
  db: Database,
  name: EnvironmentName,
  { flags = {}, segments = {} }: Partial<Documents>,
  by: By | null = null,
): Promise<AffectedDocument[]> {
  const keys = { flags: Object.keys(flags), segments: Object.keys(segments) };
  const [before, reached] = await Promise.all([documentsThere(db, name.id, keys), flagsReached(db, name, keys)]);
  const tags = Map.groupBy(reached, ({ kind, key }) => `${kind} ${key}`);
  const affected = async (kind: DocumentKind, key: string, moved: Moved): Promise<AffectedDocument> => {
    const document = { environmentId: name.id, kind, key };
    const tokenId = moved.share > 0 || moved.listed > 0 ? (by?.tokenId ?? null) : null;
    const earlier = tokenId === null ? NOTHING : await movedSince(db, document, tokenId, by!.at - DAY_MS);
    return {
      environment: name.environment,
      tags: tags.get(`${kind} ${key}`)?.flatMap((one) => one.tags) ?? [],
      share: shareOfAll({ share: earlier.share + moved.share, listed: earlier.listed + moved.listed }),
      document,
      moved,
    };
  };
  return Promise.all([
    ...Object.entries(flags).flatMap(([key, next]) => {
      const flag = own(before.flags, key);
      // What is new and off serves what nobody asks for yet.
      if (flag === null && !next?.on) return [];
      return [affected("flag", key, { share: shareOfFlag(flag, next), listed: listedInFlag(flag, next) })];
    }),
    ...Object.entries(segments).flatMap(([key, next]) => {
      const segment = own(before.segments, key);
      const isUsed = tags.has(`segment ${key}`);
      if (!isUsed || isSame(segment, next)) return [];
      const moved = { share: shareOfSegment(segment, next), listed: listedInSegment(segment, next) };
      return [affected("segment", key, moved)];
    }),
  ]);
}

const own = <Document>(all: Record<string, Document>, key: string) => (Object.hasOwn(all, key) ? all[key]! : null);

/** A name or a description is in no document. */
const isSame = (one: Segment | null, other: Segment | null) =>
  one !== null && other !== null && same({ ...one, version: 0 }, { ...other, version: 0 });
