/** What was planned, while D1 fails (Q7, Q8): nothing by halves, nothing twice, nothing for ever. */
import { env } from "cloudflare:workers";
import { afterEach, expect, test } from "vitest";
import { runDue } from "../../../workers/admin/due.ts";
import { openDatabase } from "../../../workers/store/database.ts";
import { dueRamps } from "../../../workers/store/planned/ramps.ts";
import { dueSchedules } from "../../../workers/store/planned/schedules.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";
import { setFaults, withFaults } from "../../support/faults.ts";

const MINUTE = 60_000;
const ada = await newToken({ name: "Ada" });
const project = await newProject(ada);
const faulty = withFaults(env);
let count = 0;
afterEach(() => setFaults({}));

async function flag() {
  const key = `due-${++count}`;
  const there = `${await newFlag(ada, project, key)}/environments/production`;
  await ada("PATCH", there, { on: true, fallthrough: { variation: "off" } });
  return { key, there, version: async () => (await ada("GET", there)).body.version as number };
}

async function schedule(fields: object = { trackExposures: true }, ahead = 60 * MINUTE) {
  const one = await flag();
  const at = Date.now() + ahead;
  const body = { environment: "production", flag: one.key, at, fields };
  const made = await ada("POST", `/projects/${project}/schedules`, body);
  const read = async () => (await ada("GET", `/projects/${project}/schedules/${made.body.id}`)).body;
  return { ...one, at, read };
}

async function ramp() {
  const one = await flag();
  const steps = [5_000, 25_000, 50_000].map((weight) => ({ weight, forMs: 60 * MINUTE }));
  const body = { environment: "production", flag: one.key, variation: "on", steps };
  const made = await ada("POST", `/projects/${project}/ramps`, body);
  const read = async () => (await ada("GET", `/projects/${project}/ramps/${made.body.id}`)).body;
  return { ...one, next: made.body.nextAt as number, read };
}

/** D1 takes everything but a statement of this kind. */
async function refusing<T>(statement: string, during: () => Promise<T>): Promise<T> {
  await env.DB.exec(`CREATE TRIGGER refusing BEFORE ${statement} BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
  try {
    return await during();
  } finally {
    await env.DB.exec("DROP TRIGGER refusing");
  }
}

test.each(["INSERT ON changes", "INSERT ON audit", "UPDATE ON flag_configurations", "UPDATE OF status ON schedules"])(
  "a schedule whose transaction fails at %s has done nothing, and does it later",
  async (statement) => {
    const { at, read, version } = await schedule();
    await refusing(statement, () => runDue(env, () => at));
    expect([await version(), (await read()).status]).toEqual([2, "pending"]);
    await runDue(env, () => at + MINUTE);
    expect([await version(), (await read()).status]).toEqual([3, "done"]);
  },
);

test.each(["INSERT ON changes", "INSERT ON audit", "UPDATE OF status ON ramps"])(
  "a ramp whose transaction fails at %s stays where it is, and takes its step later",
  async (statement) => {
    const { next, read, version } = await ramp();
    await refusing(statement, () => runDue(env, () => next));
    expect([await version(), (await read()).step]).toEqual([3, 0]);
    await runDue(env, () => next + MINUTE);
    expect([await version(), (await read()).step]).toEqual([4, 1]);
    expect((await read()).nextAt).toBe(next + 61 * MINUTE);
  },
);

test("while D1 is down nothing is tried; afterwards all of it is done, once", async () => {
  const [one, other] = [await schedule(), await schedule({ trackExposures: true }, 90 * MINUTE)];
  const climbing = await ramp();
  setFaults({ DB: { mode: "fail" } });
  await expect(runDue(faulty, () => one.at)).rejects.toThrow();
  setFaults({});
  const late = one.at + 600 * MINUTE;
  await Promise.all([runDue(faulty, () => late), runDue(env, () => late)]);
  for (const { read, version } of [one, other]) {
    expect([await version(), (await read()).status, (await read()).endedAt]).toEqual([3, "done", late]);
  }
  expect(await climbing.read()).toMatchObject({ step: 1, nextAt: late + 60 * MINUTE });
});

test("what D1 refuses whenever it is tried is given up after ten times and ten minutes, and says so; others go on", async () => {
  const stuck = await schedule();
  const climbing = await ramp();
  const named = (kind: string) =>
    `${kind} ON changes WHEN NEW.documents LIKE '%"due-${count - 1}"%' OR NEW.documents LIKE '%"due-${count}"%'`;
  await refusing(named("INSERT"), async () => {
    const late = Math.max(stuck.at, climbing.next);
    // Many who ask within a moment do not make it hopeless.
    for (let tries = 0; tries < 25; tries++) await runDue(env, () => late);
    expect([(await stuck.read()).status, (await climbing.read()).status]).toEqual(["pending", "running"]);
    // One after the other: the second is not tried before the first is given up.
    for (let minutes = 10; minutes < 25; minutes++) await runDue(env, () => late + minutes * MINUTE);
  });
  expect(await stuck.read()).toMatchObject({ status: "failed", failure: { code: "gave-up" } });
  expect(await climbing.read()).toMatchObject({ status: "paused", step: 0, pause: { code: "gave-up" } });
});

test("what has to wait holds up only its own environment", async () => {
  const elsewhere = await newProject(ada);
  const stuck = await schedule();
  const there = `${await newFlag(ada, elsewhere, "free")}/environments/production`;
  const body = { environment: "production", flag: "free", at: stuck.at, fields: { on: true } };
  await ada("POST", `/projects/${elsewhere}/schedules`, body);
  await refusing(`INSERT ON changes WHEN NEW.documents LIKE '%"due-${count}"%'`, () => runDue(env, () => stuck.at));
  expect([(await ada("GET", there)).body.on, (await stuck.read()).status]).toEqual([true, "pending"]);
});

test("the next time is the earliest of all that is to come", async () => {
  const { at } = await schedule({ trackExposures: true }, 20 * MINUTE);
  const { next } = await ramp();
  expect(next).toBeGreaterThan(at);
  expect(await runDue(env, () => at - 1)).toBe(at);
});

test("what is due is found by index: it costs what is due, and not what was ever planned", async () => {
  const db = openDatabase(env.DB);
  for (const [query, index] of [
    [dueSchedules(db, 1, 100), "schedules_due"],
    [dueRamps(db, 1, 100), "ramps_due"],
  ] as const) {
    const { sql, params } = query.toSQL();
    const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .bind(...params)
      .all<{ detail: string }>();
    const plan = results.map(({ detail }) => detail).join("; ");
    expect(plan).toContain(index);
    expect(plan).not.toMatch(/TEMP B-TREE|SCAN (schedules|ramps|kills)(?! USING INDEX (schedules|ramps)_due)/);
  }
});
