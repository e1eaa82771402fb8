/** Change requests: opened, listed, read, edited, and what has happened to each. */

import { badRequest, conflict, forbidden } from "../../../platform/problem.ts";
import { newId } from "../../../platform/random-id.ts";
import {
  countUndecided,
  insertChangeRequest,
  insertEvent,
  insertRevision,
  type ListedChangeRequest,
  listChangeRequests,
} from "../../../store/approvals/change-requests.ts";
import { policiesOf } from "../../../store/approvals/policies.ts";
import { isAtLeast, isEscaped, isMet, isNamed, type PolicyRow } from "../../../store/approvals/policy.ts";
import { retryingLostRaces } from "../../../store/outbox/commit.ts";
import type { AffectedByChange } from "../../../store/schema/index.ts";
import { difference, isEmpty } from "../../documents/diff.ts";
import { visibleEnvironments } from "../../http/access.ts";
import { page, pageOf, pageQuery } from "../../http/contract.ts";
import { etagOf, requireIfMatch } from "../../http/if-match.ts";
import { listing, openedQuery } from "../../http/pagination.ts";
import { z } from "../../http/zod.ts";
import { MAX_CHANGE_REQUESTS, MAX_NAME } from "../../limits.ts";
import { operation } from "../../operation.ts";
import { projectThere } from "../../planned/planned.ts";
import { requireFuture } from "../../write/write.ts";
import { changeRequestOf, STATE } from "./actions.ts";
import { actorOf, auditedStep, planRevision, shownChangeRequest } from "./plan.ts";
import { asOfNow, previewWithin } from "./preview.ts";
import { about, changeRequest, event, listedChangeRequest, shownEvent, shownRow, status } from "./representation.ts";
import { change, REQUESTED, REQUESTED_SIZE } from "./requested-operation.ts";

const PATH = "/projects/{project}/change-requests" as const;

const create = operation({
  id: "createChangeRequest",
  method: "post",
  path: PATH,
  tag: "change requests",
  summary: "Request a change that somebody has to approve of, or that is to be made at a time",
  role: "editor",
  reach: "part",
  body: z.strictObject({
    change,
    ...about,
    description: about.description.optional(),
    publishAt: about.publishAt.optional(),
    draft: z.boolean().optional().openapi({ description: "Not to be looked at before …/submit" }),
  }),
  status: 201,
  answer: changeRequest,
  returns: "Opened",
  example: {
    title: "A fifth",
    change: {
      operation: "editTargeting",
      path: { environment: "production", flag: "new-checkout" },
      body: { instructions: [{ kind: "setServe", serve: { split: { weights: { on: 20_000, off: 80_000 } } } }] },
    },
  },
  problems: {
    409: ["too-many-change-requests", ...REQUESTED],
    412: ["changed-since"],
    413: REQUESTED_SIZE,
  },
  plan: async (requested, now) => {
    const { env, db, by, scope, body } = requested;
    const { change, title, description = "", publishAt = null, draft = false } = body;
    const place = { env, db };
    const actor = actorOf(requested);
    const project = await projectThere(requested);
    requireFuture(publishAt, now, "/publishAt");
    if ((await countUndecided(db, project.id)) >= MAX_CHANGE_REQUESTS) {
      throw conflict("too-many-change-requests", `Decide on some first: at most ${MAX_CHANGE_REQUESTS} can wait.`);
    }
    const { base, environment, fields, subjects } = await asOfNow({ ...place, by, scope }, project, change, now);
    const id = newId("cr");
    const status = draft ? ("draft" as const) : ("open" as const);
    const row = {
      id,
      projectId: project.id,
      ...{ title, description, status, publishAt, ...fields },
      authorId: actor.id,
      author: actor.name,
      ...{ revision: 1, version: 1, failure: null, attempts: 0, createdAt: now, updatedAt: now, publishedAt: null },
    };
    const revision = { changeRequestId: id, revision: 1, change, base, createdAt: now };
    const event = {
      ...{ changeRequestId: id, version: 1, kind: "open" as const, revision: 1 },
      ...{ actorId: actor.id, actor: actor.name, comment: null, at: now },
    };
    const there = { row: { ...row, seq: 0 }, revision, events: [event], project, environment };
    return {
      status: 201,
      wakeAt: status === "open" ? publishAt : null,
      body: await shownChangeRequest(place, there, now),
      etag: etagOf(1),
      write: {
        statements: [
          insertEvent(db, event),
          insertChangeRequest(db, row),
          ...insertRevision(db, project.id, revision, subjects),
        ],
        audit: auditedStep(there, id, "open", difference({}, { status, title, publishAt, ...change })),
      },
    };
  },
  respond: ({ body }) => body,
});

