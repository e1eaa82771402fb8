import { createExecutionContext, runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { Hono } from "hono";
import { describe, expect, test, vi } from "vitest";
import { adminApi } from "../../../workers/admin/api.ts";
import { BOOLEAN, newFlag, newProject, newToken, root } from "../../support/admin.ts";

const DAY = 86_400_000;
const START = Date.now();
let clock = START;

/** The management plane on a day of its own choice. */
const { body: token } = await root("POST", "/tokens", { name: "Ada", role: "admin" });
const app = new Hono().route("/api/v1", adminApi({ now: () => clock }));
async function on(day: number, method: string, path: string, body?: unknown) {
  clock = START + day * DAY;
  const response = await app.fetch(
    new Request(`https://bunting.test/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token.token}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }),
    env,
    createExecutionContext(),
  );
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

const api = await newToken();

/** A project with one temporary flag, and what is stale in production on a day. */
async function started(fields: object = {}) {
  const project = await newProject(api);
  const flag = `/projects/${project}/flags/temporary`;
  await on(0, "POST", `/projects/${project}/flags`, {
    key: "temporary",
    type: "boolean",
    variations: BOOLEAN,
    temporary: true,
    ...fields,
  });
  const there = `${flag}/environments/production`;
  const stale = async (day: number, query = "") =>
    (await on(day, "GET", `/projects/${project}/environments/production/stale?${query}`)).body.items;
  return { project, flag, there, stale };
}

const whole = { split: { weights: { on: 100_000 } } };

describe("a flag is stale (R12)", () => {
  test("30 days after everybody is served the same, with the evidence", async () => {
    const { project, flag, there, stale } = await started();
    await on(10, "PATCH", there, { on: true, fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } });
    await on(20, "PATCH", there, { fallthrough: whole });
    await on(25, "PATCH", there, { trackExposures: true });
    await on(26, "PATCH", flag, { description: "metadata" });
    const references = [
      { flag: "temporary", path: "a.ts", line: 1 },
      { flag: "temporary", path: "b.ts", line: 2 },
    ];
    await on(26, "PUT", `/projects/${project}/code-references`, {
      repository: "r",
      commit: "0123abc",
      branch: "main",
      references,
    });
    expect(await stale(49)).toEqual([]);
    expect(await stale(50)).toEqual([
      {
        key: "temporary",
        environment: "production",
        because: ["full"],
        servedVariation: "on",
        servedShare: 100_000,
        fullSince: START + 20 * DAY,
        daysAtFull: 30,
        lastModified: START + 25 * DAY,
        lastEvaluated: null,
        experiment: null,
        codeReferences: 2,
      },
    ]);
    expect(await stale(27, "thresholdDays=7")).toHaveLength(1);
    await on(51, "PATCH", there, { fallthrough: { split: { weights: { on: 90_000, off: 10_000 } } } });
    expect(await stale(100)).toEqual([]);
  });

  test("90 days after it was changed, whatever it serves", async () => {
    const { there, stale } = await started();
    await on(10, "PATCH", there, { on: true, fallthrough: { split: { weights: { on: 75_000, off: 25_000 } } } });
    expect(await stale(99)).toEqual([]);
    expect(await stale(100)).toMatchObject([
      { because: ["unchanged"], servedVariation: "on", servedShare: 75_000, fullSince: null, daysAtFull: null },
    ]);
    expect(await stale(15, "unchangedDays=5")).toHaveLength(1);
  });

  test("unless it is permanent, or archived", async () => {
    const { project, flag, stale } = await started();
    await newFlag(api, project, "permanent");
    const keys = async (day: number, query = "") => (await stale(day, query)).map(({ key }: { key: string }) => key);
    expect(await keys(40)).toEqual(["temporary"]);
    expect(await keys(40, "permanent=true")).toEqual(["permanent", "temporary"]);
    await on(41, "PATCH", flag, { temporary: false });
    expect(await keys(100)).toEqual([]);
    await on(42, "POST", `${flag}/archive`);
    expect(await keys(100, "permanent=true")).toEqual(["permanent"]);
  });

  test("counted from its return, where it was archived", async () => {
    const { project, flag, stale } = await started();
    await on(20, "POST", `${flag}/archive`);
    await on(35, "POST", `${flag}/unarchive`);
    expect(await stale(64)).toEqual([]);
    expect(await stale(65)).toMatchObject([{ fullSince: START + 35 * DAY, servedVariation: "off" }]);
    await on(70, "POST", `/projects/${project}/flags/bulk`, { action: "archive", keys: ["temporary"] });
    await on(75, "POST", `/projects/${project}/flags/bulk`, { action: "unarchive", keys: ["temporary"] });
    expect(await stale(105)).toMatchObject([{ fullSince: START + 75 * DAY }]);
  });

  test("counted anew where the value that all are served is another", async () => {
    const { flag, stale } = await started();
    await on(10, "PATCH", flag, {
      variations: [
        { key: "on", value: true },
        { key: "off", value: false, name: "Off" },
      ],
    });
    expect((await stale(40))[0].fullSince).toBe(START);
    const text = await started({
      type: "string",
      variations: [
        { key: "a", value: "A" },
        { key: "b", value: "B" },
      ],
    });
    await on(10, "PATCH", text.flag, {
      variations: [
        { key: "a", value: "A" },
        { key: "b", value: "beta" },
      ],
    });
    expect((await text.stale(45))[0].fullSince).toBe(START + 10 * DAY);
  });

  test("counted anew after a change is reverted", async () => {
    const { there, stale, project } = await started();
    await on(5, "PATCH", there, { on: true });
    const { body } = await on(6, "GET", `/audit?project=${project}&limit=1`);
    await on(7, "POST", `/audit/${body.items[0].id}/revert`, {});
    expect((await stale(40))[0].fullSince).toBe(START + 7 * DAY);
  });
});

describe("a kill serves off to everybody", () => {
  /** Decided by the hub, on its own clock. */
  const mirrored = async (project: string, there: string, action: "kill" | "restore") => {
    await api("POST", `${there}/${action}`, action === "kill" ? { reason: "fire" } : {});
    const { body } = await api("GET", `/projects/${project}/environments/production`);
    await vi.waitFor(async () => {
      await runDurableObjectAlarm(env.HUB.get(env.HUB.idFromName(body.id)));
      expect((await api("GET", there)).body.killed?.pending).toBeUndefined();
    });
  };

  test("from then on, and what is restored begins again", async () => {
    const { project, there, stale } = await started();
    await on(-50, "PATCH", there, { on: true, fallthrough: whole });
    expect(await stale(0)).toMatchObject([{ servedVariation: "on", fullSince: START - 50 * DAY }]);
    await mirrored(project, there, "kill");
    expect(await stale(1)).toEqual([]);
    const [killed] = await stale(31);
    expect(killed).toMatchObject({ servedVariation: "off", servedShare: 100_000, daysAtFull: 30 });
    expect(killed.lastModified).toBe(killed.fullSince);
    await mirrored(project, there, "restore");
    expect(await stale(1)).toEqual([]);
    const [restored] = await stale(31);
    expect(restored).toMatchObject({ servedVariation: "on", daysAtFull: 30 });
    expect(restored.fullSince).toBeGreaterThan(killed.fullSince);
  });

  test("which they had already where the flag was off", async () => {
    const { project, there, stale } = await started();
    await on(-40, "PATCH", there, { on: true });
    await on(-35, "PATCH", there, { on: false });
    await mirrored(project, there, "kill");
    expect(await stale(0)).toMatchObject([{ servedVariation: "off", fullSince: START - 35 * DAY }]);
    await mirrored(project, there, "restore");
    expect(await stale(0)).toMatchObject([{ servedVariation: "off", fullSince: START - 35 * DAY }]);
  });
});

test("stale flags are read by the page, and what is asked wrongly is refused", async () => {
  const { project, stale } = await started();
  for (const key of ["b", "a", "c"]) await newFlag(api, project, key, { temporary: true });
  const path = `/projects/${project}/environments/production/stale`;
  const keys: string[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const { body } = await on(200, "GET", `${path}?limit=3&cursor=${cursor}`);
    keys.push(...body.items.map(({ key }: { key: string }) => key));
    cursor = body.nextCursor;
  }
  expect(keys).toEqual(["a", "b", "c", "temporary"]);
  expect(await stale(200)).toHaveLength(4);
  for (const query of ["thresholdDays=-1", "unchangedDays=soon", "thresholdDays=1.5", "cursor=x", "permanent=1"]) {
    expect([query, (await api("GET", `${path}?${query}`)).status]).toEqual([query, 400]);
  }
  const elsewhere = await newToken({ scope: { projects: ["other"], environments: [] } });
  expect((await elsewhere("GET", path)).status).toBe(403);
});

test("a new environment's flags are full from its beginning", async () => {
  const { project } = await started();
  await on(10, "POST", `/projects/${project}/environments`, { key: "staging" });
  const { body } = await on(45, "GET", `/projects/${project}/environments/staging/stale`);
  expect(body.items[0]).toMatchObject({ fullSince: START + 10 * DAY, daysAtFull: 35 });
});
