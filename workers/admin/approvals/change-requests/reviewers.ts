/** Whose step of a change request it may be: its author's, or anybody's but theirs. */
import { conflict, forbidden } from "../../../platform/problem.ts";
import type { ChangeRequestThere } from "../../../store/approvals/change-requests.ts";
import type { Requested } from "../../write/request.ts";
import { actorOf } from "./plan.ts";

export type Review = { revision: number; comment?: string | undefined };

/** @throws ApiError 403 */
export function requireOwn(requested: Pick<Requested, "by">, { row }: ChangeRequestThere): void {
  if (row.authorId !== actorOf(requested).id) throw forbidden("Only its author does that with a change request.");
}

/** @throws ApiError 403 for the author, 409 for a review of another revision */
export function requireReviewer(requested: Requested<unknown, Review>, { row }: ChangeRequestThere): void {
  if (row.authorId === actorOf(requested).id) {
    throw forbidden("Nobody judges their own change request: edit it, or comment.");
  }
  if (row.revision === requested.body.revision) return;
  const detail = `It is at revision ${row.revision} now, and not what you looked at.`;
  throw conflict("other-revision", detail, { revision: row.revision });
}
