/** Change requests at their time (R10, Q7, Q8): exactly then, exactly once, late rather than never, or visibly not. */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test, vi } from "vitest";
import { runDue } from "../../../../workers/admin/due.ts";
import { dueChangeRequests } from "../../../../workers/store/approvals/change-requests.ts";
import { openDatabase } from "../../../../workers/store/database.ts";
import { type Api, newFlag, newToken } from "../../../support/admin.ts";
import { admin, author, PAYMENT, payer, serving, targeting, underPolicies } from "../../../support/approvals.ts";
import { setFaults, withFaults } from "../../../support/faults.ts";

const MINUTE = 60_000;
const faulty = withFaults(env);
afterEach(() => setFaults({}));

/** A request for a change of everything that all environments have in common of a flag, or of what is told, at a time. */
async function planned(change: object = shared, ahead = 60 * MINUTE) {
  const there = await underPolicies();
  const publishAt = Date.now() + ahead;
  const asked = await there.ask({ change, publishAt });
  const read = async () => (await author("GET", asked.at)).body;
  const flag = async () => (await admin("GET", there.flag)).body;
  const log = async () => {
    const { body } = await admin("GET", `/audit?project=${there.project}&limit=100`);
    const own = body.items.filter((one: { change_request: string | null }) => one.change_request === asked.id);
    return own.map(({ action }: { action: string }) => action).toReversed();
  };
  return { ...there, ...asked, publishAt, read, flag, log };
}

const shared = { operation: "updateFlag", path: { flag: "pay" }, body: { clientSide: true, tags: ["payment", "eu"] } };
const PUBLISHED = ["change-request.open", "flag.update", "change-request.publish"];

