/** What people do with a change request: discuss it, approve of it, publish it. */
import { createRoute, z } from "@hono/zod-openapi";
import { conflict, forbidden, notFound } from "../problem.ts";
import { type ChangeRequestThere, findChangeRequest, insertRevision } from "../store/change-requests.ts";
import { isInScope, needs, requireScope } from "./access.ts";
import { asOfNow, planPublication, planStep, type Step } from "./change-request.ts";
import { changeRequest, comment, publishedChangeRequest } from "./change-request-shape.ts";
import { type AdminContext, body, json, problems, projectPath, reason, resource, waitQuery } from "./contract.ts";
import { withReceipt } from "./hubs.ts";
import type { TargetingEdit } from "./targeting-edit.ts";
import { etagOf, requireMatch, write } from "./write.ts";

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
  summary: "Ask for changes: until they are made, or one approves after all, it cannot be published",
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
  summary: "Ask for the same on top of the flag as it is now; whoever approved has to look again",
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
      if (there.row.authorId === c.var.caller.id) throw forbidden("Nobody approves of their own change request.");
      requireRevision(there, revision);
    };
    return c.json(await taken(c, { kind: "approve", comment }, checked), 200);
  })
  .openapi(object, async (c) => {
    const { revision, comment } = c.req.valid("json");
    const step: Step = { kind: "request-changes", comment };
    return c.json(await taken(c, step, (there) => requireRevision(there, revision)), 200);
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
      const { row, revision, environment } = there;
      const edit = revision.edit as TargetingEdit;
      const { base, ...affected } = await asOfNow(db, environment, row.flagKey, edit, now);
      const number = row.revision + 1;
      const next = { ...revision, revision: number, base, createdAt: now };
      const step: Step = { kind: "rebase", comment, fields: { revision: number, failure: null, ...affected } };
      const plan = await planStep(db, { ...there, revision: next }, caller, step, now);
      const { statements, audit } = plan.write!;
      return { ...plan, write: { statements: [...statements, insertRevision(db, next)], audit } };
    });
    return c.json(done.body, 200);
  })
  .openapi(publish, async (c) => {
    const { caller, db } = c.var;
    let environment: ChangeRequestThere["environment"] | undefined;
    const done = await write(
      c,
      async (now) => {
        const there = await changeRequestOf(c, false);
        requireMatch(c, etagOf(there.row.version));
        environment = there.environment;
        return planPublication(db, there, caller, now);
      },
      c.req.valid("json").reason,
    );
    const way = environment && done.deliveries[environment.environment];
    if (environment === undefined || way === undefined) return c.json(done.body, 200);
    const published = await withReceipt(c.env, environment, way, c.req.valid("query").wait);
    return c.json({ ...done.body, published }, 200);
  });

/** One that the caller may not see is not there. */
export async function changeRequestOf(c: AdminContext, reading: boolean): Promise<ChangeRequestThere> {
  const { project = "", changeRequest: id = "" } = c.req.param() as { project?: string; changeRequest?: string };
  const { scope } = c.var.caller;
  const there = await findChangeRequest(c.var.db, id);
  if (
    there === null ||
    there.environment.project !== project ||
    !isInScope(scope, project, there.environment.environment)
  ) {
    throw notFound(`The change request ${id}`);
  }
  requireScope(scope, project, there.environment.environment, reading);
  return there;
}

/** One step, on top of whatever has happened to it when it lands. */
async function taken(c: AdminContext, step: Step, check: (there: ChangeRequestThere) => void = () => {}) {
  const done = await write(c, async (now) => {
    const there = await changeRequestOf(c, false);
    requireMatch(c, etagOf(there.row.version));
    check(there);
    return planStep(c.var.db, there, c.var.caller, step, now);
  });
  return done.body;
}

function requireOwn(c: AdminContext, { row }: ChangeRequestThere): void {
  if (row.authorId !== c.var.caller.id) throw forbidden("Only its author does that with a change request.");
}

function requireRevision({ row }: ChangeRequestThere, revision: number): void {
  if (row.revision === revision) return;
  const detail = `It is at revision ${row.revision} now, and not what you looked at.`;
  throw conflict("other-revision", detail, { revision: row.revision });
}
