import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { runDue } from "../../../../workers/admin/due.ts";
import { newToken } from "../../../support/admin.ts";
import {
  admin,
  approver,
  author,
  outcome,
  PAYMENT,
  payer,
  serving,
  targeting,
  underPolicies,
} from "../../../support/approvals.ts";

const PAY = { environment: "production", kind: "flag", key: "pay" };

const share = async (there: string) => {
  const { body } = await admin("GET", there);
  return body.fallthrough.split?.weights.on;
};
const events = async (at: string) =>
  (await author("GET", `${at}/events?limit=100`)).body.items.map(({ kind }: { kind: string }) => kind);

describe("a change request whose flag has changed since (R10)", () => {
  test("is published on top of that, where the one leaves alone what the other has changed", async () => {
    const { there, ask, policies } = await underPolicies();
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) });
    await admin("POST", `${there}/instructions`, {
      instructions: [{ kind: "addTargets", variation: "on", values: ["ada"] }],
    });
    await admin("POST", policies, PAYMENT);
    await payer("POST", `${at}/approve`, { revision: 1 });
    const { body } = await author("GET", at);
    expect(body.preview).toMatchObject({ documents: [{ current: { version: 3 } }], conflicts: [], publishable: true });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", there)).body).toMatchObject({
      targets: [{ variation: "on", values: ["ada"] }],
      fallthrough: { split: { weights: { on: 20_000 } } },
    });
  });

  test("shows what is in conflict, waits for somebody to look at it, and is rebased with new approvals", async () => {
    const { there, ask, policies } = await underPolicies();
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) });
    await admin("POST", `${there}/instructions`, { instructions: serving(15_000) });
    await admin("POST", policies, PAYMENT);
    await payer("POST", `${at}/approve`, { revision: 1 });
    const { body } = await author("GET", at);
    expect(body.preview.publishable).toBe(false);
    expect(body.preview.conflicts).toEqual([
      { ...PAY, path: "fallthrough.split.weights.on", base: 10_000, current: 15_000, proposed: 20_000 },
      { ...PAY, path: "fallthrough.split.weights.off", base: 90_000, current: 85_000, proposed: 80_000 },
    ]);
    const refused = await author("POST", `${at}/publish`);
    expect([refused.status, refused.body.code]).toEqual([409, "change-request-conflicts"]);
    expect(refused.body.conflicts).toEqual(body.preview.conflicts);
    expect(await outcome(approver("POST", `${at}/rebase`))).toEqual([403, "forbidden"]);
    const rebased = await author("POST", `${at}/rebase`, { comment: "Still what we want" });
    expect(rebased.body).toMatchObject({
      revision: 2,
      approvals: [],
      preview: { documents: [{ current: { version: 3 } }], conflicts: [] },
    });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    await payer("POST", `${at}/approve`, { revision: 2 });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect(await share(there)).toBe(20_000);
  });

  test("says so where an instruction has lost its object, and where nothing is left to do", async () => {
    const { there, ask } = await underPolicies();
    const rule = {
      id: "beta",
      conditions: [{ attribute: "plan", op: "in", values: ["beta"] }],
      serve: { variation: "on" },
    };
    await admin("POST", `${there}/instructions`, { instructions: [{ kind: "addRule", rule }] });
    const { at } = await ask({ change: targeting({ instructions: [{ kind: "removeRule", rule: "beta" }] }) });
    await admin("POST", `${there}/instructions`, { instructions: [{ kind: "removeRule", rule: "beta" }] });
    const { body } = await author("GET", at);
    expect(body.preview).toMatchObject({
      documents: [],
      publishable: false,
      obstacle: { code: "rule-gone", errors: [{ pointer: "/change/body/instructions/0/rule" }] },
    });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "rule-gone"]);
    expect(await outcome(author("POST", `${at}/rebase`))).toEqual([409, "rule-gone"]);
    const done = await ask({
      change: targeting({ instructions: [{ kind: "setTrackExposures", trackExposures: true }] }),
    });
    await admin("PATCH", there, { trackExposures: true });
    expect(await outcome(author("POST", `${done.at}/publish`))).toEqual([200, "published"]);
    expect(
      await outcome(
        author("POST", `${(await underPolicies()).requests}`, {
          title: "Nothing",
          change: targeting({ on: true }),
        }),
      ),
    ).toEqual([409, "changes-nothing"]);
  });
});