/** D1 takes everything but a statement of this kind. */
async function refusing<T>(statement: string, during: () => Promise<T>): Promise<T> {
  await env.DB.exec(`CREATE TRIGGER refusing BEFORE ${statement} BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
  try {
    return await during();
  } finally {
    await env.DB.exec("DROP TRIGGER refusing");
  }
}

describe("a change request whose time has come", () => {
  test("in the next second is published in real time: the timer wakes the Worker", async () => {
    const { read, flag } = await planned(shared, 1_500);
    expect((await flag()).clientSide).toBe(false);
    await vi.waitFor(async () => expect((await read()).status).toBe("published"), 20_000);
    expect((await flag()).clientSide).toBe(true);
  });

  test("is waited for, the earliest first, also once a draft is submitted and a time is set", async () => {
    const { at, publishAt, project } = await planned();
    expect(await runDue(env, () => publishAt - 1)).toBe(publishAt);
    await author("PATCH", at, { publishAt: publishAt - MINUTE });
    expect(await runDue(env, () => publishAt - MINUTE - 1)).toBe(publishAt - MINUTE);
    const change = targeting({ instructions: serving(20_000) });
    const draft = { title: "Later", change, draft: true, publishAt: Date.now() + 4_000 };
    const { body } = await author("POST", `/projects/${project}/change-requests`, draft);
    const request = `/projects/${project}/change-requests/${body.id}`;
    await author("POST", `${request}/submit`, {});
    await vi.waitFor(async () => expect((await author("GET", request)).body.status).toBe("published"), 20_000);
  });

  test("while it was a draft is to be looked at first, and then published by somebody", async () => {
    const { ask, flag } = await underPolicies();
    const publishAt = Date.now() + 2_000;
    const { at } = await ask({ change: shared, draft: true, publishAt });
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(publishAt), 10_000);
    const { body } = await author("POST", `${at}/submit`, {});
    expect(body).toMatchObject({ status: "open", publishAt: null });
    await runDue(env, Date.now);
    expect((await author("GET", at)).body.status).toBe("open");
    expect((await admin("GET", flag)).body.clientSide).toBe(false);
  });

  test("is published once, by the timer and by cron at the same time, and by hand as well", async () => {
    const { publishAt, read, log, at, flag } = await planned();
    const byHand = () => author("POST", `${at}/publish`);
    const run = () => runDue(env, () => publishAt);
    await Promise.all([run(), run(), byHand(), run(), byHand()]);
    expect((await read()).status).toBe("published");
    expect(await log()).toEqual(PUBLISHED);
    expect((await flag()).version).toBe(2);
  });

  test.each(["INSERT ON changes", "INSERT ON audit", "UPDATE ON flags", "UPDATE OF status ON change_requests"])(
    "has done nothing where its transaction fails at %s, and does it later",
    async (statement) => {
      const { publishAt, read, log, flag } = await planned();
      await refusing(statement, () => runDue(env, () => publishAt));
      expect([(await read()).status, (await flag()).version, await log()]).toEqual(["open", 1, PUBLISHED.slice(0, 1)]);
      await runDue(env, () => publishAt + MINUTE);
      expect([(await read()).status, (await flag()).version, await log()]).toEqual(["published", 2, PUBLISHED]);
    },
  );

  test("is published once where the answer of its transaction is lost, and the run with it", async () => {
    const { publishAt, read, log, flag } = await planned();
    setFaults({ DB: { mode: "hang", at: 'batch .*insert into .?"change_request_events', when: "after" } });
    await runDue(faulty, () => publishAt);
    setFaults({});
    await runDue(env, () => publishAt + MINUTE);
    expect([(await read()).status, (await flag()).version, await log()]).toEqual(["published", 2, PUBLISHED]);
  });

  test("is given up and says so where nobody can say why it fails, after ten times and ten minutes", async () => {
    const { publishAt, read, project } = await planned();
    const other = `${await newFlag(admin, project, "free")}/environments/production`;
    const schedule = { environment: "production", flag: "free", at: publishAt + MINUTE, fields: { on: true } };
    await author("POST", `/projects/${project}/schedules`, schedule);
    await refusing(
      `UPDATE ON flags WHEN NEW.id IN (SELECT id FROM flags WHERE client_side = 1 OR key = 'pay')`,
      async () => {
        for (let minutes = 0; minutes < 11; minutes++) await runDue(env, () => publishAt + minutes * MINUTE);
      },
    );
    expect(await read()).toMatchObject({ status: "failed", failure: { code: "gave-up" } });
    expect((await admin("GET", other)).body.on).toBe(true);
  });

  test("is judged by the policies of then, whatever they were when it was asked for", async () => {
    const { publishAt, read, policies, at, flag } = await planned({ ...shared, body: { clientSide: true } });
    await admin("POST", policies, PAYMENT);
    await runDue(env, () => publishAt);
    expect(await read()).toMatchObject({ status: "failed", failure: { code: "approval-required" } });
    await author("POST", `${at}/rebase`, {});
    const rebased = await read();
    expect(rebased).toMatchObject({ status: "open", failure: null, revision: 2 });
    await payer("POST", `${at}/approve`, { revision: 2 });
    expect((await author("POST", `${at}/publish`)).body.status).toBe("published");
    expect((await flag()).clientSide).toBe(true);
  });

  test("has nobody to be written for once its author may no longer write there", async () => {
    const mover = await newToken({ role: "editor" });
    const { ask, flag, project } = await underPolicies();
    const publishAt = Date.now() + 60 * MINUTE;
    const { at, body } = await ask({ change: shared, publishAt }, mover);
    await admin("PATCH", `/tokens/${body.author.id}`, { scope: { environments: [`${project}/development`] } });
    await runDue(env, () => publishAt);
    expect((await author("GET", at)).body).toMatchObject({ status: "failed", failure: { code: "forbidden" } });
    expect((await admin("GET", flag)).body.version).toBe(1);
  });

  test("is found by index", async () => {
    const { sql, params } = dueChangeRequests(openDatabase(env.DB), 1, 100).toSQL();
    const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .bind(...params)
      .all<{ detail: string }>();
    expect(results.map(({ detail }) => detail).join("; ")).toMatch(
      /^SEARCH change_requests USING INDEX change_requests_due[^;]*$/,
    );
  });
});

describe("the requests of two people", async () => {
  const other = await newToken({ name: "Al", role: "editor" });
  const asking =
    (by: Api, on: number, publishAt?: number) => async (ask: Awaited<ReturnType<typeof underPolicies>>["ask"]) =>
      ask({ change: targeting({ instructions: serving(on) }), ...(publishAt !== undefined && { publishAt }) }, by);

  test("for the same place: whichever is published first, the other waits for somebody to look", async () => {
    const { ask, there } = await underPolicies();
    const [one, two] = [await asking(author, 20_000)(ask), await asking(other, 30_000)(ask)];
    const answers = await Promise.all([author("POST", `${one.at}/publish`), other("POST", `${two.at}/publish`)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
    const refused = answers.find(({ status }) => status === 409)!;
    expect(refused.body.code).toBe("change-request-conflicts");
    const first = answers[0]!.status === 200 ? 20_000 : 30_000;
    expect((await admin("GET", there)).body.fallthrough.split.weights.on).toBe(first);
  });

  test("at the same time are published in their order, and what the first changed stops the second", async () => {
    const { ask, there } = await underPolicies();
    const at = Date.now() + 60 * MINUTE;
    const late = await asking(author, 20_000, at + 1)(ask);
    const early = await asking(other, 30_000, at)(ask);
    await Promise.all([runDue(env, () => at + MINUTE), runDue(env, () => at + MINUTE)]);
    const statusOf = async (path: string) => (await admin("GET", path)).body.status;
    expect([await statusOf(early.at), await statusOf(late.at)]).toEqual(["published", "failed"]);
    expect((await admin("GET", there)).body.fallthrough.split.weights.on).toBe(30_000);
  });

  test("for different places are both made, whole, while others write as well", async () => {
    const { ask, there, flag, project } = await underPolicies();
    const segments = `/projects/${project}/environments/production/segments`;
    await admin("POST", segments, { key: "beta", included: ["ada"] });
    const path = { environment: "production", segment: "beta" };
    const asked = [
      await ask({ change: targeting({ instructions: serving(20_000) }) }),
      await ask(
        { change: { operation: "updateFlag", path: { flag: "pay" }, body: { owner: "payments", clientSide: true } } },
        other,
      ),
      await ask({ change: { operation: "updateSegment", path, body: { excluded: ["eve"] } } }),
    ];
    const answers = await Promise.all([
      ...asked.map(({ at }) => author("POST", `${at}/publish`)),
      ...Array.from({ length: 5 }, (_, index) =>
        admin("POST", `${there}/instructions`, {
          instructions: [{ kind: "addTargets", variation: "on", values: [`user-${index}`] }],
        }),
      ),
    ]);
    expect(answers.map(({ status, body }) => [status, body.code])).toEqual(Array(8).fill([200, undefined]));
    const { body } = await admin("GET", there);
    expect([body.targets[0].values.length, body.fallthrough.split.weights.on]).toEqual([5, 20_000]);
    expect((await admin("GET", flag)).body).toMatchObject({ owner: "payments", clientSide: true });
    expect((await admin("GET", `${segments}/beta`)).body).toMatchObject({ included: ["ada"], excluded: ["eve"] });
  });
});
