/** What needs approval in a project, and whose. */
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { badRequest, conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import { deletePolicy, editPolicies, insertPolicy, policiesOf, updatePolicy } from "../../store/approvals/policies.ts";
import type { PolicyRow } from "../../store/approvals/policy.ts";
import { pageAmong } from "../../store/page.ts";
import { findProject } from "../../store/projects.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, json, key, page, problems, projectPath, resource } from "../http/contract.ts";
import { keyedQuery, listing, truth } from "../http/pagination.ts";
import { MAX_NAME, MAX_POLICIES } from "../limits.ts";
import { etagOf, requireMatch, write } from "../write/write.ts";
import { fields, policy, shownPolicy as shown } from "./policy-representation.ts";

const PATH = "/projects/{project}/policies" as const;
const policyPath = projectPath.extend({ policy: z.string().min(1) });

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
  handle: async (requested, c) => {
    const { key, ...given } = body;
    const done = await write(c, async (now) => {
      const there = await projectPolicies(c);
      if (there.policies.some((row) => row.key === key)) {
        throw conflict("already-exists", `The policy ${key} exists already.`);
      }
      if (there.policies.length >= MAX_POLICIES) {
        throw conflict("too-many-policies", `A project has at most ${MAX_POLICIES} policies.`);
      }
      const defaults = {
        name: key,
        description: "",
        enabled: true,
        environments: [],
        tags: [],
        share: 0,
        bypass: null,
      };
      const fields = { ...defaults, ...given };
      requireEnough(fields);
      const { projectId } = there;
      const row = { id: newId("pol"), projectId, key, ...fields, version: 1, createdAt: now, updatedAt: now };
      return {
        status: 201,
        body: shown(there.project, row),
        etag: etagOf(1),
        write: {
          statements: [editPolicies(c.var.db, there, now), insertPolicy(c.var.db, row)],
          audit: audited("policy.create", there.project, key, difference({}, fields)),
        },
      };
    });
    return c.json(done.body, 201);
  },
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
  returns: "Policies, by key unless told",
  handle: async (requested, c) => {
    const { environment, tag, enabled, q = "", ...query } = query;
    const { page, told } = await listing(c, query, "key");
    const { project, policies } = await projectPolicies(c);
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
    return c.json(
      told(pageAmong(rows, "key", page), (row) => shown(project, row)),
      200,
    );
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
  handle: async (requested, c) => {
    const { project, row } = await policyOf(c);
    c.header("etag", etagOf(row.version));
    return c.json(shown(project, row), 200);
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
  handle: async (requested, c) => {
    const fields = body;
    const done = await write(c, async (now) => {
      const { project, row, there } = await policyOf(c);
      requireMatch(c, etagOf(row.version));
      const next = { ...row, ...fields };
      const changes = difference(row, next);
      if (isEmpty(changes)) return { status: 200, body: shown(project, row), etag: etagOf(row.version) };
      requireEnough(next);
      next.version = row.version + 1;
      next.updatedAt = now;
      return {
        status: 200,
        body: shown(project, next),
        etag: etagOf(next.version),
        write: {
          statements: [editPolicies(c.var.db, there, now), updatePolicy(c.var.db, next)],
          audit: audited("policy.update", project, row.key, changes),
        },
      };
    });
    return c.json(done.body, 200);
  },
});

const remove = operation({
  id: "deletePolicy",
  method: "delete",
  path: `${PATH}/{policy}`,
  tag: "policies",
  summary: "Delete a policy",
  role: "admin",
  status: 204,
  returns: { description: "Deleted" },
  handle: async (requested, c) => {
    await write(c, async (now) => {
      const { project, row, there } = await policyOf(c);
      requireMatch(c, etagOf(row.version));
      return {
        status: 204,
        body: null,
        write: {
          statements: [editPolicies(c.var.db, there, now), deletePolicy(c.var.db, row.id)],
          audit: audited("policy.delete", project, row.key, { key: { from: row.key } }),
        },
      };
    });
    return c.body(null, 204);
  },
});

export const policies = [create, list, read, patch, remove];

/** One that nobody can satisfy would hold up everything for good. */
function requireEnough({ approvers, approvals }: Pick<PolicyRow, "approvers" | "approvals">): void {
  if (!("members" in approvers) || new Set(approvers.members).size >= approvals) return;
  const message = `It asks for ${approvals} approvals of fewer people.`;
  throw badRequest(message, [{ pointer: "/approvals", code: "too-few-approvers", message }]);
}

async function projectPolicies(c: AdminContext) {
  const { project: key = "" } = c.req.param() as { project?: string };
  const project = await findProject(c.var.db, key);
  if (project === undefined) throw notFound(`The project ${key}`);
  return { project: key, ...(await policiesOf(c.var.db, project.id)) };
}

async function policyOf(c: AdminContext) {
  const { policy: key = "" } = c.req.param() as { policy?: string };
  const there = await projectPolicies(c);
  const row = there.policies.find((one) => one.key === key);
  if (row === undefined) throw notFound(`The policy ${key}`);
  return { project: there.project, row, there };
}

const audited = (action: string, project: string, key: string, changes: ReturnType<typeof difference>) => ({
  action,
  type: "policy" as const,
  project,
  key,
  changes,
});
