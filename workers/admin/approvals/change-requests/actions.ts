/** What people do with a change request: discuss it, approve of it, publish it. */

import { notFound } from "../../../platform/problem.ts";
import { type ChangeRequestThere, findChangeRequest } from "../../../store/approvals/change-requests.ts";
import { isInScope, requireScope } from "../../http/access.ts";
import { waitQuery } from "../../http/contract.ts";
import { etagOf, requireIfMatch } from "../../http/if-match.ts";
import { z } from "../../http/zod.ts";
import { operation } from "../../operation.ts";
import { environmentOf } from "../../write/lookup.ts";
import type { Requested } from "../../write/request.ts";
import { withReceipt } from "../../write/wait-for-receipt.ts";
import type { Written } from "../../write/write.ts";
import { comment } from "../participants.ts";
import { actorOf, planPublication, planRevision, planStep, type ShownChangeRequest, type Step } from "./plan.ts";
import type { Place } from "./preview.ts";
import { changeRequest, publishedChangeRequest } from "./representation.ts";
import { REQUESTED, REQUESTED_SIZE } from "./requested-operation.ts";
import { type Review, requireOwn, requireReviewer } from "./reviewers.ts";

const PATH = "/projects/{project}/change-requests/{changeRequest}";
type Path = { project: string; changeRequest: string };

const maybeComment = z.strictObject({ comment: comment.optional() });
const revision = z
  .number()
  .int()
  .min(1)
  .openapi({ description: "The one that was looked at: of another it would not count" });

/** What a step of a change request can be refused for. */
export const STATE = ["wrong-state", "too-many-events"] as const;

/** What every step has in common. */
const step = {
  method: "post",
  tag: "change requests",
  reach: "part",
  answer: changeRequest,
  returns: "The change request",
  ifMatch: true,
  respond: ({ body }: Written<ShownChangeRequest>) => body,
} as const;

const placeOf = ({ env, db }: Requested): Place => ({ env, db });

/** A plan of one step, on top of whatever has happened to the change request when it lands. */
const planning =
  <Body extends { comment?: string | undefined }>(
    kind: Step["kind"],
    check: (requested: Requested<Path, Body>, there: ChangeRequestThere) => void = () => {},
  ) =>
  async (requested: Requested<Path, Body>, now: number) => {
    const there = await changeRequestOf(requested, false);
    requireIfMatch(requested, etagOf(there.row.version));
    check(requested, there);
    return planStep(placeOf(requested), there, actorOf(requested), { kind, comment: requested.body.comment }, now);
  };

const submit = operation({
  ...step,
  id: "submitChangeRequest",
  path: `${PATH}/submit`,
  summary: "Have a draft looked at",
  role: "editor",
  body: maybeComment,
  example: { comment: "Ready to be looked at" },
  problems: { 409: STATE },
  plan: planning("submit", requireOwn),
});

const say = operation({
  ...step,
  id: "commentOnChangeRequest",
  path: `${PATH}/comments`,
  summary: "Say something about it",
  role: "editor",
  body: z.strictObject({ comment }),
  example: { comment: "Is the load test done?" },
  problems: { 409: STATE },
  plan: planning("comment"),
});

const approve = operation({
  ...step,
  id: "approveChangeRequest",
  path: `${PATH}/approve`,
  summary: "Approve of it as it is; never of one's own",
  role: "approver",
  body: z.strictObject({ revision, comment: comment.optional() }),
  example: { revision: 1, comment: "It is" },
  problems: { 409: [...STATE, "other-revision"] },
  plan: planning<Review>("approve", requireReviewer),
});

const requestChanges = operation({
  ...step,
  id: "requestChanges",
  path: `${PATH}/request-changes`,
  summary:
    "Ask for changes: until they are made, or one approves after all, it cannot be published; never of one's own",
  role: "approver",
  body: z.strictObject({ revision, comment }),
  example: { revision: 1, comment: "Not before the load test" },
  problems: { 409: [...STATE, "other-revision"] },
  plan: planning<Review>("request-changes", requireReviewer),
});

const withdraw = operation({
  ...step,
  id: "withdrawChangeRequest",
  path: `${PATH}/withdraw`,
  summary: "Give it up; by its author or an administrator",
  role: "editor",
  body: maybeComment,
  example: { comment: "Not needed any more" },
  problems: { 409: STATE },
  plan: planning("withdraw", (requested, there) => {
    if (requested.role !== "admin") requireOwn(requested, there);
  }),
});

const rebase = operation({
  ...step,
  id: "rebaseChangeRequest",
  path: `${PATH}/rebase`,
  summary: "Request the same on top of what is there now; whoever approved has to look again",
  role: "editor",
  body: maybeComment,
  example: { comment: "Still what we want" },
  problems: { 409: [...STATE, ...REQUESTED], 412: ["changed-since"], 413: REQUESTED_SIZE },
  plan: async (requested, now) => {
    const { comment } = requested.body;
    const there = await changeRequestOf(requested, false);
    requireOwn(requested, there);
    requireIfMatch(requested, etagOf(there.row.version));
    const change = there.revision.change;
    return planRevision(placeOf(requested), there, requested, change, { kind: "rebase", comment }, { now });
  },
});

const publish = operation({
  ...step,
  id: "publishChangeRequest",
  path: `${PATH}/publish`,
  summary: "Make the change, once it has the approvals that the policies in force want; only ever once",
  role: "editor",
  query: waitQuery(0),
  answer: publishedChangeRequest,
  returns: "Published",
  example: { reason: "Approved" },
  problems: {
    403: ["approval-required"],
    409: [...STATE, "changes-requested", "change-request-conflicts", ...REQUESTED],
    412: ["changed-since"],
    413: REQUESTED_SIZE,
  },
  plan: async (requested, now) => {
    const there = await changeRequestOf(requested, false);
    requireIfMatch(requested, etagOf(there.row.version));
    return planPublication(placeOf(requested), there, actorOf(requested), now);
  },
  respond: async ({ body, deliveries }, { env, db, path: { project }, query: { wait } }) => {
    const ways = Object.entries(deliveries).map(async ([environment, way]) => {
      if (wait === 0) return [environment, way] as const;
      const name = await environmentOf({ env, db, path: { project, environment } });
      return [environment, await withReceipt(env, name, way, wait)] as const;
    });
    const published = await Promise.all(ways);
    return { ...body, ...(published.length > 0 && { published: Object.fromEntries(published) }) };
  },
});

export const changeRequestSteps = [submit, say, approve, requestChanges, withdraw, rebase, publish];

/** One that the caller may not see is not there. @throws ApiError 404, 403 */
export async function changeRequestOf(
  { db, scope, path }: Pick<Requested<Path>, "db" | "scope" | "path">,
  reading: boolean,
): Promise<ChangeRequestThere> {
  const { project, changeRequest: id } = path;
  const there = await findChangeRequest(db, id);
  const environment = there?.environment?.environment;
  const isSeen = environment === undefined || isInScope(scope, project, environment);
  if (there?.project.key !== project || !isSeen) throw notFound(`The change request ${id}`);
  requireScope(scope, project, environment, reading);
  return there;
}
