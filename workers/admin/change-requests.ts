/** Asking for a change, and looking at what was asked for. */
import { createRoute, z } from "@hono/zod-openapi";
import { badRequest, conflict, forbidden, notFound } from "../problem.ts";
import {
  countUndecided,
  insertChangeRequest,
  insertEvent,
  insertRevision,
  listChangeRequests,
} from "../store/change-requests.ts";
import { findEnvironment } from "../store/credentials.ts";
import { newId } from "../store/database.ts";
import { policiesOf } from "../store/policies.ts";
import { isAtLeast, isMet, isNamed } from "../store/policy.ts";
import { findProject } from "../store/projects.ts";
import { needs, requireScope, visibleEnvironments } from "./access.ts";
import { difference, isEmpty } from "./audit-diff.ts";
import { asOfNow, auditedStep, planStep, shownChangeRequest } from "./change-request.ts";
import {
  about,
  changeRequest,
  edit,
  event,
  listedChangeRequest,
  shownEvent,
  shownRow,
  status,
} from "./change-request-shape.ts";
import { changeRequestOf, changeRequestPath } from "./change-request-steps.ts";
import { body, json, key, page, pageOf, pageQuery, problems, projectPath, resource } from "./contract.ts";
import { MAX_CHANGE_REQUESTS, MAX_DOCUMENT_BYTES, MAX_NAME } from "./limits.ts";
import type { TargetingEdit } from "./targeting-edit.ts";
import { etagOf, requireFuture, requireMatch, write } from "./write.ts";

const path = "/projects/{project}/change-requests" as const;

const create = createRoute({
  method: "post",
  path,
  tags: ["change requests"],
  summary: "Ask for a change of how an environment serves a flag",
  middleware: needs("editor", "part"),
  request: {
    params: projectPath,
    ...body(
      z.strictObject({
        environment: key,
        flag: key,
        ...edit,
        ...about,
        description: about.description.optional(),
        publishAt: about.publishAt.optional(),
        draft: z.boolean().optional().openapi({ description: "Not to be looked at before …/submit" }),
      }),
    ),
  },
  responses: { 201: json(changeRequest, "Opened"), ...problems },
});

const list = createRoute({
  method: "get",
  path,
  tags: ["change requests"],
  summary: "List change requests",
  middleware: needs("viewer", "part"),
  request: {
    params: projectPath,
    query: pageQuery.extend({
      status: status.optional(),
      environment: z.string().max(MAX_NAME).optional(),
      flag: z.string().max(MAX_NAME).optional(),
      author: z.string().max(MAX_NAME).optional().openapi({ description: "The id of a token" }),
      waitingForMe: z.enum(["true", "false"]).default("false").openapi({
        description: "Those that a policy in force wants the caller's approval of, who has not given it yet",
      }),
    }),
  },
  responses: { 200: json(page(listedChangeRequest), "Change requests, newest first"), ...problems },
});

