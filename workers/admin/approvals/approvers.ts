/** Whose approvals a change request has: for its publishing, and for what that has begun. */
import { type ChangeRequestThere, findChangeRequest, findTokens } from "../../store/approvals/change-requests.ts";
import { isAtLeast } from "../../store/approvals/policy.ts";
import type { Database } from "../../store/database.ts";
import { isInScope } from "../http/access.ts";
import { verdicts } from "./change-request-state.ts";

/**
 * Who has approved of it as it is, as far as they still may: whose token is revoked or has lost its role or scope may not. One that
 * has only expired was good when it approved, and nobody has taken that back.
 */
export async function approversOf(db: Database, { row, events, project, environment }: ChangeRequestThere) {
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
      // What all environments have in common takes somebody who has the whole project.
      (environment !== null || scope.environments.length === 0) &&
      isInScope(scope, project.key, environment?.environment ?? ""),
  );
}

/** Null: nothing has begun it but a request. */
export async function approversBy(db: Database, changeRequest: string | null) {
  const there = changeRequest === null ? null : await findChangeRequest(db, changeRequest);
  return there === null ? [] : approversOf(db, there);
}
