import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const admin = await newToken({ name: "Root" });
const editor = await newToken({ name: "Ed", role: "editor" });

const PAYMENT = { key: "payment", tags: ["payment"], approvers: { group: "payments" }, approvals: 1 };
const MOST_USERS = { key: "most-users", share: 50_001, approvers: { role: "approver" }, approvals: 2 };

/** A project with a flag tagged payment, on for a tenth in production, and the policies. */
async function project(...policies: object[]) {
  const key = await newProject(admin);
  const flag = await newFlag(admin, key, "pay", { tags: ["payment"] });
  const there = `${flag}/environments/production`;
  await admin("PATCH", there, { on: true, fallthrough: { split: { weights: { on: 10_000, off: 90_000 } } } });
  for (const policy of policies) {
    expect((await admin("POST", `/projects/${key}/policies`, policy)).status).toBe(201);
  }
  return { key, flag, there, policies: `/projects/${key}/policies`, base: `/projects/${key}/environments/production` };
}

const to = (on: number) => ({ fallthrough: { split: { weights: { on, off: 100_000 - on } } } });
const refusal = async (answer: ReturnType<typeof editor>) => {
  const { status, body } = await answer;
  return [status, body?.code, ...(body?.policies ?? []).map((policy: { key: string }) => policy.key)];
};

describe("policies (R10)", () => {
  test("are created, read, listed by pages, changed under If-Match and deleted, and every step is in the audit log", async () => {
    const { policies, key } = await project(PAYMENT, MOST_USERS);
    const read = await editor("GET", `${policies}/payment`);
    expect(read.headers.get("etag")).toBe('"v1"');
    expect(read.body).toMatchObject({
      key: "payment",
      project: key,
      name: "payment",
      enabled: true,
      environments: [],
      tags: ["payment"],
      share: 0,
      approvers: { group: "payments" },
      approvals: 1,
      bypass: null,
      version: 1,
    });
    const first = await editor("GET", `${policies}?limit=1`);
    expect(first.body).toMatchObject({ items: [{ key: "most-users" }], nextCursor: expect.any(String) });
    expect((await editor("GET", `${policies}?cursor=${first.body.nextCursor}`)).body).toMatchObject({
      items: [{ key: "payment" }],
      nextCursor: null,
    });
    expect((await admin("POST", policies, PAYMENT)).body.code).toBe("already-exists");
    const changed = await admin("PATCH", `${policies}/payment`, { approvals: 3 }, { "if-match": '"v1"' });
    expect([changed.status, changed.headers.get("etag"), changed.body.approvals]).toEqual([200, '"v2"', 3]);
    expect((await admin("PATCH", `${policies}/payment`, { approvals: 2 }, { "if-match": '"v1"' })).status).toBe(412);
    expect((await admin("DELETE", `${policies}/payment`, undefined, { "if-match": '"v1"' })).status).toBe(412);
    expect((await admin("DELETE", `${policies}/payment`)).status).toBe(204);
    expect((await admin("GET", `${policies}/payment`)).status).toBe(404);
    const { body } = await admin("GET", `/audit?project=${key}&type=policy&key=payment`);
    expect(body.items.map(({ action }: { action: string }) => action)).toEqual([
      "policy.delete",
      "policy.update",
      "policy.create",
    ]);
    expect(body.items[1].changes).toEqual({ approvals: { from: 1, to: 3 }, ...body.items[1].changes });
  });

  test("are an administrator's to change, and everybody's to read", async () => {
    const { policies } = await project(PAYMENT);
    const approver = await newToken({ role: "approver" });
    expect((await approver("POST", policies, MOST_USERS)).status).toBe(403);
    expect((await approver("PATCH", `${policies}/payment`, { enabled: false })).status).toBe(403);
    expect((await approver("DELETE", `${policies}/payment`)).status).toBe(403);
    const elsewhere = await newToken({ role: "viewer", scope: { projects: ["elsewhere"] } });
    expect((await elsewhere("GET", policies)).status).toBe(403);
    expect((await editor("GET", policies)).status).toBe(200);
  });

  test.each([
    [{ ...PAYMENT, key: "__proto__" }, "/key"],
    [{ ...PAYMENT, approvers: { role: "viewer" } }, "/approvers"],
    [{ ...PAYMENT, approvers: {} }, "/approvers"],
    [{ ...PAYMENT, approvers: { group: "a", role: "admin" } }, "/approvers"],
    [{ ...PAYMENT, approvals: 0 }, "/approvals"],
    [{ ...PAYMENT, approvals: 11 }, "/approvals"],
    [{ ...PAYMENT, approvers: { members: ["tok_a", "tok_a"] }, approvals: 2 }, "/approvals"],
    [{ ...PAYMENT, share: 100_001 }, "/share"],
    [{ ...PAYMENT, share: 0.5 }, "/share"],
    [{ ...PAYMENT, bypass: "nobody" }, "/bypass"],
    [{ ...PAYMENT, environment: "production" }, "/environment"],
    [{ key: "incomplete" }, "/approvers"],
  ])("refuse %j, with a pointer to the mistake", async (body, pointer) => {
    const { policies } = await project();
    const answer = await admin("POST", policies, body);
    expect([answer.status, answer.body.errors[0].pointer]).toEqual([400, pointer]);
  });
});

