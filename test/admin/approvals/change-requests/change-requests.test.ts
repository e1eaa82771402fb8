import { describe, expect, test } from "vitest";
import { newToken } from "../../../support/admin.ts";
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
} from "../../../support/approvals.ts";

describe("a change request (R10)", () => {
  test("goes from asking over talking and approving to publishing, and the audit log tells the whole chain", async () => {
    const { there, project, ask } = await underPolicies(PAYMENT);
    const { at, id, body } = await ask({
      change: targeting({ instructions: serving(20_000) }),
      description: "It went well so far.",
    });
    expect(body).toMatchObject({
      status: "open",
      environment: "production",
      operation: "editTargeting",
      path: { environment: "production", flag: "pay" },
      author: { name: "Ed" },
      revision: 1,
      change: targeting({ instructions: serving(20_000) }),
      approvals: [],
      preview: {
        changes: { "fallthrough.split.weights.on": { from: 10_000, to: 20_000 } },
        moved: [{ environment: "production", rule: null, movements: [{ from: "off", to: "on", weight: 10_000 }] }],
        share: 10_000,
        documents: [
          {
            environment: "production",
            kind: "flag",
            key: "pay",
            current: { fallthrough: { split: { weights: { on: 10_000 } } } },
            proposed: { fallthrough: { split: { weights: { on: 20_000 } } } },
          },
        ],
        conflicts: [],
        obstacle: null,
        policies: [{ key: "payment", approvals: 1, given: 0 }],
        publishable: false,
      },
    });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    expect((await payer("POST", `${at}/comments`, { comment: "Why now?" })).status).toBe(200);
    expect((await author("POST", `${at}/comments`, { comment: "Because." })).status).toBe(200);
    const approved = await payer("POST", `${at}/approve`, { revision: 1, comment: "Fine" });
    expect(approved.body).toMatchObject({
      approvals: [{ by: { name: "Pay" }, comment: "Fine" }],
      preview: { policies: [{ given: 1 }], publishable: true },
    });
    const published = await author("POST", `${at}/publish`, { reason: "Approved" });
    expect(published.body).toMatchObject({
      status: "published",
      preview: null,
      published: { production: { revision: expect.any(Number) } },
    });
    expect((await admin("GET", there)).body.fallthrough.split.weights.on).toBe(20_000);

    const { body: events } = await author("GET", `${at}/events?limit=3`);
    expect(events.items.map(({ kind, by }: { kind: string; by: { name: string } }) => [kind, by.name])).toEqual([
      ["open", "Ed"],
      ["comment", "Pay"],
      ["comment", "Ed"],
    ]);
    const rest = await author("GET", `${at}/events?cursor=${events.nextCursor}`);
    expect(rest.body.items.map(({ kind }: { kind: string }) => kind)).toEqual(["approve", "publish"]);

    const { body: log } = await admin("GET", `/audit?project=${project}`);
    const chain = log.items.filter((entry: { change_request: string | null }) => entry.change_request === id);
    expect(chain.map(({ action, actor }: { action: string; actor: string }) => [action, actor]).toReversed()).toEqual([
      ["change-request.open", "Ed"],
      ["change-request.comment", "Pay"],
      ["change-request.comment", "Ed"],
      ["change-request.approve", "Pay"],
      ["flag.update", "Ed"],
      ["change-request.publish", "Ed"],
    ]);
    expect(chain[1]).toMatchObject({ flag_key: "pay", reason: "Approved" });
    expect(chain[1].changes).toEqual({
      "fallthrough.split.weights.on": { from: 10_000, to: 20_000 },
      "fallthrough.split.weights.off": { from: 90_000, to: 80_000 },
    });
  });

  test("that meets two policies needs both", async () => {
    const { ask } = await underPolicies(PAYMENT, MOST_USERS);
    const { at } = await ask({ change: targeting({ instructions: serving(90_000) }) });
    const missing = async () => {
      const { status, body } = await author("POST", `${at}/publish`);
      return [
        status,
        ...(body.policies ?? []).map(({ key, given }: { key: string; given: number }) => `${key} ${given}`),
      ];
    };
    expect(await missing()).toEqual([403, "most-users 0", "payment 0"]);
    await approver("POST", `${at}/approve`, { revision: 1 });
    expect(await missing()).toEqual([403, "most-users 1", "payment 0"]);
    await approver("POST", `${at}/approve`, { revision: 1 });
    expect(await missing()).toEqual([403, "most-users 1", "payment 0"]);
    await payer("POST", `${at}/approve`, { revision: 1 });
    expect(await missing()).toEqual([200]);
  });

  test("is never judged by its author, nor by an editor, or by who has no business there", async () => {
    const { project, ask } = await underPolicies(PAYMENT);
    const { at } = await ask({ change: targeting({ instructions: serving(20_000) }) }, payer);
    expect(await outcome(payer("POST", `${at}/approve`, { revision: 1 }))).toEqual([403, "forbidden"]);
    const objection = { revision: 1, comment: "Not yet." };
    expect(await outcome(payer("POST", `${at}/request-changes`, objection))).toEqual([403, "forbidden"]);
    expect(await outcome(payer("POST", `${at}/comments`, { comment: "Not yet." }))).toEqual([200, "open"]);
    expect(await outcome(author("POST", `${at}/approve`, { revision: 1 }))).toEqual([403, "forbidden"]);
    const scoped = (environment: string) =>
      newToken({ role: "approver", groups: ["payments"], scope: { environments: [`${project}/${environment}`] } });
    const elsewhere = await scoped("development");
    expect(await outcome(elsewhere("POST", `${at}/approve`, { revision: 1 }))).toEqual([404, "not-found"]);
    expect((await elsewhere("GET", at)).status).toBe(404);
    expect((await elsewhere("GET", `/projects/${project}/change-requests`)).body.items).toEqual([]);
    const other = await newToken({ role: "approver", scope: { projects: ["other"] } });
    expect(await outcome(other("POST", `${at}/approve`, { revision: 1 }))).toEqual([403, "forbidden"]);
    const here = await scoped("production");
    expect(await outcome(here("POST", `${at}/approve`, { revision: 1 }))).toEqual([200, "open"]);
    expect(await outcome(here("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect(
      (
        await elsewhere("POST", `/projects/${project}/change-requests`, {
          title: "Mine",
          change: targeting({ instructions: serving(1) }),
        })
      ).status,
    ).toBe(403);
  });

  test("heeds If-Match in every step", async () => {
    const { ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    const bodies = {
      comments: { comment: "?" },
      approve: { revision: 1 },
      "request-changes": { revision: 1, comment: "?" },
    };
    for (const step of ["comments", "approve", "request-changes", "withdraw", "rebase", "publish"] as const) {
      const by = step === "approve" || step === "request-changes" ? payer : author;
      const body = step in bodies ? bodies[step as keyof typeof bodies] : {};
      const { status, headers } = await by("POST", `${at}/${step}`, body, { "if-match": '"v7"' });
      expect([step, status, headers.get("etag")]).toEqual([step, 412, '"v1"']);
    }
  });

  test("loses its approvals when it is edited, and they are of the revision that was looked at", async () => {
    const { ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    await payer("POST", `${at}/approve`, { revision: 1 });
    const same = await author("PATCH", at, { title: "A fifth", change: targeting({ instructions: serving(20_000) }) });
    expect(same.body).toMatchObject({ revision: 1, approvals: [{ by: { name: "Pay" } }] });
    const stale = await author("PATCH", at, { title: "Two fifths" }, { "if-match": '"v1"' });
    expect([stale.status, stale.headers.get("etag")]).toEqual([412, same.headers.get("etag")]);
    const edited = await author("PATCH", at, {
      change: targeting({ instructions: serving(40_000) }),
      title: "Two fifths",
    });
    expect(edited.body).toMatchObject({
      revision: 2,
      title: "Two fifths",
      approvals: [],
      preview: { publishable: false },
    });
    expect(await outcome(payer("POST", `${at}/approve`, { revision: 1 }))).toEqual([409, "other-revision"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    expect(await outcome(approver("PATCH", at, { title: "Mine now" }))).toEqual([403, "forbidden"]);
    await payer("POST", `${at}/approve`, { revision: 2 });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
  });

  test("is held up by whoever asks for changes, until they approve", async () => {
    const { ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    await payer("POST", `${at}/approve`, { revision: 1 });
    const objected = await approver("POST", `${at}/request-changes`, { revision: 1, comment: "Too much" });
    expect(objected.body).toMatchObject({ objections: [{ by: { name: "Ann" }, comment: "Too much" }] });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "changes-requested"]);
    await approver("POST", `${at}/approve`, { revision: 1 });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
  });

  test("is a draft until it is submitted, and over once it is withdrawn", async () => {
    const { ask, requests } = await underPolicies(PAYMENT);
    const { at, id } = await ask({ change: targeting({ instructions: serving(20_000) }), draft: true });
    expect(await outcome(payer("POST", `${at}/approve`, { revision: 1 }))).toEqual([409, "wrong-state"]);
    expect(await outcome(approver("POST", `${at}/submit`))).toEqual([403, "forbidden"]);
    expect(await outcome(author("POST", `${at}/submit`))).toEqual([200, "open"]);
    expect(await outcome(approver("POST", `${at}/withdraw`))).toEqual([403, "forbidden"]);
    expect(await outcome(author("POST", `${at}/withdraw`, { comment: "Never mind" }))).toEqual([200, "withdrawn"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "wrong-state"]);
    expect(await outcome(author("PATCH", at, { title: "Again" }))).toEqual([409, "wrong-state"]);
    expect((await author("GET", `${requests}?status=withdrawn`)).body.items).toMatchObject([{ id }]);
  });

  test("counts the approvals of those who still may give them", async () => {
    const { ask } = await underPolicies(PAYMENT);
    const leaving = await newToken({ role: "approver", groups: ["payments"] });
    const { body: me } = await leaving("GET", "/me");
    expect(me.groups).toEqual(["payments"]);
    const { at } = await ask();
    await leaving("POST", `${at}/approve`, { revision: 1 });
    expect((await admin("PATCH", `/tokens/${me.id}`, { groups: [] })).status).toBe(200);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    await admin("PATCH", `/tokens/${me.id}`, { groups: ["payments"] });
    expect((await author("GET", at)).body.preview.publishable).toBe(true);
    await admin("DELETE", `/tokens/${me.id}`);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
  });

  test("is published by the policies that are in force then", async () => {
    const { ask, policies } = await underPolicies(PAYMENT);
    const { at } = await ask();
    await payer("POST", `${at}/approve`, { revision: 1 });
    await admin("PATCH", `${policies}/payment`, { approvals: 2 });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    await admin("PATCH", `${policies}/payment`, { enabled: false });
    await admin("POST", policies, { key: "later", approvers: { role: "admin" }, approvals: 1 });
    expect((await author("POST", `${at}/publish`)).body.policies).toMatchObject([{ key: "later", given: 0 }]);
    await admin("POST", `${at}/approve`, { revision: 1 });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
  });
});

describe("a list of change requests", () => {
  test("is narrowed by status, environment, flag and author, and goes on where a page ended", async () => {
    const { ask, requests } = await underPolicies(PAYMENT);
    const ids: string[] = [];
    for (const on of [11_000, 12_000, 13_000])
      ids.unshift((await ask({ change: targeting({ instructions: serving(on) }) })).id);
    const other = await ask(
      { change: targeting({ instructions: [{ kind: "turnOn" }] }, { environment: "development" }) },
      approver,
    );
    const found = async (query: string) =>
      (await author("GET", `${requests}?${query}`)).body.items.map(({ id }: { id: string }) => id);
    expect(await found("")).toEqual([other.id, ...ids]);
    expect(await found("environment=development")).toEqual([other.id]);
    expect(await found(`author=${other.body.author.id}`)).toEqual([other.id]);
    expect(await found("flag=none")).toEqual([]);
    expect(await found("status=draft")).toEqual([]);
    const first = await author("GET", `${requests}?limit=2&environment=production`);
    expect(first.body.items).toHaveLength(2);
    expect(first.body.items[0].change).toBeUndefined();
    expect(await found(`environment=production&cursor=${first.body.nextCursor}`)).toEqual([ids[2]]);
    expect((await author("GET", `${requests}?cursor=nonsense`)).status).toBe(400);
    expect((await author("GET", `${requests}?status=approved`)).status).toBe(400);
  });

  test("shows each approver what waits for them, and nobody their own", async () => {
    const { ask, requests } = await underPolicies(PAYMENT, MOST_USERS);
    const small = await ask({ change: targeting({ instructions: serving(20_000) }) });
    const large = await ask({ change: targeting({ instructions: serving(90_000) }) });
    const own = await ask({ change: targeting({ instructions: serving(15_000) }) }, payer);
    const waiting = async (by: typeof author) =>
      (await by("GET", `${requests}?waitingForMe=true`)).body.items.map(({ id }: { id: string }) => id);
    expect(await waiting(payer)).toEqual([large.id, small.id]);
    expect(await waiting(approver)).toEqual([large.id]);
    expect(await waiting(author)).toEqual([]);
    await payer("POST", `${large.at}/approve`, { revision: 1 });
    expect(await waiting(payer)).toEqual([small.id]);
    await author("PATCH", large.at, { title: "Again" });
    expect(await waiting(payer)).toEqual([large.id, small.id]);
    expect(own.body.status).toBe("open");
    // What is over waits for nobody, and there may be any number of it.
    await author("POST", `${small.at}/withdraw`);
    expect(await waiting(payer)).toEqual([large.id]);
    for (const [status, ids] of [
      ["open", [large.id]],
      ["withdrawn", []],
      ["draft", []],
    ] as const) {
      const { body } = await payer("GET", `${requests}?waitingForMe=true&status=${status}`);
      expect([status, body.items.map(({ id }: { id: string }) => id)]).toEqual([status, ids]);
    }
  });
});
