/** A policy by share is not walked around in small steps: what one person moves within a day is one change (R10). */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Api, newFlag, newProject, newToken } from "../../support/admin.ts";

const admin = await newToken({ name: "Root" });
const ed = await newToken({ name: "Ed", role: "editor" });
const eve = await newToken({ name: "Eve", role: "editor" });
const SHARE = 30_000;

/** A flag that is on for nobody in production, under a policy of 30 %. */
async function policed() {
  const project = await newProject(admin);
  const there = `${await newFlag(admin, project, "pay")}/environments/production`;
  await admin("PATCH", there, { on: true, fallthrough: { split: { weights: { on: 0, off: 100_000 } } } });
  const policy = { key: "many", share: SHARE, approvers: { role: "approver" }, approvals: 1, bypass: "admin" };
  await admin("POST", `/projects/${project}/policies`, policy);
  const to = async (on: number, by: Api = ed, query = "") => {
    const split = { weights: { on, off: 100_000 - on } };
    return (await by("PATCH", `${there}${query}`, { fallthrough: { split } })).status;
  };
  return { project, there, to };
}

test("steps of one person add up, and the one that reaches the share is held up, in a dry run too", async () => {
  const { to, there } = await policed();
  expect([await to(10_000), await to(20_000), await to(29_999)]).toEqual([200, 200, 200]);
  expect(await to(30_000, ed, "?dryRun=true")).toBe(403);
  const refused = await ed("PATCH", there, { fallthrough: { split: { weights: { on: 30_000, off: 70_000 } } } });
  expect([refused.status, refused.body.code]).toEqual([403, "approval-required"]);
  // What moves nobody is nobody's step.
  expect((await ed("PATCH", there, { trackExposures: true })).status).toBe(200);
});

test("going back moves as many again", async () => {
  const { to } = await policed();
  expect([await to(15_000), await to(1_001), await to(1)]).toEqual([200, 200, 200]);
  expect(await to(0)).toBe(403);
});

test("each person has a day of their own, and each day begins anew", async () => {
  const { to } = await policed();
  expect([await to(20_000), await to(40_000)]).toEqual([200, 403]);
  expect(await to(40_000, eve)).toBe(200);
  await env.DB.prepare("UPDATE moved_shares SET moved_at = moved_at - 86400001").run();
  expect(await to(60_000)).toBe(200);
});

test("two flags are two changes, and two environments as well", async () => {
  const { project, to, there } = await policed();
  const other = `${await newFlag(admin, project, "other")}/environments/production`;
  await admin("PATCH", other, { on: true, fallthrough: { split: { weights: { on: 0, off: 100_000 } } } });
  expect(await to(20_000)).toBe(200);
  const step = { fallthrough: { split: { weights: { on: 20_000, off: 80_000 } } } };
  expect((await ed("PATCH", other, step)).status).toBe(200);
  const elsewhere = there.replace("production", "development");
  await admin("PATCH", elsewhere, { on: true, fallthrough: { split: { weights: { on: 0, off: 100_000 } } } });
  expect((await ed("PATCH", elsewhere, step)).status).toBe(200);
});

test("a hundred users that are listed one by one are colleagues; more within a day may be anybody", async () => {
  const { there } = await policed();
  const values = (from: number, count: number) => Array.from({ length: count }, (_, n) => `user-${from + n}`);
  const list = async (count: number) =>
    (await ed("PATCH", there, { targets: [{ variation: "on", values: values(0, count) }] })).status;
  expect([await list(60), await list(100), await list(101)]).toEqual([200, 200, 403]);
});

test("so are the members that a segment lists, where a flag uses it", async () => {
  const { project, there } = await policed();
  const segments = `/projects/${project}/environments/production/segments`;
  await admin("POST", segments, { key: "beta", included: [] });
  const rules = [{ conditions: [{ segment: ["beta"] }], serve: { variation: "on" } }];
  await admin("PATCH", there, { rules });
  const members = (count: number) => Array.from({ length: count }, (_, n) => `user-${n}`);
  const list = async (count: number) => (await ed("PATCH", `${segments}/beta`, { included: members(count) })).status;
  expect([await list(100), await list(101)]).toEqual([200, 403]);
});

test("whatever steps are tried, what one person has moved stays below the share", async () => {
  const { to } = await policed();
  let at = 0;
  let moved = 0;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 40_000 }), async (on) => {
      const step = Math.abs(on - at);
      const status = await to(on);
      expect(status).toBe(step === 0 || moved + step < SHARE ? 200 : 403);
      if (status === 200) {
        moved += step;
        at = on;
      }
      expect(moved).toBeLessThan(SHARE);
    }),
    { numRuns: 30 },
  );
});