describe("a write that meets a policy", () => {
  test("is refused with the policies' names and the way to ask, however it is made, and nothing is written", async () => {
    const { there, flag } = await project(PAYMENT);
    const refused = await admin("PATCH", there, to(20_000));
    expect([refused.status, refused.body.code]).toEqual([403, "approval-required"]);
    expect(refused.body.detail).toContain("/change-requests");
    expect(refused.body.policies).toEqual([
      { key: "payment", name: "payment", approvers: { group: "payments" }, approvals: 1, given: 0 },
    ]);
    const whole = { on: true, offVariation: "off", fallthrough: { variation: "on" } };
    expect(await refusal(admin("PUT", there, whole))).toEqual([403, "approval-required", "payment"]);
    expect(await refusal(admin("POST", `${there}/off`))).toEqual([403, "approval-required", "payment"]);
    const instructions = [{ kind: "addTargets", variation: "on", values: ["ada"] }];
    expect((await refusal(admin("POST", `${there}/instructions`, { instructions })))[0]).toBe(403);
    expect((await refusal(admin("POST", `${flag}/archive`)))[0]).toBe(403);
    const variations = [
      { key: "on", value: false },
      { key: "off", value: false },
    ];
    expect((await refusal(admin("PATCH", flag, { variations })))[0]).toBe(403);
    expect((await admin("GET", there)).body).toMatchObject({ version: 2, on: true, targets: [] });
    // What nobody is served otherwise by is nobody's to approve.
    expect((await editor("PATCH", flag, { description: "Takes money" })).status).toBe(200);
    expect((await editor("POST", `${there}/on`)).status).toBe(200);
  });

  test("goes through where the change is smaller, elsewhere, of another flag, or the policy is disabled", async () => {
    const { there, policies, key } = await project(MOST_USERS);
    expect((await editor("PATCH", there, to(60_000))).status).toBe(200);
    expect(await refusal(editor("PATCH", there, to(100)))).toEqual([403, "approval-required", "most-users"]);
    await admin("PATCH", `${policies}/most-users`, { environments: ["development"] });
    expect((await editor("PATCH", there, to(100))).status).toBe(200);
    await admin("PATCH", `${policies}/most-users`, { environments: [], tags: ["search"] });
    expect((await editor("PATCH", there, to(100_000))).status).toBe(200);
    await admin("PATCH", `${policies}/most-users`, { tags: [], enabled: false });
    expect((await editor("POST", `${there}/off`)).status).toBe(200);
    await admin("PATCH", `${policies}/most-users`, { enabled: true });
    // A new flag is off: nobody is served anything by it.
    await newFlag(editor, key, "fresh");
    expect((await admin("GET", `/projects/${key}/flags/fresh`)).status).toBe(200);
  });

  test("names both where it meets two", async () => {
    const { there } = await project(PAYMENT, MOST_USERS);
    expect(await refusal(editor("PATCH", there, to(90_000)))).toEqual([
      403,
      "approval-required",
      "most-users",
      "payment",
    ]);
    expect(await refusal(editor("PATCH", there, to(20_000)))).toEqual([403, "approval-required", "payment"]);
  });

  test("goes through for a role that the policy exempts, and the audit log says so", async () => {
    const { there, policies, key } = await project(PAYMENT);
    await admin("PATCH", `${policies}/payment`, { bypass: "admin" });
    expect((await refusal(editor("PATCH", there, to(20_000))))[0]).toBe(403);
    expect((await admin("PATCH", there, to(20_000))).status).toBe(200);
    const { body } = await admin("GET", `/audit?project=${key}&type=flag&key=pay`);
    expect(body.items[0].bypassed).toEqual(["payment"]);
    expect(body.items[1].bypassed).toBeUndefined();
  });

  test("may be what takes a flag from under it", async () => {
    const { flag } = await project(PAYMENT);
    expect(await refusal(editor("PATCH", flag, { tags: ["checkout"] }))).toEqual([403, "approval-required", "payment"]);
    expect((await editor("PATCH", flag, { tags: ["payment", "checkout"] })).status).toBe(200);
    expect((await editor("PATCH", flag, { tags: ["payment"] })).status).toBe(200);
  });

  test("may be of what its flags depend on: a prerequisite, or a segment", async () => {
    const { key, there, base } = await project();
    await newFlag(admin, key, "gate");
    const gate = `/projects/${key}/flags/gate/environments/production`;
    await admin("POST", `${base}/segments`, { key: "beta", included: ["ada"] });
    await admin("POST", `${base}/segments`, { key: "unused", included: ["ada"] });
    await admin("POST", `${there}/instructions`, {
      instructions: [
        { kind: "addPrerequisite", prerequisite: { flag: "gate", variations: ["on", "off"] } },
        { kind: "addRule", rule: { id: "beta", conditions: [{ segment: ["beta"] }], serve: { variation: "on" } } },
      ],
    });
    await admin("POST", `/projects/${key}/policies`, PAYMENT);
    expect(await refusal(editor("POST", `${gate}/on`))).toEqual([403, "approval-required", "payment"]);
    const members = { included: ["ada", "grace"] };
    expect(await refusal(editor("PATCH", `${base}/segments/beta`, members))).toEqual([
      403,
      "approval-required",
      "payment",
    ]);
    expect((await editor("PATCH", `${base}/segments/beta`, { description: "testers" })).status).toBe(200);
    expect((await editor("PATCH", `${base}/segments/unused`, members)).status).toBe(200);
    // Listed members count nobody towards a share.
    await admin("DELETE", `/projects/${key}/policies/payment`);
    await admin("POST", `/projects/${key}/policies`, MOST_USERS);
    expect((await editor("PATCH", `${base}/segments/beta`, members)).status).toBe(200);
    const rules = [{ conditions: [{ attribute: "plan", op: "exists" }] }];
    expect((await refusal(editor("PATCH", `${base}/segments/beta`, { rules })))[2]).toBe("most-users");
  });

  test("is told of by a dry run", async () => {
    const { there, policies } = await project(PAYMENT, MOST_USERS);
    await admin("PATCH", `${policies}/payment`, { bypass: "editor" });
    const { status, body } = await editor("PATCH", `${there}?dryRun=true`, to(90_000));
    expect([status, body.code]).toEqual([403, "approval-required"]);
    expect(body.preview.policies).toEqual([
      {
        key: "most-users",
        name: "most-users",
        approvers: { role: "approver" },
        approvals: 2,
        given: 0,
        bypassed: false,
      },
      { key: "payment", name: "payment", approvers: { group: "payments" }, approvals: 1, given: 0, bypassed: true },
    ]);
    expect((await editor("PATCH", `${there}?dryRun=true`, { on: true })).body.preview.policies).toEqual([]);
  });
});

