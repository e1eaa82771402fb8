/** A policy asks for approval however a change is made: none of these routes knows of approvals itself (R10). */
import { expect, test } from "vitest";
import { admin, author, PAYMENT, serving, underPolicies } from "../../support/approvals.ts";

const refused = async (answer: ReturnType<typeof author>) => {
  const { status, body } = await answer;
  expect([status, body.code, body.policies?.map(({ key }: { key: string }) => key)]).toEqual([
    403,
    "approval-required",
    ["payment"],
  ]);
};

test("a revert from the audit log", async () => {
  const { there, project, policies } = await underPolicies();
  await admin("POST", `${there}/instructions`, { instructions: serving(30_000) });
  await admin("POST", policies, PAYMENT);
  const { body } = await admin("GET", `/audit?project=${project}&action=flag.update`);
  await refused(author("POST", `/audit/${body.items[0].id}/revert`, {}));
  await admin("PATCH", `${policies}/payment`, { enabled: false });
  expect((await author("POST", `/audit/${body.items[0].id}/revert`, {})).status).toBe(200);
  expect((await admin("GET", there)).body.fallthrough.split.weights.on).toBe(10_000);
});

test("a promotion from another environment", async () => {
  const { project, flag, policies } = await underPolicies({ ...PAYMENT, environments: ["production"] });
  await author("PATCH", `${flag}/environments/development`, { on: true, fallthrough: { variation: "on" } });
  const promote = (from: string, to: string) =>
    author("POST", `/projects/${project}/promote`, { from, to, items: [{ flag: "pay" }] });
  await refused(promote("development", "production"));
  // The same into an environment that no policy names.
  expect((await promote("production", "development")).status).toBe(200);
  await admin("DELETE", `${policies}/payment`);
  expect((await promote("development", "production")).status).toBe(200);
});

test("one thing done to many flags", async () => {
  const { project, flag, there } = await underPolicies(PAYMENT);
  const bulk = (fields: object) => author("POST", `/projects/${project}/flags/bulk`, { keys: ["pay"], ...fields });
  await refused(bulk({ action: "removeTags", tags: ["payment"] }));
  await refused(bulk({ action: "archive" }));
  expect((await bulk({ action: "setOwner", owner: "payments" })).status).toBe(200);
  expect((await admin("GET", flag)).body).toMatchObject({ tags: ["payment"], archivedAt: null, owner: "payments" });
  expect((await admin("GET", there)).body.on).toBe(true);
});

test("an archived flag that comes back on, and a segment that is deleted from under nobody", async () => {
  const { flag, project, policies } = await underPolicies();
  await admin("POST", `${flag}/archive`);
  const segments = `/projects/${project}/environments/production/segments`;
  await admin("POST", segments, { key: "unused", included: ["ada"] });
  await admin("POST", policies, PAYMENT);
  await refused(author("POST", `${flag}/unarchive`));
  expect((await author("DELETE", `${segments}/unused`)).status).toBe(204);
});