const read = createRoute({
  method: "get",
  path: `${path}/{changeRequest}`,
  tags: ["change requests"],
  summary: "Read a change request, with what it would do now",
  middleware: needs("viewer", "part"),
  request: { params: changeRequestPath },
  responses: { 200: json(changeRequest, "The change request"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path: `${path}/{changeRequest}`,
  tags: ["change requests"],
  summary: "Change what is asked for; approvals were of what it was before, and count no more",
  middleware: needs("editor", "part"),
  request: { params: changeRequestPath, ...body(z.strictObject({ ...edit, ...about }).partial()) },
  responses: { 200: json(changeRequest, "The change request"), ...problems },
});

const events = createRoute({
  method: "get",
  path: `${path}/{changeRequest}/events`,
  tags: ["change requests"],
  summary: "List what has happened to a change request, comments among it",
  middleware: needs("viewer", "part"),
  request: { params: changeRequestPath, query: pageQuery },
  responses: { 200: json(page(event), "Events, oldest first"), ...problems },
});

export const changeRequests = resource()
  .openapi(create, async (c) => {
    const { environment: environmentKey, flag, draft = false, ...input } = c.req.valid("json");
    const { title, description = "", publishAt = null } = input;
    const { project } = c.req.valid("param");
    const { caller, db } = c.var;
    requireScope(caller.scope, project, environmentKey, false);
    const asked = requireOne(input);
    if (asked === undefined) throw neither();
    const environment = await findEnvironment(db, c.env.KV, project, environmentKey);
    if (environment === null) throw notFound(`The environment ${project}/${environmentKey}`);
    const id = newId("cr");
    const done = await write(c, async (now) => {
      requireFuture(publishAt, now, "/publishAt");
      if ((await countUndecided(db, environment.projectId)) >= MAX_CHANGE_REQUESTS) {
        throw conflict("too-many-change-requests", `Decide on some first: at most ${MAX_CHANGE_REQUESTS} can wait.`);
      }
      const { base, ...affected } = await asOfNow(db, environment, flag, asked, now);
      const status = draft ? ("draft" as const) : ("open" as const);
      const row = {
        id,
        projectId: environment.projectId,
        environmentId: environment.id,
        flagKey: flag,
        ...{ title, description, status, publishAt, ...affected },
        authorId: caller.id,
        author: caller.name,
        ...{ revision: 1, version: 1, failure: null, createdAt: now, updatedAt: now, publishedAt: null },
      };
      const revision = { changeRequestId: id, revision: 1, edit: asked, base, createdAt: now };
      const actor = { actorId: caller.id, actor: caller.name };
      const event = {
        changeRequestId: id,
        version: 1,
        kind: "open" as const,
        revision: 1,
        ...actor,
        comment: null,
        at: now,
      };
      const there = { row: { ...row, seq: 0 }, revision, events: [event], environment };
      return {
        status: 201,
        body: await shownChangeRequest(db, there, now),
        etag: etagOf(1),
        write: {
          statements: [insertEvent(db, event), insertChangeRequest(db, row), insertRevision(db, revision)],
          audit: auditedStep(environment, id, "open", difference({}, { flag, status, title, publishAt, ...asked })),
        },
      };
    });
    return c.json(done.body, 201);
  })
  .openapi(list, async (c) => {
    const { project: projectKey } = c.req.valid("param");
    const { limit, cursor, status, environment, flag, author, waitingForMe } = c.req.valid("query");
    const { db, caller } = c.var;
    const project = await findProject(db, projectKey);
    if (project === undefined) throw notFound(`The project ${projectKey}`);
    const visible = visibleEnvironments(caller.scope, projectKey);
    const environments =
      environment === undefined ? visible : [environment].filter((one) => visible?.includes(one) ?? true);
    const filter = { status: status && [status], environments, flag, author };
    const before = beforeOf(cursor);
    const shown = (one: { row: Parameters<typeof shownRow>[1]; environment: string }) =>
      shownRow({ project: projectKey, environment: one.environment }, one.row);
    if (waitingForMe === "false") {
      const rows = await listChangeRequests(db, project.id, { ...filter, before }, limit + 1);
      return c.json(
        pageOf(rows, limit, ({ row }) => String(row.seq), shown),
        200,
      );
    }
    const waiting = {
      ...filter,
      status: filter.status ?? (["open", "failed"] as const).slice(),
      waitingFor: caller.id,
    };
    const found: Awaited<ReturnType<typeof listChangeRequests>> = [];
    if (isAtLeast(caller.role, "approver")) {
      const { policies } = await policiesOf(db, project.id);
      const mine = policies.filter(({ approvers }) => isNamed(approvers, caller));
      // As many can wait as MAX_CHANGE_REQUESTS says, so this ends.
      for (let next = before; found.length <= limit; ) {
        const rows = await listChangeRequests(db, project.id, { ...waiting, before: next }, 200);
        found.push(...rows.filter(({ row, environment }) => mine.some((one) => isMet(one, { ...row, environment }))));
        if (rows.length < 200) break;
        next = rows.at(-1)!.row.seq;
      }
    }
    return c.json(
      pageOf(found.slice(0, limit + 1), limit, ({ row }) => String(row.seq), shown),
      200,
    );
  })
  .openapi(read, async (c) => {
    const there = await changeRequestOf(c, true);
    c.header("etag", etagOf(there.row.version));
    return c.json(await shownChangeRequest(c.var.db, there, c.var.now()), 200);
  })
  .openapi(patch, async (c) => {
    const input = c.req.valid("json");
    const { caller, db } = c.var;
    const done = await write(c, async (now) => {
      const there = await changeRequestOf(c, false);
      const { row, environment } = there;
      if (row.authorId !== caller.id) throw forbidden("Only its author edits a change request: comment on it.");
      requireMatch(c, etagOf(row.version));
      const asked = requireOne(input) ?? (there.revision.edit as TargetingEdit);
      const { title = row.title, description = row.description } = input;
      const publishAt = input.publishAt === undefined ? row.publishAt : input.publishAt;
      const told = (of: Pick<typeof row, "title" | "description" | "publishAt">, edit: object) => ({ ...of, ...edit });
      const about = { title: row.title, description: row.description, publishAt: row.publishAt };
      const changes = difference(
        told(about, there.revision.edit as object),
        told({ title, description, publishAt }, asked),
      );
      if (isEmpty(changes)) {
        return { status: 200, body: await shownChangeRequest(db, there, now), etag: etagOf(row.version) };
      }
      if (publishAt !== row.publishAt || row.status === "failed") requireFuture(publishAt, now, "/publishAt");
      const { base, ...affected } = await asOfNow(db, environment, row.flagKey, asked, now);
      const number = row.revision + 1;
      const revision = { changeRequestId: row.id, revision: number, edit: asked, base, createdAt: now };
      const fields = { revision: number, title, description, publishAt, failure: null, ...affected };
      const plan = await planStep(db, { ...there, revision }, caller, { kind: "edit", fields }, now);
      const { statements, audit } = plan.write!;
      return {
        ...plan,
        write: {
          statements: [...statements, insertRevision(db, revision)],
          audit: { ...audit, changes: { ...audit.changes, ...changes } },
        },
      };
    });
    return c.json(done.body, 200);
  })
  .openapi(events, async (c) => {
    const { limit, cursor } = c.req.valid("query");
    const after = beforeOf(cursor) ?? 0;
    const { events } = await changeRequestOf(c, true);
    const rows = events.filter(({ version }) => version > after);
    return c.json(
      pageOf(rows, limit, ({ version }) => String(version), shownEvent),
      200,
    );
  });

function beforeOf(cursor: string | undefined): number | undefined {
  if (cursor === undefined || cursor === "") return undefined;
  if (!/^\d{1,15}$/.test(cursor)) throw badRequest("That is not a cursor of this list.");
  return Number(cursor);
}

const neither = () =>
  badRequest("Say what is to be changed.", [
    { pointer: "/instructions", code: "missing", message: "Send instructions or fields." },
  ]);

function requireOne({
  instructions,
  fields,
}: Partial<{ [name in keyof typeof edit]: unknown }>): TargetingEdit | undefined {
  if (instructions !== undefined && fields !== undefined) {
    throw badRequest("Send instructions or fields, not both.", [
      { pointer: "/fields", code: "not-both", message: "There are instructions already." },
    ]);
  }
  const asked = instructions !== undefined ? { instructions } : fields !== undefined ? { fields } : undefined;
  // With the flag as it is, it has to fit a row.
  if (asked !== undefined && new TextEncoder().encode(JSON.stringify(asked)).byteLength > MAX_DOCUMENT_BYTES) {
    throw badRequest(`What is asked for has at most ${MAX_DOCUMENT_BYTES / 1_000} KB.`);
  }
  return asked as TargetingEdit | undefined;
}
