/** What people do with a change request: discuss it, approve of it, publish it. */

import { conflict, forbidden, notFound } from "../../../platform/problem.ts";
import { type ChangeRequestThere, findChangeRequest } from "../../../store/approvals/change-requests.ts";
import type { EnvironmentName } from "../../../store/credentials.ts";
import { isInScope, needs, requireScope } from "../../http/access.ts";
import type { AdminContext } from "../../http/context.ts";
import { body, json, problems, projectPath, reason, resource, waitQuery } from "../../http/contract.ts";
import { z } from "../../http/zod.ts";
import { operation } from "../../operation.ts";
import { withReceipt } from "../../write/hub-client.ts";
import { etagOf, requireMatch, write } from "../../write/write.ts";
import { comment } from "../participants.ts";
import { planPublication, planRevision, planStep, type Step } from "./plan.ts";
import { changeRequest, publishedChangeRequest } from "./representation.ts";
import type { Change } from "./requested-operation.ts";

export const changeRequestPath = projectPath.extend({ changeRequest: z.string().min(1) });
const PATH = "/projects/{project}/change-requests/{changeRequest}" as const;
const answered = { 200: json(changeRequest, "The change request"), ...problems };
const maybe = { params: changeRequestPath, ...body(z.strictObject({ comment: comment.optional() })) };
const revision = z
  .number()
  .int()
  .min(1)
  .openapi({ description: "The one that was looked at: of another it would not count" });

const submit = operation({
  id: "submitChangeRequest",
  method: "post",
  path: `${PATH}/submit`,
  tag: "change requests",
  summary: "Have a draft looked at",
  role: "editor",
  reach: "part",
  ...maybe,
  responses: answered,
  example: { comment: "Ready to be looked at" },
  problems: { 409: STATE },
  ifMatch: true,
  handle: async (requested, c) => {
    const { comment } = body;
    return c.json(await taken(c, { kind: "submit", comment }, (there) => requireOwn(c, there)), 200);
  },
});

const say = operation({
  id: "commentOnChangeRequest",
  method: "post",
  path: `${PATH}/comments`,
  tag: "change requests",
  summary: "Say something about it",
  role: "editor",
  reach: "part",
  body: z.strictObject({ comment }),
  responses: answered,
  example: { comment: "Is the load test done?" },
  problems: { 409: STATE },
  ifMatch: true,
  handle: async (requested, c) => c.json(await taken(c, { kind: "comment", ...body }), 200),
});

const approve = operation({
  id: "approveChangeRequest",
  method: "post",
  path: `${PATH}/approve`,
  tag: "change requests",
  summary: "Approve of it as it is; never of one's own",
  role: "approver",
  reach: "part",
  body: z.strictObject({ revision, comment: comment.optional() }),
  responses: answered,
  example: { revision: 1, comment: "It is" },
  problems: { 409: [...STATE, "other-revision"] },
  ifMatch: true,
  handle: async (requested, c) => {
    const { revision, comment } = body;
    const checked = (there: ChangeRequestThere) => {
      requireOthers(c, there);
      requireRevision(there, revision);
    };
    return c.json(await taken(c, { kind: "approve", comment }, checked), 200);
  },
});

const object = operation({
  id: "requestChanges",
  method: "post",
  path: `${PATH}/request-changes`,
  tag: "change requests",
  summary:
    "Ask for changes: until they are made, or one approves after all, it cannot be published; never of one's own",
  role: "approver",
  reach: "part",
  body: z.strictObject({ revision, comment }),
  responses: answered,
  example: { revision: 1, comment: "Not before the load test" },
  problems: { 409: [...STATE, "other-revision"] },
  ifMatch: true,
  handle: async (requested, c) => {
    const { revision, comment } = body;
    const checked = (there: ChangeRequestThere) => {
      requireOthers(c, there);
      requireRevision(there, revision);
    };
    return c.json(await taken(c, { kind: "request-changes", comment }, checked), 200);
  },
});

const withdraw = operation({
  id: "withdrawChangeRequest",
  method: "post",
  path: `${PATH}/withdraw`,
  tag: "change requests",
  summary: "Give it up; by its author or an administrator",
  role: "editor",
  reach: "part",
  ...maybe,
  responses: answered,
  example: { comment: "Not needed any more" },
  problems: { 409: STATE },
  ifMatch: true,
  handle: async (requested, c) => {
    const { comment } = body;
    const checked = (there: ChangeRequestThere) => {
      if (c.var.caller.role !== "admin") requireOwn(c, there);
    };
    return c.json(await taken(c, { kind: "withdraw", comment }, checked), 200);
  },
});

