/** People, policies and a flag under them, for tests of approvals. */
import { expect } from "vitest";
import { type Api, newFlag, newProject, newToken } from "./admin.ts";

export const admin = await newToken({ name: "Root" });
export const author = await newToken({ name: "Ed", role: "editor" });
export const payer = await newToken({ name: "Pay", role: "approver", groups: ["payments"] });
export const approver = await newToken({ name: "Ann", role: "approver" });

export const PAYMENT = { key: "payment", tags: ["payment"], approvers: { group: "payments" }, approvals: 1 };
export const MOST_USERS = { key: "most-users", share: 50_001, approvers: { role: "approver" }, approvals: 2 };

/** Instructions that make the fallthrough serve `on` to this many of 100,000. */
export const serving = (on: number) => [{ kind: "setServe", serve: { split: { weights: { on, off: 100_000 - on } } } }];

/** The change of a change request: an edit of the targeting of `pay`, in production unless `path` says otherwise. */
export const targeting = (body: object, path: object = {}) => ({
  operation: "instructions" in body ? "editTargeting" : "updateTargeting",
  path: { environment: "production", flag: "pay", ...path },
  body,
});

/** A project with a flag tagged `payment` that is on for a tenth in production, and with these policies. */
export async function underPolicies(...policies: object[]) {
  const project = await newProject(admin);
  const flag = await newFlag(admin, project, "pay", { tags: ["payment"] });
  const there = `${flag}/environments/production`;
  const instructions = [{ kind: "turnOn" }, ...serving(10_000)];
  await admin("POST", `${there}/instructions`, { instructions });
  for (const policy of policies) {
    expect((await admin("POST", `/projects/${project}/policies`, policy)).status).toBe(201);
  }
  const requests = `/projects/${project}/change-requests`;
  const ask = async (fields: object = {}, by: Api = author) => {
    const request = { title: "A fifth", change: targeting({ instructions: serving(20_000) }), ...fields };
    const { status, body } = await by("POST", requests, request);
    expect([status, status === 201 ? "" : body]).toEqual([201, ""]);
    return { id: body.id as string, at: `${requests}/${body.id}`, body };
  };
  return { project, flag, there, requests, policies: `/projects/${project}/policies`, ask };
}

/** A flag that is on in production and has a rule with a segment. After `protect` a policy covers changes of either. */
export async function underSegment() {
  const there = await underPolicies();
  const { project, policies } = there;
  const segments = `/projects/${project}/environments/production/segments`;
  await admin("POST", segments, { key: "beta", included: ["ada"] });
  const rule = { id: "beta", conditions: [{ segment: ["beta"] }], serve: { variation: "on" } };
  await admin("POST", `${there.there}/instructions`, { instructions: [{ kind: "addRule", rule }] });
  const protect = () => admin("POST", policies, PAYMENT);
  const approved = async (change: object) => {
    const request = await there.ask({ change });
    expect(await outcome(payer("POST", `${request.at}/approve`, { revision: 1 }))).toEqual([200, "open"]);
    return request;
  };
  const segment = `${segments}/beta`;
  return { ...there, segments, segment, protect, approved };
}

export const outcome = async (answer: ReturnType<Api>) => {
  const { status, body } = await answer;
  return status === 200 ? [status, body.status] : [status, body.code];
};
