/** The runtime is killed while it does what is due: wholly done or not at all, and in the end once (Q8, R6, R9, R10). */
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
/** What a D1 that answers so slowly has done when the runtime dies: nothing, some of its reads, its writes, all of it. */
const SLOW_MS = 60;
const KILLED_AFTER_MS = [50, 250, 450, 700];
let server: Server;
let flags: string;

type Entry = { action: string; schedule: string | null; ramp: string | null; change_request: string | null };

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

const published = async (id: string) => {
  const { items } = await server.ask<{ items: Entry[] }>("GET", "/audit?limit=100");
  const own = items.filter((entry) => entry.change_request === id);
  return own.map(({ action }) => action).toReversed();
};

test.each(KILLED_AFTER_MS)(
  "killed %i ms into it, a schedule, a step of a ramp and a change request are done once",
  async (killedAfterMs) => {
    const [planned, climbing] = [`planned-${killedAfterMs}`, `climbing-${killedAfterMs}`];
    const there = await flag(planned);
    await flag(climbing);
    const requested = `requested-${killedAfterMs}`;
    await flag(requested);
    const at = Date.now() + 3_000;
    const body = { environment: "production", flag: planned, at, fields: { trackExposures: true } };
    const schedule = await server.ask<{ id: string }>("POST", "/projects/p/schedules", body);
    const change = { operation: "updateFlag", path: { flag: requested }, body: { clientSide: true } };
    const asked = { title: "For browsers as well", change, publishAt: at };
    const request = await server.ask<{ id: string }>("POST", "/projects/p/change-requests", asked);
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
    expect(await server.ask("GET", `/projects/p/change-requests/${request.id}`)).toMatchObject({ status: "published" });
    expect(await server.ask("GET", `${flags}/${requested}`)).toMatchObject({ clientSide: true, version: 2 });
    expect(await published(request.id)).toEqual(["change-request.open", "flag.update", "change-request.publish"]);
  },
);

const until = (time: number) => new Promise((resolve) => setTimeout(resolve, time - Date.now()));
