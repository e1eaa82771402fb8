/** What people do with a change request: discuss it, approve of it, publish it. */
import { createRoute, z } from "@hono/zod-openapi";
import { conflict, forbidden, notFound } from "../../../platform/problem.ts";
import { type ChangeRequestThere, findChangeRequest } from "../../../store/approvals/change-requests.ts";
import type { EnvironmentName } from "../../../store/credentials.ts";
import { isInScope, needs, requireScope } from "../../http/access.ts";
import type { AdminContext } from "../../http/context.ts";
import { body, json, problems, projectPath, reason, resource, waitQuery } from "../../http/contract.ts";
import { withReceipt } from "../../write/hub-client.ts";
import { etagOf, requireMatch, write } from "../../write/write.ts";
import { comment } from "../participants.ts";
import { planPublication, planRevision, planStep, type Step } from "./plan.ts";
import { changeRequest, publishedChangeRequest } from "./representation.ts";
import type { Change } from "./requested-operation.ts";

export const changeRequestPath = projectPath.extend({ changeRequest: z.string().min(1) });
const path = "/projects/{project}/change-requests/{changeRequest}" as const;
const answered = { 200: json(changeRequest, "The change request"), ...problems };
const maybe = { params: changeRequestPath, ...body(z.strictObject({ comment: comment.optional() })) };
const revision = z
  .number()
  .int()
  .min(1)
  .openapi({ description: "The one that was looked at: of another it would not count" });

const submit = createRoute({
  method: "post",
  path: `${path}/submit`,
  tags: ["change requests"],
  summary: "Have a draft looked at",
  middleware: needs("editor", "part"),
  request: maybe,
  responses: answered,
});

const say = createRoute({
  method: "post",
  path: `${path}/comments`,
  tags: ["change requests"],
  summary: "Say something about it",
  middleware: needs("editor", "part"),
  request: { params: changeRequestPath, ...body(z.strictObject({ comment })) },
  responses: answered,
});

const approve = createRoute({
  method: "post",
  path: `${path}/approve`,
  tags: ["change requests"],
  summary: "Approve of it as it is; never of one's own",
  middleware: needs("approver", "part"),
  request: { params: changeRequestPath, ...body(z.strictObject({ revision, comment: comment.optional() })) },
  responses: answered,
});

const object = createRoute({
  method: "post",
  path: `${path}/request-changes`,
  tags: ["change requests"],
  summary:
    "Ask for changes: until they are made, or one approves after all, it cannot be published; never of one's own",
  middleware: needs("approver", "part"),
  request: { params: changeRequestPath, ...body(z.strictObject({ revision, comment })) },
  responses: answered,
});

const withdraw = createRoute({
  method: "post",
  path: `${path}/withdraw`,
  tags: ["change requests"],
  summary: "Give it up; by its author or an administrator",
  middleware: needs("editor", "part"),
  request: maybe,
  responses: answered,
});

const rebase = createRoute({
  method: "post",
  path: `${path}/rebase`,
  tags: ["change requests"],
  summary: "Ask for the same on top of what is there now; whoever approved has to look again",
  middleware: needs("editor", "part"),
  request: maybe,
  responses: answered,
});

const publish = createRoute({
  method: "post",
  path: `${path}/publish`,
  tags: ["change requests"],
  summary: "Make the change, once it has the approvals that the policies in force ask for; only ever once",
  middleware: needs("editor", "part"),
  request: {
    params: changeRequestPath,
    query: waitQuery(0),
    ...body(z.strictObject({ reason: reason.optional() })),
  },
  responses: { 200: json(publishedChangeRequest, "Published"), ...problems },
});

export const changeRequestSteps = resource()
  .openapi(submit, async (c) => {
    const { comment } = c.req.valid("json");
    return c.json(await taken(c, { kind: "submit", comment }, (there) => requireOwn(c, there)), 200);
  })
  .openapi(say, async (c) => c.json(await taken(c, { kind: "comment", ...c.req.valid("json") }), 200))
  .openapi(approve, async (c) => {
    const { revision, comment } = c.req.valid("json");
    const checked = (there: ChangeRequestThere) => {
      requireOthers(c, there);
      requireRevision(there, revision);
    };
    return c.json(await taken(c, { kind: "approve", comment }, checked), 200);
  })
  .openapi(object, async (c) => {
    const { revision, comment } = c.req.valid("json");
    const checked = (there: ChangeRequestThere) => {
      requireOthers(c, there);
      requireRevision(there, revision);
    };
    return c.json(await taken(c, { kind: "request-changes", comment }, checked), 200);
  })
  .openapi(withdraw, async (c) => {
    const { comment } = c.req.valid("json");
    const checked = (there: ChangeRequestThere) => {
      if (c.var.caller.role !== "admin") requireOwn(c, there);
    };
    return c.json(await taken(c, { kind: "withdraw", comment }, checked), 200);
  })
  .openapi(rebase, async (c) => {
    const { comment } = c.req.valid("json");
    const { caller, db } = c.var;
    const done = await write(c, async (now) => {
      const there = await changeRequestOf(c, false);
      requireOwn(c, there);
      requireMatch(c, etagOf(there.row.version));
      const change = there.revision.change as Change;
      return planRevision({ env: c.env, db }, there, caller, change, { kind: "rebase", comment }, { now });
    });
    return c.json(done.body, 200);
  })
  .openapi(publish, async (c) => {
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
      c.req.valid("json").reason,
    );
    const { wait } = c.req.valid("query");
    const ways = edited.map(async (name) => {
      return [name.environment, await withReceipt(c.env, name, done.deliveries[name.environment]!, wait)] as const;
    });
    const published = Object.fromEntries(await Promise.all(ways));
    return c.json({ ...done.body, ...(edited.length > 0 && { published }) }, 200);
  });

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
