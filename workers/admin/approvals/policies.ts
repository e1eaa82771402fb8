/** What needs approval in a project, and whose. */

import { badRequest, conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import { deletePolicy, editPolicies, insertPolicy, policiesOf, updatePolicy } from "../../store/approvals/policies.ts";
import type { PolicyRow } from "../../store/approvals/policy.ts";
import type { Database } from "../../store/database.ts";
import { pageAmong } from "../../store/page.ts";
import { findProject } from "../../store/projects.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { key, page } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { keyedQuery, listing, truth } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME, MAX_POLICIES } from "../limits.ts";
import { operation } from "../operation.ts";
import { fields, policy, shownPolicy as shown } from "./policy-representation.ts";

const PATH = "/projects/{project}/policies" as const;

const create = operation({
  id: "createPolicy",
  method: "post",
  path: PATH,
  tag: "policies",
  summary: "Create a policy; it holds for every change from then on",
  role: "admin",
  body: fields.partial().required({ approvers: true, approvals: true }).extend({ key }),
  status: 201,
  answer: policy,
  returns: "Created",
  example: { key: "payments", tags: ["money"], approvers: { group: "payments" }, approvals: 1 },
  problems: { 409: ["already-exists", "too-many-policies"] },
  plan: async ({ db, path, body }, now) => {
    const { key, ...given } = body;
    const there = await projectPolicies(db, path.project);
    if (there.policies.some((row) => row.key === key)) {
      throw conflict("already-exists", `The policy ${key} exists already.`);
    }
    if (there.policies.length >= MAX_POLICIES) {
      throw conflict("too-many-policies", `A project has at most ${MAX_POLICIES} policies.`);
    }
    const defaults = { name: key, description: "", enabled: true, environments: [], tags: [], share: 0, bypass: null };
    const fields = { ...defaults, ...given };
    requireEnough(fields);
    const { projectId } = there;
    const row = { id: newId("pol"), projectId, key, ...fields, version: 1, createdAt: now, updatedAt: now };
    return {
      status: 201,
      body: shown(path.project, row),
      etag: etagOf(1),
      write: {
        statements: [editPolicies(db, there, now), insertPolicy(db, row)],
        audit: audited("policy.create", path.project, key, difference({}, fields)),
      },
    };
  },
  respond: ({ body }) => body,
});

const list = operation({
  id: "listPolicies",
  method: "get",
  path: PATH,
  tag: "policies",
  summary: "List policies",
  role: "viewer",
  query: keyedQuery.extend({
    environment: z.string().max(MAX_NAME).optional().openapi({ description: "Those that hold there" }),
    tag: z.string().max(MAX_NAME).optional().openapi({ description: "Those that hold for its flags" }),
    enabled: truth,
  }),
  answer: page(policy),
  returns: "Policies, by key by default",
  handle: async ({ db, path, query }, c) => {
    const { environment, tag, enabled, q = "", ...order } = query;
    const { page, answerOf } = await listing(c, order, "key");
    const { policies } = await projectPolicies(db, path.project);
    const holds = (all: string[], one: string | undefined) =>
      one === undefined || all.length === 0 || all.includes(one);
    const text = q.toLowerCase();
    const rows = policies.filter(
      (row) =>
        holds(row.environments, environment) &&
        holds(row.tags, tag) &&
        (enabled === undefined || row.enabled === enabled) &&
        [row.key, row.name, row.description].some((one) => one.toLowerCase().includes(text)),
    );
    return answerOf(pageAmong(rows, "key", page), (row) => shown(path.project, row));
  },
});

const read = operation({
  id: "readPolicy",
  method: "get",
  path: `${PATH}/{policy}`,
  tag: "policies",
  summary: "Read a policy",
  role: "viewer",
  answer: policy,
  returns: "The policy",
  handle: async ({ db, path }, c) => {
    const { row } = await policyOf(db, path);
    c.header("etag", etagOf(row.version));
    return shown(path.project, row);
  },
});

const patch = operation({
  id: "updatePolicy",
  method: "patch",
  path: `${PATH}/{policy}`,
  tag: "policies",
  summary: "Change the fields that are sent; what is in force when something is published counts",
  role: "admin",
  body: fields.partial(),
  answer: policy,
  returns: "The policy",
  example: { share: 50_001 },
  plan: async (requested, now) => {
    const { db, path, body } = requested;
    const { row, there } = await policyOf(db, path);
    requireIfMatch(requested, etagOf(row.version));
    const next = { ...row, ...body };
    const changes = difference(row, next);
    if (isEmpty(changes)) return { status: 200, body: shown(path.project, row), etag: etagOf(row.version) };
    requireEnough(next);
    next.version = row.version + 1;
    next.updatedAt = now;
    return {
      status: 200,
      body: shown(path.project, next),
      etag: etagOf(next.version),
      write: {
        statements: [editPolicies(db, there, now), updatePolicy(db, next)],
        audit: audited("policy.update", path.project, row.key, changes),
      },
    };
  },
  respond: ({ body }) => body,
});

const remove = operation({
  id: "deletePolicy",
  method: "delete",
  path: `${PATH}/{policy}`,
  tag: "policies",
  summary: "Delete a policy",
  role: "admin",
  status: 204,
  returns: "Deleted",
  plan: async (requested, now) => {
    const { db, path } = requested;
    const { row, there } = await policyOf(db, path);
    requireIfMatch(requested, etagOf(row.version));
    return {
      status: 204,
      body: null,
      write: {
        statements: [editPolicies(db, there, now), deletePolicy(db, row.id)],
        audit: audited("policy.delete", path.project, row.key, { key: { from: row.key } }),
      },
    };
  },
  respond: () => null,
});

export const policies = [create, list, read, patch, remove];

/** One that nobody can satisfy would hold up everything for good. */
function requireEnough({ approvers, approvals }: Pick<PolicyRow, "approvers" | "approvals">): void {
  if (!("members" in approvers) || new Set(approvers.members).size >= approvals) return;
  const message = `It asks for ${approvals} approvals of fewer people.`;
  throw badRequest(message, [{ pointer: "/approvals", code: "too-few-approvers", message }]);
}

async function projectPolicies(db: Database, key: string) {
  const project = await findProject(db, key);
  if (project === undefined) throw notFound(`The project ${key}`);
  return policiesOf(db, project.id);
}

async function policyOf(db: Database, path: { project: string; policy: string }) {
  const there = await projectPolicies(db, path.project);
  const row = there.policies.find((one) => one.key === path.policy);
  if (row === undefined) throw notFound(`The policy ${path.policy}`);
  return { row, there };
}

const audited = (action: string, project: string, key: string, changes: ReturnType<typeof difference>) => ({
  action,
  type: "policy" as const,
  project,
  key,
  changes,
});