test("of writes that race the tagging of their flag, none slips through after it", async () => {
  const { there, flag, key } = await project(PAYMENT);
  await admin("PATCH", `/projects/${key}/policies/payment`, { tags: ["billing"] });
  const answers = await Promise.all([
    ...Array.from({ length: 10 }, (_, index) => editor("PATCH", there, to(11_000 + index))),
    editor("PATCH", flag, { tags: ["payment", "billing"] }),
    ...Array.from({ length: 10 }, (_, index) => editor("PATCH", there, to(31_000 + index))),
  ]);
  expect(answers[10]!.status).toBe(200);
  const { body } = await admin("GET", `/audit?project=${key}&type=flag&key=pay&limit=100`);
  expect(body.items[0].changes.tags).toEqual({ from: ["payment"], to: ["payment", "billing"] });
});

test("of writes that race the making of a policy, each is before it or refused: none slips through after it", async () => {
  const { there, policies, key } = await project();
  const answers = await Promise.all([
    ...Array.from({ length: 12 }, (_, index) => editor("PATCH", there, to(11_000 + index))),
    admin("POST", policies, PAYMENT),
    ...Array.from({ length: 12 }, (_, index) => editor("PATCH", there, to(31_000 + index))),
  ]);
  expect(answers[12]!.status).toBe(201);
  expect(new Set(answers.map(({ status }) => status)).difference(new Set([200, 201, 403]))).toEqual(new Set());
  // The log has the order in which they were committed.
  const { body } = await admin("GET", `/audit?project=${key}&limit=100`);
  const actions = body.items.map(({ action }: { action: string }) => action);
  expect(actions[0]).toBe("policy.create");
  expect(actions.filter((action: string) => action === "flag.update")).toHaveLength(
    1 + answers.filter(({ status }) => status === 200).length,
  );
});
