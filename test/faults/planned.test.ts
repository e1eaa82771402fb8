/** The runtime is killed while it does what is due: wholly done or not at all, and in the end once (Q8, R6, R9). */
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
/** What a D1 that answers so slowly has done when the runtime dies: nothing, some of its reads, its writes, all of it. */
const SLOW_MS = 60;
const KILLED_AFTER_MS = [50, 250, 450, 700];
let server: Server;
let flags: string;

type Entry = { action: string; schedule: string | null; ramp: string | null };

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  ({ flags } = await server.environment());
});
afterAll(() => server.dispose());

async function flag(key: string): Promise<string> {
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key, type: "boolean", variations });
  const there = `${flags}/${key}/environments/production`;
  await server.ask("PATCH", there, { on: true, fallthrough: { variation: "off" } });
  return there;
}

const written = async (key: string) => {
  const { items } = await server.ask<{ items: Entry[] }>(
    "GET",
    `/audit?type=flag&key=${key}&action=flag.update&limit=100`,
  );
  return items.filter(({ schedule, ramp }) => schedule !== null || ramp !== null).length;
};

test.each(KILLED_AFTER_MS)(
  "killed %i ms into it, a schedule and a step of a ramp are done once",
  async (killedAfterMs) => {
    const [planned, climbing] = [`planned-${killedAfterMs}`, `climbing-${killedAfterMs}`];
    const there = await flag(planned);
    await flag(climbing);
    const at = Date.now() + 3_000;
    const body = { environment: "production", flag: planned, at, fields: { trackExposures: true } };
    const schedule = await server.ask<{ id: string }>("POST", "/projects/p/schedules", body);
    const steps = [
      { weight: 5_000, forMs: 3_000 },
      { weight: 50_000, forMs: 3_600_000 },
    ];
    const ramp = await server.ask<{ id: string; nextAt: number }>("POST", "/projects/p/ramps", {
      environment: "production",
      flag: climbing,
      variation: "on",
      steps,
    });
    await server.setFaults({ DB: { mode: "delay", ms: SLOW_MS } });
    await until(Math.max(at, ramp.nextAt) + killedAfterMs);
    await server.kill();
    await server.resume();
    // The timer's own alarm, that of before, and cron: all at once.
    await Promise.all([server.sweep(), server.sweep(), server.sweep()]);
    expect(await server.ask("GET", `/projects/p/schedules/${schedule.id}`)).toMatchObject({ status: "done" });
    expect(await server.ask("GET", `/projects/p/ramps/${ramp.id}`)).toMatchObject({ status: "running", step: 1 });
    expect(await server.ask("GET", there)).toMatchObject({ trackExposures: true, version: 3 });
    expect([await written(planned), await written(climbing)]).toEqual([1, 2]);
  },
);

const until = (time: number) => new Promise((resolve) => setTimeout(resolve, time - Date.now()));
