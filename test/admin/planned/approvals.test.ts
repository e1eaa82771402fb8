/** What is planned for a time, and who may (R10): policies and rights are asked when it is planned and when it is done. */
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { runDue } from "../../../workers/admin/due.ts";
import { type Api, newFlag, newProject, newToken } from "../../support/admin.ts";

const MINUTE = 60_000;
const ada = await newToken({ name: "Ada" });
const run = (at: number) => runDue(env, () => at);

/** A project of its own, a flag that serves `off` to everybody, and a policy above a share of users. */
async function guarded() {
  const project = await newProject(ada);
  const there = `${await newFlag(ada, project, "checkout")}/environments/production`;
  await ada("PATCH", there, { on: true, fallthrough: { variation: "off" } });
  const require = (share: number) =>
    ada("POST", `/projects/${project}/policies`, {
      key: "many-users",
      share,
      approvers: { role: "approver" },
      approvals: 1,
      bypass: "admin",
    });
  const named = { environment: "production", flag: "checkout" };
  const plan = (api: Api, fields: object) =>
    api("POST", `/projects/${project}/schedules`, { ...named, at: Date.now() + 60 * MINUTE, fields });
  const ramp = (api: Api, ...weights: number[]) => {
    const steps = weights.map((weight) => ({ weight, forMs: 10 * MINUTE }));
    return api("POST", `/projects/${project}/ramps`, { ...named, variation: "on", steps });
  };
  const read = async (path: string) => (await ada("GET", `/projects/${project}/${path}`)).body;
  return { project, there, require, plan, ramp, read };
}

test("a ramp is asked for its largest step when it begins, and a schedule for what it would do, whoever plans it", async () => {
  const { require, plan, ramp, there } = await guarded();
  expect((await require(60_000)).status).toBe(201);
  for (const answer of [
    await ramp(ada, 5_000, 25_000, 100_000),
    await plan(ada, { fallthrough: { variation: "on" } }),
  ]) {
    expect([answer.status, answer.body.code]).toEqual([403, "approval-required"]);
    expect(answer.body.policies).toMatchObject([{ key: "many-users" }]);
  }
  expect((await ada("GET", there)).body.fallthrough).toEqual({ variation: "off" });
  expect((await ramp(ada, 5_000, 50_000)).status).toBe(201);
  expect((await plan(ada, { trackExposures: true })).status).toBe(201);
});

test("what meets a policy that came later does not run, and says so", async () => {
  const { require, plan, ramp, there, read } = await guarded();
  const { body: schedule } = await plan(ada, { offVariation: "on", fallthrough: { variation: "on" } });
  const { body: climbing } = await ramp(ada, 5_000, 50_000, 90_000);
  await require(20_000);
  await run(climbing.nextAt);
  expect(await read(`ramps/${climbing.id}`)).toMatchObject({
    status: "paused",
    step: 0,
    pause: { code: "approval-required", by: null },
  });
  await run(schedule.at);
  expect(await read(`schedules/${schedule.id}`)).toMatchObject({
    status: "failed",
    failure: { code: "approval-required" },
  });
  expect((await ada("GET", there)).body.fallthrough.split.weights).toEqual({ on: 5_000, off: 95_000 });
});

