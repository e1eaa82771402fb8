/** A storm of writes to one environment: what it costs, what of it survives a runtime that is killed, and kills in the middle of it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const BOOLEAN = [true, false].map((value) => ({ key: value ? "on" : "off", value }));
let server: Server;
beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
});
afterAll(() => server.dispose());

async function newFlags(
  project: string,
  keys: string[],
): Promise<{ serverKey: string; there: (key: string) => string }> {
  const { serverKey, flags } = await server.environment(project);
  for (const key of keys) await server.ask("POST", flags, { key, type: "boolean", variations: BOOLEAN });
  return { serverKey, there: (key) => `${flags}/${key}/environments/production` };
}

const addUser = (there: string, user: string) =>
  server.api(
    "POST",
    `${there}/instructions`,
    { instructions: [{ kind: "addTargets", variation: "on", values: [user] }] },
    { "idempotency-key": user, "x-correlation-id": user },
  );

const named = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

async function callsOf(work: () => Promise<unknown>): Promise<number> {
  const before = (await server.calls()).DB ?? 0;
  await work();
  return ((await server.calls()).DB ?? 0) - before;
}

test("a hundred writes at once ask D1 at most 1.3 times as often as a hundred one after another: each is validated once", async () => {
  const { there } = await newFlags("linear", ["a"]);
  await addUser(there("a"), "warm");
  const inTurn = await callsOf(async () => {
    for (const user of named("turn", 100)) expect((await addUser(there("a"), user)).status).toBe(200);
  });
  const atOnce = await callsOf(async () => {
    const answers = await Promise.all(named("storm", 100).map((user) => addUser(there("a"), user)));
    expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(200));
  });
  expect(atOnce / inTurn).toBeLessThan(1.3);
});

test("kills in the middle of a storm are applied by a connected SDK before the storm is over (R7)", async () => {
  const { serverKey, there } = await newFlags("beside", ["busy", "dangerous"]);
  await server.ask("POST", `${there("dangerous")}/on`, {});
  const client = await readyClient({ url: server.url, serverKey });
  try {
    expect(client.details("dangerous", false, { targetingKey: "u" }).reason).not.toBe("KILLED");
    let left = 80;
    const storm = named("beside", 80).map((user) => addUser(there("busy"), user).finally(() => left--));
    const applied = new Promise<number>((resolve) => {
      client.on("change", () => {
        if (client.details("dangerous", false, { targetingKey: "u" }).reason === "KILLED") resolve(left);
      });
    });
    const answer = await server.api("POST", `${there("dangerous")}/kill?wait=0`, { reason: "r" });
    expect(answer.status).toBe(200);
    expect(await applied).toBeGreaterThan(0);
    for (const { status } of await Promise.all(storm)) expect(status).toBe(200);
  } finally {
    await client.close();
  }
});

test("the runtime is killed in the middle of a storm: nothing acknowledged is lost, and whoever repeats is counted once (Q8)", async () => {
  const { there } = await newFlags("killed", ["a"]);
  const users = named("killed", 60);
  let answered = 0;
  let enough = () => {};
  const someAnswered = new Promise<void>((resolve) => {
    enough = resolve;
  });
  const acknowledged = new Set<string>();
  const storm = users.map(async (user) => {
    const answer = await addUser(there("a"), user).catch(() => null);
    if (answer?.status !== 200) return;
    acknowledged.add(user);
    if (++answered === 15) enough();
  });
  await someAnswered;
  await server.kill();
  await Promise.all(storm);
  await server.resume();
  expect(acknowledged.size).toBeLessThan(users.length);

  const targeted = async () => {
    const { targets, version } = await server.ask<{ targets: { values: string[] }[]; version: number }>(
      "GET",
      there("a"),
    );
    return { users: targets.flatMap(({ values }) => values), version };
  };
  const kept = new Set((await targeted()).users);
  for (const user of acknowledged) expect(kept).toContain(user);
  for (const answer of await Promise.all(users.map((user) => addUser(there("a"), user))))
    expect(answer.status).toBe(200);
  const { users: all, version } = await targeted();
  expect(all.toSorted()).toEqual(users.toSorted());
  expect(version).toBe(users.length + 1);
  const { items } = await server.ask<{ items: object[] }>("GET", "/audit?project=killed&action=flag.update&limit=100");
  expect(items).toHaveLength(users.length);
});

test("ten environments are stormed, or D1 fails half of the time: kills pass, and no write that was refused has landed", async () => {
  const { flags } = await server.environment("ten");
  for (const key of named("environment", 9)) await server.ask("POST", "/projects/ten/environments", { key });
  for (const key of ["a", "dangerous"]) await server.ask("POST", flags, { key, type: "boolean", variations: BOOLEAN });
  const environments = ["production", ...named("environment", 9)];
  for (const DB of [undefined, { mode: "flaky", rate: 0.5 } as const]) {
    await server.setFaults(DB === undefined ? {} : { DB });
    const round = DB === undefined ? "well" : "flaky";
    const writes = environments.flatMap((environment) =>
      named(`${round}-${environment}`, 6).map(async (user) => {
        const { status } = await addUser(`${flags}/a/environments/${environment}`, user);
        return { environment, user, status };
      }),
    );
    const kills = environments.map((environment) =>
      server.api("POST", `${flags}/dangerous/environments/${environment}/kill?wait=0`, { reason: round }),
    );
    for (const { status } of await Promise.all(kills)) expect(status).toBe(200);
    const all = await Promise.all(writes);
    await server.setFaults({});
    for (const environment of environments) {
      const path = `${flags}/a/environments/${environment}`;
      const { targets } = await server.ask<{ targets: { values: string[] }[] }>("GET", path);
      const kept = targets.flatMap(({ values }) => values);
      for (const one of all.filter((write) => write.environment === environment && write.status === 200))
        expect(kept).toContain(one.user);
      expect(new Set(kept).size).toBe(kept.length);
    }
    if (DB === undefined) expect(all.map(({ status }) => status)).toEqual(Array(60).fill(200));
  }
});

test("D1 answers in two seconds: kills pass, the line becomes short, and what was acknowledged is kept", async () => {
  const { there } = await newFlags("slow", ["a", "dangerous"]);
  await server.setFaults({ DB: { mode: "delay", ms: 2_000 } });
  const writes = named("slow", 3).map(async (user) => ({ user, status: (await addUser(there("a"), user)).status }));
  for (const action of ["kill", "restore", "kill"]) {
    const answer = await server.api("POST", `${there("dangerous")}/${action}?wait=0`, { reason: "slow" });
    expect(answer.status).toBe(200);
  }
  const all = await Promise.all(writes);
  await server.setFaults({});
  // Those that would have waited for too long are told so; a read that took too long is 503.
  for (const { status } of all) expect([200, 429, 503]).toContain(status);
  const { targets } = await server.ask<{ targets: { values: string[] }[] }>("GET", there("a"));
  const kept = targets.flatMap(({ values }) => values);
  for (const { user, status } of all) if (status === 200) expect(kept).toContain(user);
});
