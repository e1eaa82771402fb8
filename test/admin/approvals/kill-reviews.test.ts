import { describe, expect, test } from "vitest";
import { newFlag, newToken } from "../../support/admin.ts";
import {
  admin,
  approver,
  author,
  MOST_USERS,
  outcome,
  PAYMENT,
  payer,
  serving,
  targeting,
  underPolicies,
} from "../../support/approvals.ts";

describe("a kill of a flag under policies (R10)", () => {
  test("is not held up, and is reviewed afterwards by somebody else", async () => {
    const { there, project, policies } = await underPolicies(PAYMENT, MOST_USERS);
    await admin("POST", policies, { ...MOST_USERS, key: "elsewhere", environments: ["development"] });
    const reviews = `/projects/${project}/kill-reviews`;
    const killed = await payer("POST", `${there}/kill`, { reason: "cards are charged twice" });
    expect([killed.status, killed.body.killed.reason, killed.body.pending]).toEqual([
      200,
      "cards are charged twice",
      undefined,
    ]);
    const { body } = await author("GET", `${reviews}?status=open`);
    expect(body.items).toHaveLength(1);
    const [review] = body.items;
    expect(review).toMatchObject({
      project,
      environment: "production",
      flag: "pay",
      status: "open",
      killed: { by: { name: "Pay" }, reason: "cards are charged twice" },
      policies: ["most-users", "payment"],
      closed: null,
    });
    const at = `${reviews}/${review.id}`;
    expect(await outcome(payer("POST", `${at}/close`, { comment: "It was me" }))).toEqual([403, "forbidden"]);
    expect(await outcome(author("POST", `${at}/close`, { comment: "No" }))).toEqual([403, "forbidden"]);
    expect((await approver("POST", `${at}/close`, {})).body.errors[0].pointer).toBe("/comment");
    const answers = await Promise.all(
      Array.from({ length: 4 }, (_, index) => approver("POST", `${at}/close`, { comment: `Right ${index}` })),
    );
    expect(answers.map(({ status, body }) => [status, body.status])).toEqual(Array(4).fill([200, "closed"]));
    expect(new Set(answers.map(({ body }) => body.closed.comment)).size).toBe(1);
    expect((await author("GET", `${reviews}?status=open`)).body.items).toEqual([]);
    expect((await author("GET", at)).body.closed).toMatchObject({ by: { name: "Ann" } });
    const { body: log } = await admin("GET", `/audit?project=${project}`);
    const actions = log.items.map(({ action }: { action: string }) => action);
    expect(actions.slice(0, 3)).toEqual(["kill-review.close", "kill-review.open", "flag.kill"]);
    // What it needs to be restored is nobody's approval either.
    expect((await author("POST", `${there}/restore`, {})).status).toBe(200);
    expect((await author("GET", reviews)).body.items).toHaveLength(1);
  });

  test("is each reviewed for itself, and a repeated request is one kill", async () => {
    const { there, project } = await underPolicies(PAYMENT);
    const key = { "idempotency-key": "kill-1" };
    await author("POST", `${there}/kill`, { reason: "one" }, key);
    await author("POST", `${there}/kill`, { reason: "one" }, key);
    await author("POST", `${there}/restore`, {});
    await author("POST", `${there}/kill`, { reason: "two" });
    const reviews = `/projects/${project}/kill-reviews`;
    const first = await author("GET", `${reviews}?limit=1`);
    expect(first.body.items[0].killed.reason).toBe("two");
    const rest = await author("GET", `${reviews}?cursor=${first.body.nextCursor}`);
    expect(rest.body).toMatchObject({ items: [{ killed: { reason: "one" } }], nextCursor: null });
    expect((await author("GET", `${reviews}?flag=other`)).body.items).toEqual([]);
    expect((await author("GET", `${reviews}?cursor=x`)).status).toBe(400);
  });

  test("and of no other flag, and is seen by whoever may see its environment", async () => {
    const { there, project } = await underPolicies(PAYMENT);
    const other = `${await newFlag(admin, project, "search")}/environments/production`;
    await author("POST", `${other}/kill`, { reason: "slow" });
    const reviews = `/projects/${project}/kill-reviews`;
    expect((await author("GET", reviews)).body.items).toEqual([]);
    await author("POST", `${there}/kill`, { reason: "broken" });
    const [review] = (await author("GET", reviews)).body.items;
    const elsewhere = await newToken({ role: "approver", scope: { environments: [`${project}/development`] } });
    expect((await elsewhere("GET", reviews)).body.items).toEqual([]);
    expect((await elsewhere("GET", `${reviews}/${review.id}`)).status).toBe(404);
    expect((await elsewhere("POST", `${reviews}/${review.id}/close`, { comment: "Mine" })).status).toBe(404);
  });

  test("leaves its change requests as they are: a kill is not undone by publishing one", async () => {
    const { there, ask } = await underPolicies(PAYMENT);
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) });
    await payer("POST", `${at}/approve`, { revision: 1 });
    await author("POST", `${there}/kill`, { reason: "broken" });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await author("GET", there)).body.killed.reason).toBe("broken");
  });
});

test("an environment and a project are deleted with their policies, change requests and reviews", async () => {
  const { there, project, ask, requests } = await underPolicies(PAYMENT);
  const { at } = await ask();
  await author("POST", `${there}/kill`, { reason: "broken" });
  for (const environment of ["production", "development"]) {
    expect((await admin("DELETE", `/projects/${project}/environments/${environment}`)).status).toBe(204);
  }
  expect((await admin("GET", at)).status).toBe(404);
  expect((await admin("GET", requests)).body.items).toEqual([]);
  expect((await admin("GET", `/projects/${project}/kill-reviews`)).body.items).toEqual([]);
});