describe("publishing", () => {
  test("at once by many happens once", async () => {
    const { there, project, ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    await payer("POST", `${at}/approve`, { revision: 1 });
    const answers = await Promise.all(Array.from({ length: 8 }, () => outcome(author("POST", `${at}/publish`))));
    expect(answers).toEqual(Array(8).fill([200, "published"]));
    expect((await events(at)).filter((kind: string) => kind === "publish")).toHaveLength(1);
    expect((await admin("GET", there)).body.version).toBe(3);
    const { body } = await admin("GET", `/audit?project=${project}&action=flag.update`);
    expect(body.items).toHaveLength(2);
  });

  test("is repeated without harm, with an Idempotency-Key and without", async () => {
    const { there, ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    await payer("POST", `${at}/approve`, { revision: 1 });
    const key = { "idempotency-key": "publish-1" };
    const first = await author("POST", `${at}/publish`, {}, key);
    const again = await author("POST", `${at}/publish`, {}, key);
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
    expect(again.body).toEqual(first.body);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", there)).body.version).toBe(3);
  });

  test("racing direct writes loses nothing of them, and is of the flag as it is then", async () => {
    const { there, ask } = await underPolicies();
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) });
    const writes = await Promise.all([
      ...Array.from({ length: 6 }, (_, index) =>
        admin("POST", `${there}/instructions`, {
          instructions: [{ kind: "addTargets", variation: "on", values: [`user-${index}`] }],
        }),
      ),
      author("POST", `${at}/publish`),
    ]);
    expect(writes.map(({ status }) => status)).toEqual(Array(7).fill(200));
    const { body } = await admin("GET", there);
    expect(body.targets[0].values).toHaveLength(6);
    expect(body.fallthrough.split.weights.on).toBe(20_000);
    expect(body.version).toBe(2 + 7);
  });

  test("racing an edit of the request publishes what was approved, or nothing", async () => {
    const { there, ask } = await underPolicies(PAYMENT);
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) });
    await payer("POST", `${at}/approve`, { revision: 1 });
    const [edited, published] = await Promise.all([
      author("PATCH", at, { change: targeting({ instructions: serving(80_000) }) }),
      author("POST", `${at}/publish`),
    ]);
    const after = await share(there);
    if (published.status === 200) expect([after, edited.status]).toEqual([20_000, 409]);
    else expect([after, published.body.code, edited.status]).toEqual([10_000, "approval-required", 200]);
  });
});

describe("publishing at a time", () => {
  const soon = () => Date.now() + 3_600_000;

  test("happens at the first tick from then on, once, however late and however many ticks there are", async () => {
    const { there, ask, project } = await underPolicies(PAYMENT);
    const at = soon();
    const request = await ask({ change: targeting({ instructions: serving(20_000) }), publishAt: at });
    await payer("POST", `${request.at}/approve`, { revision: 1 });
    await runDue(env, () => at - 1);
    expect(await share(there)).toBe(10_000);
    await Promise.all([1, 2, 3].map(() => runDue(env, () => at + 86_400_000)));
    await runDue(env, () => at + 86_460_000);
    expect(await share(there)).toBe(20_000);
    expect((await author("GET", request.at)).body).toMatchObject({ status: "published", publishedAt: at + 86_400_000 });
    expect((await events(request.at)).filter((kind: string) => kind === "publish")).toHaveLength(1);
    const { body } = await admin("GET", `/audit?project=${project}&action=flag.update`);
    expect(body.items[0]).toMatchObject({
      actor: "Ed",
      change_request: request.id,
      source_ip: null,
      correlation_id: request.id,
    });
  });

  test("fails visibly without its approvals, and can be approved and published by hand, or set to another time", async () => {
    const { there, ask, project, requests } = await underPolicies(PAYMENT);
    const at = soon();
    const first = await ask({ change: targeting({ instructions: serving(20_000) }), publishAt: at });
    const second = await ask({ change: targeting({ instructions: serving(30_000) }), publishAt: at });
    await runDue(env, () => at);
    await runDue(env, () => at + 60_000);
    const { body } = await author("GET", first.at);
    expect(body).toMatchObject({ status: "failed", failure: { at, code: "approval-required" } });
    expect(body.failure.detail).toContain("payment");
    expect(await events(first.at)).toEqual(["open", "fail"]);
    expect(await share(there)).toBe(10_000);
    expect((await author("GET", `${requests}?status=failed`)).body.items).toHaveLength(2);
    const { body: log } = await admin("GET", `/audit?project=${project}&action=change-request.fail`);
    expect(log.items[0].changes.status).toEqual({ from: "open", to: "failed" });

    const later = await author("PATCH", second.at, { publishAt: at + 86_400_000 });
    expect(later.body).toMatchObject({ status: "open", failure: null, revision: 2 });
    await payer("POST", `${first.at}/approve`, { revision: 1 });
    expect(await outcome(author("POST", `${first.at}/publish`))).toEqual([200, "published"]);
    expect((await author("GET", first.at)).body.failure).toBe(null);
  });

  test("fails where its author's token is revoked by then, and where the flag has changed in its way", async () => {
    const { there, ask } = await underPolicies();
    const leaving = await newToken({ role: "editor" });
    const at = soon();
    const revoked = await ask({ change: targeting({ instructions: [{ kind: "turnOff" }] }), publishAt: at }, leaving);
    const overtaken = await ask({ change: targeting({ instructions: serving(20_000) }), publishAt: at });
    await admin("DELETE", `/tokens/${revoked.body.author.id}`);
    await admin("POST", `${there}/instructions`, { instructions: serving(40_000) });
    await runDue(env, () => at);
    expect((await author("GET", revoked.at)).body).toMatchObject({ status: "failed", failure: { code: "forbidden" } });
    expect((await author("GET", overtaken.at)).body.failure.code).toBe("change-request-conflicts");
    expect((await admin("GET", there)).body).toMatchObject({ on: true });
    expect(await share(there)).toBe(40_000);
  });

  test("leaves drafts and what is published or withdrawn alone", async () => {
    const { there, ask } = await underPolicies();
    const at = soon();
    const draft = await ask({ change: targeting({ instructions: serving(20_000) }), publishAt: at, draft: true });
    const withdrawn = await ask({ change: targeting({ instructions: serving(30_000) }), publishAt: at });
    await author("POST", `${withdrawn.at}/withdraw`);
    await runDue(env, () => at);
    expect(await share(there)).toBe(10_000);
    expect((await author("GET", draft.at)).body.status).toBe("draft");
  });
});