const rebase = operation({
  id: "rebaseChangeRequest",
  method: "post",
  path: `${PATH}/rebase`,
  tag: "change requests",
  summary: "Ask for the same on top of what is there now; whoever approved has to look again",
  role: "editor",
  reach: "part",
  ...maybe,
  responses: answered,
  example: { comment: "Still what we want" },
  problems: { 409: [...STATE, ...CARRIED], 412: ["changed-since"], 413: CARRIED_SIZE },
  ifMatch: true,
  handle: async (requested, c) => {
    const { comment } = body;
    const { caller, db } = c.var;
    const done = await write(c, async (now) => {
      const there = await changeRequestOf(c, false);
      requireOwn(c, there);
      requireMatch(c, etagOf(there.row.version));
      const change = there.revision.change as Change;
      return planRevision({ env: c.env, db }, there, caller, change, { kind: "rebase", comment }, { now });
    });
    return c.json(done.body, 200);
  },
});

const publish = operation({
  id: "publishChangeRequest",
  method: "post",
  path: `${PATH}/publish`,
  tag: "change requests",
  summary: "Make the change, once it has the approvals that the policies in force ask for; only ever once",
  role: "editor",
  reach: "part",
  query: waitQuery(0),
  body: z.strictObject({ reason: reason.optional() }),
  answer: publishedChangeRequest,
  returns: "Published",
  example: { reason: "Approved" },
  problems: {
    403: ["approval-required"],
    409: [...STATE, "changes-requested", "change-request-conflicts", ...CARRIED],
    412: ["changed-since"],
    413: CARRIED_SIZE,
  },
  ifMatch: true,
  handle: async (requested, c) => {
    const { caller, db } = c.var;
    let edited: EnvironmentName[] = [];
    const done = await write(
      c,
      async (now) => {
        const there = await changeRequestOf(c, false);
        requireMatch(c, etagOf(there.row.version));
        const plan = await planPublication({ env: c.env, db }, there, caller, now);
        edited = plan.write?.edits?.map(({ name }) => name) ?? [];
        return plan;
      },
      body.reason,
    );
    const { wait } = query;
    const ways = edited.map(async (name) => {
      return [name.environment, await withReceipt(c.env, name, done.deliveries[name.environment]!, wait)] as const;
    });
    const published = Object.fromEntries(await Promise.all(ways));
    return c.json({ ...done.body, ...(edited.length > 0 && { published }) }, 200);
  },
});

export const changeRequestSteps = [submit, say, approve, object, withdraw, rebase, publish];

/** One that the caller may not see is not there. */
export async function changeRequestOf(c: AdminContext, reading: boolean): Promise<ChangeRequestThere> {
  const { project = "", changeRequest: id = "" } = c.req.param() as { project?: string; changeRequest?: string };
  const { scope } = c.var.caller;
  const there = await findChangeRequest(c.var.db, id);
  const environment = there?.environment?.environment;
  const isSeen = environment === undefined || isInScope(scope, project, environment);
  if (there?.project.key !== project || !isSeen) throw notFound(`The change request ${id}`);
  requireScope(scope, project, environment, reading);
  return there;
}

/** One step, on top of whatever has happened to it when it lands. */
async function taken(c: AdminContext, step: Step, check: (there: ChangeRequestThere) => void = () => {}) {
  const done = await write(c, async (now) => {
    const there = await changeRequestOf(c, false);
    requireMatch(c, etagOf(there.row.version));
    check(there);
    return planStep({ env: c.env, db: c.var.db }, there, c.var.caller, step, now);
  });
  return done.body;
}

function requireOwn(c: AdminContext, { row }: ChangeRequestThere): void {
  if (row.authorId !== c.var.caller.id) throw forbidden("Only its author does that with a change request.");
}

function requireOthers(c: AdminContext, { row }: ChangeRequestThere): void {
  if (row.authorId === c.var.caller.id) throw forbidden("Nobody judges their own change request: edit it, or comment.");
}

function requireRevision({ row }: ChangeRequestThere, revision: number): void {
  if (row.revision === revision) return;
  const detail = `It is at revision ${row.revision} now, and not what you looked at.`;
  throw conflict("other-revision", detail, { revision: row.revision });
}
