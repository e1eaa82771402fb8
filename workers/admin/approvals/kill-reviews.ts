/** Kills of flags under a policy, which nobody held up: approvers look at each afterwards. */

import { forbidden, notFound } from "../../platform/problem.ts";
import {
  closeKillReview,
  findKillReview,
  type KillReviewThere,
  listKillReviews,
} from "../../store/approvals/kill-reviews.ts";
import { findProject } from "../../store/projects.ts";
import { isInScope, visibleEnvironments } from "../http/access.ts";
import { key, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { listing, openedQuery } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME } from "../limits.ts";
import { operation } from "../operation.ts";
import type { Requested } from "../write/request.ts";
import { comment, person } from "./participants.ts";

const killReview = z
  .object({
    id: z.string(),
    project: key,
    environment: key,
    flag: key,
    status: z.enum(["open", "closed"]),
    killed: z.object({ by: person, at: time, reason: z.string() }),
    policies: z.array(z.string()).openapi({ description: "Those that any other change would have met" }),
    closed: z.object({ by: person, at: time, comment: z.string() }).nullable(),
  })
  .openapi("KillReview");

const shown = ({ row, project, environment }: KillReviewThere): z.infer<typeof killReview> => ({
  id: row.id,
  project,
  environment,
  flag: row.flagKey,
  status: row.closedAt === null ? "open" : "closed",
  killed: { by: { id: row.killedById, name: row.killedBy }, at: row.killedAt, reason: row.reason },
  policies: row.policies,
  closed:
    row.closedAt === null
      ? null
      : { by: { id: row.closedById ?? "", name: row.closedBy ?? "" }, at: row.closedAt, comment: row.comment ?? "" },
});

const PATH = "/projects/{project}/kill-reviews" as const;
type Path = { project: string; killReview: string };

const list = operation({
  id: "listKillReviews",
  method: "get",
  path: PATH,
  tag: "kill switch",
  summary: "List kills that are to be reviewed, or were",
  role: "viewer",
  reach: "part",
  query: openedQuery.extend({
    status: z.enum(["open", "closed"]).optional(),
    environment: z.string().max(MAX_NAME).optional(),
    flag: z.string().max(MAX_NAME).optional(),
  }),
  answer: page(killReview),
  returns: "Reviews, newest first by default",
  handle: async ({ db, scope, path, query }, c) => {
    const { status, environment, flag, q, ...order } = query;
    const project = await findProject(db, path.project);
    if (project === undefined) throw notFound(`The project ${path.project}`);
    const { page, answerOf } = await listing(c, order, "seq");
    const visible = visibleEnvironments(scope, path.project);
    const environments =
      environment === undefined ? visible : [environment].filter((one) => visible?.includes(one) ?? true);
    const open = status === undefined ? undefined : status === "open";
    const rows = await listKillReviews(db, project.id, { open, environments, flag, q }, page);
    const positioned = rows.map((there) => ({ ...there, seq: there.row.seq, createdAt: there.row.killedAt }));
    return answerOf(positioned, shown);
  },
});

const read = operation({
  id: "readKillReview",
  method: "get",
  path: `${PATH}/{killReview}`,
  tag: "kill switch",
  summary: "Read the review of a kill",
  role: "viewer",
  reach: "part",
  answer: killReview,
  returns: "The review",
  handle: async (requested, c) => {
    const there = await killReviewOf(requested);
    c.header("etag", etagOf(there.row.version));
    return shown(there);
  },
});

const close = operation({
  id: "closeKillReview",
  method: "post",
  path: `${PATH}/{killReview}/close`,
  tag: "kill switch",
  summary: "Close the review of a kill; never of one's own",
  role: "approver",
  reach: "part",
  body: z.strictObject({ comment }),
  answer: killReview,
  returns: "The review",
  example: { comment: "Orders failed indeed; fixed in 4.2" },
  ifMatch: true,
  plan: async (requested, now) => {
    const { db, by } = requested;
    const { comment } = requested.body;
    const there = await killReviewOf(requested);
    const { row, project, environment } = there;
    if (row.killedById === by.tokenId) throw forbidden("Nobody closes the review of their own kill.");
    // Closing what is closed changes nothing.
    if (row.closedAt !== null) return { status: 200, body: shown(there), etag: etagOf(row.version) };
    requireIfMatch(requested, etagOf(row.version));
    const closed = { closedById: by.tokenId, closedBy: by.actor, closedAt: now, comment };
    return {
      status: 200,
      body: shown({ ...there, row: { ...row, ...closed } }),
      etag: etagOf(row.version + 1),
      write: {
        statements: [closeKillReview(db, row, closed)],
        audit: {
          action: "kill-review.close",
          type: "kill-review",
          project,
          environment,
          key: row.id,
          changes: { status: { from: "open", to: "closed" }, comment: { to: comment } },
        },
      },
    };
  },
  respond: ({ body }) => body,
});

export const killReviews = [list, read, close];

/** One that the caller may not see is not there. */
async function killReviewOf({ db, scope, path }: Pick<Requested<Path>, "db" | "scope" | "path">) {
  const there = await findKillReview(db, path.killReview);
  if (there?.project !== path.project || !isInScope(scope, path.project, there.environment)) {
    throw notFound(`The review ${path.killReview}`);
  }
  return there;
}