describe("what is no change request", () => {
  const change = targeting({ instructions: serving(20_000) });
  const asked = { title: "A fifth", change };
  const { body: _, ...bodiless } = change;
  const body = (body: unknown) => ({ ...asked, change: { ...change, body } });
  const fields = (fields: object) => ({ ...asked, change: targeting(fields) });
  test.each([
    [{ title: "A fifth" }, "/change"],
    [{ ...asked, change: "editTargeting" }, "/change"],
    [{ ...asked, change: { ...change, operation: "killFlag" } }, "/change/operation"],
    [{ ...asked, change: { ...change, operation: "createToken" } }, "/change/operation"],
    [{ ...asked, change: { ...change, operation: "constructor" } }, "/change/operation"],
    [{ ...asked, change: { ...change, path: { flag: "pay" } } }, "/change/path/environment"],
    [{ ...asked, change: { ...change, path: { ...change.path, project: "another" } } }, "/change/path/project"],
    [{ ...asked, change: { ...change, query: { dryRun: "true" } } }, "/change/query"],
    [{ ...asked, change: bodiless }, "/change/body"],
    [{ ...asked, flag: "pay" }, "/flag"],
    [{ ...asked, title: "" }, "/title"],
    [{ ...asked, publishAt: 1_760_000_000 }, "/publishAt"],
    [{ ...asked, publishAt: "tomorrow" }, "/publishAt"],
    [{ ...asked, approvals: 2 }, "/approvals"],
    [body({ instructions: [] }), "/change/body/instructions"],
    [body({ instructions: [{ kind: "explode" }] }), "/change/body/instructions/0/kind"],
    [body({ instructions: serving(200_000) }), "/change/body/instructions/0/serve/split/weights/on"],
    [body({ instructions: serving(20_000), wait: 10 }), "/change/body/wait"],
    [fields({ killed: true }), "/change/body/killed"],
    [fields({ fallthrough: { split: { ranges: [] } } }), "/change/body/fallthrough/split/weights"],
    [fields({ offVariation: "blue" }), "/change/body/offVariation"],
    [
      {
        ...asked,
        change: {
          operation: "createRamp",
          body: { environment: "production", flag: "pay", variation: "none", steps: [{ weight: 50_000 }] },
        },
      },
      "/change/body/variation",
    ],
    ['{"__proto__": {"admin": true}}', "/__proto__"],
    [
      '{"title": "A fifth", "change": {"operation": "updateFlag", "path": {"__proto__": "pay"}}}',
      "/change/path/__proto__",
    ],
  ])("is refused with a pointer to the error: %j", async (body, pointer) => {
    const { requests } = await underPolicies();
    const answer = await author("POST", requests, body);
    expect([answer.status, answer.body.errors?.[0]?.pointer]).toEqual([400, pointer]);
  });

  test("nor is one of what is not there", async () => {
    const { requests, flag } = await underPolicies();
    expect(
      await outcome(author("POST", requests, { ...asked, change: targeting(change.body, { flag: "none" }) })),
    ).toEqual([404, "not-found"]);
    expect(
      await outcome(author("POST", requests, { ...asked, change: targeting(change.body, { environment: "none" }) })),
    ).toEqual([404, "not-found"]);
    await admin("POST", `${flag}/archive`);
    expect(await outcome(author("POST", requests, asked))).toEqual([409, "archived"]);
    for (const id of ["none", "__proto__", "cr_1' OR 1=1"]) {
      expect((await author("GET", `${requests}/${encodeURIComponent(id)}`)).status).toBe(404);
    }
    const viewer = await newToken({ role: "viewer" });
    expect(await outcome(viewer("POST", requests, asked))).toEqual([403, "forbidden"]);
  });

  test("repeated with an Idempotency-Key is opened once", async () => {
    const { requests } = await underPolicies();
    const key = { "idempotency-key": "open-1" };
    const answers = await Promise.all(Array.from({ length: 4 }, () => author("POST", requests, asked, key)));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect((await author("GET", requests)).body.items).toHaveLength(1);
  });
});