const list = operation({
  id: "listChangeRequests",
  method: "get",
  path: PATH,
  tag: "change requests",
  summary: "List change requests",
  role: "viewer",
  reach: "part",
  query: openedQuery.extend({
    status: status.optional(),
    environment: z.string().max(MAX_NAME).optional().openapi({
      description: "Those of the whole project are of each environment",
    }),
    flag: z.string().max(MAX_NAME).optional().openapi({ description: "Those that would change it" }),
    segment: z.string().max(MAX_NAME).optional().openapi({ description: "Those that would change it" }),
    author: z.string().max(MAX_NAME).optional().openapi({ description: "The id of a token" }),
    waitingForMe: z.enum(["true", "false"]).default("false").openapi({
      description: "Those that a policy in force wants the caller's approval of, who has not given it yet",
    }),
  }),
  answer: page(listedChangeRequest),
  returns: "Change requests, newest first by default",
  handle: async (requested, c) => {
    const { db, path, query } = requested;
    const { caller } = c.var;
    const { status, environment, flag, segment, author, waitingForMe, q, ...order } = query;
    const { page, answerOf } = await listing(c, order, "seq");
    const project = await projectThere(requested);
    if (flag !== undefined && segment !== undefined) throw badRequest("Send flag or segment, not both.");
    const subject =
      flag !== undefined
        ? ({ kind: "flag", key: flag } as const)
        : segment === undefined
          ? undefined
          : ({ kind: "segment", key: segment } as const);
    const visible = visibleEnvironments(caller.scope, path.project);
    const environments =
      environment === undefined ? visible : [environment].filter((one) => visible?.includes(one) ?? true);
    const filter = { status: status && [status], environments, subject, author, q };
    const answer = (found: ListedChangeRequest[]) => {
      const rows = found.map(({ row, environment }) => ({ ...row, environment }));
      return answerOf(rows, ({ environment, ...row }) => shownRow({ project: path.project, environment }, row));
    };
    if (waitingForMe === "false") {
      return answer(await listChangeRequests(db, project.id, filter, page));
    }
    const undecided = (["open", "failed"] as const).filter((one) => status === undefined || one === status);
    const waiting = { ...filter, status: undecided, waitingFor: caller.id };
    const found: ListedChangeRequest[] = [];
    if (undecided.length > 0 && isAtLeast(caller.role, "approver")) {
      const { policies } = await policiesOf(db, project.id);
      const mine = policies.filter(({ approvers }) => isNamed(approvers, caller));
      // As many can wait as MAX_CHANGE_REQUESTS says, so this ends.
      for (let { after } = page; found.length < page.limit; ) {
        const rows = await listChangeRequests(db, project.id, waiting, { ...page, after, limit: 200 });
        found.push(...rows.filter(({ row }) => mine.some((one) => concerns(one, row.affected))));
        if (rows.length < 200) break;
        const { seq, createdAt } = rows.at(-1)!.row;
        after = { value: createdAt, tie: String(seq) };
      }
    }
    return answer(found.slice(0, page.limit));
  },
});

const read = operation({
  id: "readChangeRequest",
  method: "get",
  path: `${PATH}/{changeRequest}`,
  tag: "change requests",
  summary: "Read a change request, with what it would do now",
  role: "viewer",
  reach: "part",
  answer: changeRequest,
  returns: "The change request",
  handle: async (requested, c) => {
    const { env, db, scope } = requested;
    const there = await changeRequestOf(requested, true);
    c.header("etag", etagOf(there.row.version));
    const shown = await retryingLostRaces(() => shownChangeRequest({ env, db }, there, c.var.now()));
    const visible = visibleEnvironments(scope, there.project.key);
    return { ...shown, preview: shown.preview && previewWithin(shown.preview, visible) };
  },
});

const patch = operation({
  id: "updateChangeRequest",
  method: "patch",
  path: `${PATH}/{changeRequest}`,
  tag: "change requests",
  summary: "Change what is requested; approvals were of what it was before, and count no more",
  role: "editor",
  reach: "part",
  body: z.strictObject({ change, ...about }).partial(),
  answer: changeRequest,
  returns: "The change request",
  example: { title: "A fifth of them", description: "It went well with a tenth." },
  problems: { 409: [...STATE, ...REQUESTED], 412: ["changed-since"], 413: REQUESTED_SIZE },
  plan: async (requested, now) => {
    const { env, db, body } = requested;
    const place = { env, db };
    const there = await changeRequestOf(requested, false);
    const { row } = there;
    if (row.authorId !== actorOf(requested).id) {
      throw forbidden("Only its author edits a change request: comment on it.");
    }
    requireIfMatch(requested, etagOf(row.version));
    const change = body.change ?? there.revision.change;
    const { title = row.title, description = row.description } = body;
    const publishAt = body.publishAt === undefined ? row.publishAt : body.publishAt;
    const before = { title: row.title, description: row.description, publishAt: row.publishAt };
    const changes = difference({ ...before, ...there.revision.change }, { title, description, publishAt, ...change });
    if (isEmpty(changes)) {
      return { status: 200, body: await shownChangeRequest(place, there, now), etag: etagOf(row.version) };
    }
    if (publishAt !== row.publishAt || row.status === "failed") requireFuture(publishAt, now, "/publishAt");
    const fields = { title, description, publishAt };
    return planRevision(place, there, requested, change, { kind: "edit", fields }, { changes, now });
  },
  respond: ({ body }) => body,
});

const events = operation({
  id: "listEvents",
  method: "get",
  path: `${PATH}/{changeRequest}/events`,
  tag: "change requests",
  summary: "List what has happened to a change request, comments among it",
  role: "viewer",
  reach: "part",
  query: pageQuery,
  answer: page(event),
  returns: "Events, oldest first",
  handle: async (requested) => {
    const { limit, cursor } = requested.query;
    const after = afterVersion(cursor);
    const { events } = await changeRequestOf(requested, true);
    const rows = events.filter(({ version }) => version > after);
    return pageOf(rows, limit, ({ version }) => String(version), shownEvent);
  },
});

export const changeRequests = [create, list, read, patch, events];

function afterVersion(cursor = ""): number {
  if (cursor === "") return 0;
  if (!/^\d{1,15}$/.test(cursor)) throw badRequest("The cursor is not from this list.");
  return Number(cursor);
}

/** Whether somebody whom the policy names may have to approve of it: rather once too often, as tags are of all that it touches. */
function concerns(policy: PolicyRow, { shares, tags, untagged }: AffectedByChange): boolean {
  const isMetIn = ([environment, share]: [string, number]) => isMet(policy, { environment, tags, share });
  return Object.entries(shares).some(isMetIn) || isEscaped(policy, untagged, []);
}
