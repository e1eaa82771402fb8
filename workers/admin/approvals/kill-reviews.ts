/** Kills of flags under a policy, which nobody held up: approvers look at each afterwards. */

import { forbidden, notFound } from "../../platform/problem.ts";
import {
  closeKillReview,
  findKillReview,
  type KillReviewThere,
  listKillReviews,
} from "../../store/approvals/kill-reviews.ts";
import { findProject } from "../../store/projects.ts";
import { isInScope, needs, visibleEnvironments } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, json, key, page, problems, projectPath, resource, time } from "../http/contract.ts";
import { listing, openedQuery } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME } from "../limits.ts";
import { operation } from "../operation.ts";
import { etagOf, requireMatch, write } from "../write/write.ts";
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
const killReviewPath = projectPath.extend({ killReview: z.string().min(1) });

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
  returns: "Reviews, newest first unless told",
  handle: async (requested, c) => {
    const { project: projectKey } = path;
    const { status, environment, flag, q, ...query } = query;
    const project = await findProject(c.var.db, projectKey);
    if (project === undefined) throw notFound(`The project ${projectKey}`);
    const { page, told } = await listing(c, query, "seq");
    const visible = visibleEnvironments(c.var.caller.scope, projectKey);
    const environments =
      environment === undefined ? visible : [environment].filter((one) => visible?.includes(one) ?? true);
    const open = status === undefined ? undefined : status === "open";
    const rows = await listKillReviews(c.var.db, project.id, { open, environments, flag, q }, page);
    const positioned = rows.map((there) => ({ ...there, seq: there.row.seq, createdAt: there.row.killedAt }));
    return c.json(told(positioned, shown), 200);
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
  params: killReviewPath,
  answer: killReview,
  returns: "The review",
  handle: async (requested, c) => {
    const there = await killReviewOf(c);
    c.header("etag", etagOf(there.row.version));
    return c.json(shown(there), 200);
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
  params: killReviewPath,
  body: z.strictObject({ comment }),
  answer: killReview,
  returns: "The review",
  example: { comment: "Orders failed indeed; fixed in 4.2" },
  ifMatch: true,
  handle: async (requested, c) => {
    const { comment } = body;
    const { caller, db } = c.var;
    const done = await write(c, async (now) => {
      const there = await killReviewOf(c);
      const { row, project, environment } = there;
      if (row.killedById === caller.id) throw forbidden("Nobody closes the review of their own kill.");
      // Closing what is closed changes nothing.
      if (row.closedAt !== null) return { status: 200, body: shown(there), etag: etagOf(row.version) };
      requireMatch(c, etagOf(row.version));
      const closed = { closedById: caller.id, closedBy: caller.name, closedAt: now, comment };
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
    });
    return c.json(done.body, 200);
  },
});

export const killReviews = [list, read, close];

/** One that the caller may not see is not there. */
async function killReviewOf(c: AdminContext): Promise<KillReviewThere> {
  const { project = "", killReview: id = "" } = c.req.param() as { project?: string; killReview?: string };
  const there = await findKillReview(c.var.db, id);
  if (there?.project !== project || !isInScope(c.var.caller.scope, project, there.environment)) {
    throw notFound(`The review ${id}`);
  }
  return there;
}