test("a ramp that a change request has begun takes its steps with the approvals of that, as long as they are enough", async () => {
  const { project, require, there, read } = await guarded();
  await require(20_000);
  const ed = await newToken({ name: "Ed", role: "editor" });
  const ann = await newToken({ name: "Ann", role: "approver" });
  const steps = [{ weight: 5_000, forMs: 10 * MINUTE }, { weight: 50_000, forMs: 10 * MINUTE }, { weight: 100_000 }];
  const body = { environment: "production", flag: "checkout", variation: "on", steps };
  const requests = `/projects/${project}/change-requests`;
  const asked = await ed("POST", requests, { title: "Launch", change: { operation: "createRamp", body } });
  expect(asked.body.preview).toMatchObject({
    policies: [{ key: "many-users", given: 0 }],
    moved: [{ environment: "production", key: "checkout", rule: null }],
    documents: [{ proposed: { fallthrough: { split: { weights: { on: 100_000 } } } } }],
  });
  const request = `${requests}/${asked.body.id}`;
  expect((await ed("POST", `${request}/publish`)).status).toBe(403);
  await ann("POST", `${request}/approve`, { revision: 1 });
  expect((await ed("POST", `${request}/publish`)).status).toBe(200);
  const [climbing] = (await read("ramps")).items;
  expect(climbing).toMatchObject({ status: "running", step: 0, changeRequest: asked.body.id, author: { actor: "Ed" } });
  await run(climbing.nextAt);
  expect(await read(`ramps/${climbing.id}`)).toMatchObject({ status: "running", step: 1 });

  await ada("PATCH", `/projects/${project}/policies/many-users`, { approvals: 2 });
  await run((await read(`ramps/${climbing.id}`)).nextAt);
  expect(await read(`ramps/${climbing.id}`)).toMatchObject({
    status: "paused",
    step: 1,
    pause: { code: "approval-required" },
  });
  expect((await ada("GET", there)).body.fallthrough.split.weights).toEqual({ on: 50_000, off: 50_000 });
  await ada("PATCH", `/projects/${project}/policies/many-users`, { approvals: 1 });
  expect((await ed("POST", `/projects/${project}/ramps/${climbing.id}/resume`, {})).status).toBe(200);
  await run((await read(`ramps/${climbing.id}`)).nextAt);
  expect((await ada("GET", there)).body.fallthrough.split.weights).toEqual({ on: 100_000 });
});

test("no policy holds up the way back to where a ramp began", async () => {
  const { require, ramp, there, project } = await guarded();
  const { body } = await ramp(ada, 90_000);
  await require(1_000);
  const editor = await newToken({ role: "editor" });
  expect((await editor("PATCH", there, { fallthrough: { variation: "off" } })).status).toBe(403);
  const aborted = await editor("POST", `/projects/${project}/ramps/${body.id}/abort`, {});
  expect(aborted.body).toMatchObject({ status: "aborted", restored: true });
  expect((await ada("GET", there)).body.fallthrough).toEqual({ variation: "off" });
});

test("whose token was revoked does nothing any more at its time; whoever takes it over does", async () => {
  const { plan, ramp, there, read, project } = await guarded();
  const leaver = await newToken({ name: "Leaver", role: "editor" });
  const { body: schedule } = await plan(leaver, { trackExposures: true });
  const { body: kept } = await plan(leaver, { offVariation: "on" });
  const { body: climbing } = await ramp(leaver, 5_000, 50_000, 90_000);
  expect((await ada("DELETE", `/tokens/${schedule.author.token}`)).status).toBe(204);
  const moved = await ada("PATCH", `/projects/${project}/schedules/${kept.id}`, { at: schedule.at + 1 });
  expect(moved.body.author.actor).toBe("Ada");
  await run(climbing.nextAt);
  expect((await read(`ramps/${climbing.id}`)).pause.code).toBe("forbidden");
  const { body: resumed } = await ada("POST", `/projects/${project}/ramps/${climbing.id}/resume`, {});
  expect(resumed.author.actor).toBe("Ada");
  await run(schedule.at + 1);
  expect((await read(`schedules/${schedule.id}`)).failure.code).toBe("forbidden");
  expect(await read(`schedules/${kept.id}`)).toMatchObject({ status: "done" });
  expect((await ada("GET", there)).body).toMatchObject({
    trackExposures: false,
    offVariation: "on",
    fallthrough: { split: { weights: { on: 50_000 } } },
  });
});

test("whose token has expired by then does nothing any more either", async () => {
  const { plan, ramp, read } = await guarded();
  const expiresAt = Date.now() + MINUTE;
  const leaver = await newToken({ name: "Leaver", role: "editor", expiresAt });
  const { body: schedule } = await plan(leaver, { trackExposures: true });
  const { body: climbing } = await ramp(leaver, 5_000, 50_000, 90_000);
  await run(Math.max(expiresAt, schedule.at, climbing.nextAt));
  expect((await read(`ramps/${climbing.id}`)).pause.code).toBe("forbidden");
  expect((await read(`schedules/${schedule.id}`)).failure.code).toBe("forbidden");
});
