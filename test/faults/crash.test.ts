/** The runtime is killed at every step of a publish: nothing committed is lost, nothing is applied twice or out of order (Q8). */
import type { Client } from "@bunting/sdk/node";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const user = { targetingKey: "user-42" };
let server: Server;
let serverKey: string;
let targeting: string;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const place = await server.environment();
  serverKey = place.serverKey;
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", place.flags, { key: "flag", name: "flag", type: "boolean", variations });
  targeting = `${place.flags}/flag/environments/production`;
});

afterAll(() => server.dispose());

type Ruleset = { revision: number; flags: Record<string, { version: number; on: boolean; killed: boolean }> };

async function ruleset(query = ""): Promise<Ruleset> {
  const response = await fetch(`${server.url}/sdk/v1/ruleset${query}`, {
    headers: { authorization: `Bearer ${serverKey}` },
  });
  if (!response.ok) throw new Error(`The ruleset answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Ruleset;
}

/** What each revision since `first` says of the flag's document, from history. */
async function versionsSince(first: number, last: number): Promise<number[]> {
  const versions: number[] = [];
  for (let revision = first; revision <= last; revision++) {
    const { flags } = await ruleset(`?revision=${revision}&exact`);
    versions.push(flags.flag!.version);
  }
  return versions;
}

/** Every revision that an SDK receives, in order. */
function listening(sdk: Client): number[] {
  const revisions: number[] = [];
  sdk.on("change", ({ revision }) => void revisions.push(revision));
  return revisions;
}

const OUTBOX = 'batch .*insert into "changes"';
const MARK = 'update "environments" set "published_version"';

for (const [step, part, at, when, isCommitted] of [
  ["before D1 has the change", "DB", OUTBOX, "before", false],
  ["after D1 has committed, before the Worker receives the result", "DB", OUTBOX, "after", true],
  ["before the publish call to the hub", "HUB", "^publish", "before", true],
  ["after the hub has published, before the Worker receives the result", "HUB", "^publish", "after", true],
  ["before a relay receives the delivery", "RELAY", "^deliver", "before", true],
  ["after a relay has sent to its clients, before it reports to the hub", "RELAY", "^deliver", "after", true],
  ["before the snapshot is in KV", "KV", "^put +snapshot:", "before", true],
  ["between the snapshot and the pointer to it", "KV", "^put +snapshot:", "after", true],
  ["after the pointer", "KV", "^put +latest:", "after", true],
  ["before D1 marks the published version", "DB", MARK, "before", true],
  ["after D1 has marked the published version", "DB", MARK, "after", true],
] as const) {
  test(`killed ${step}`, async () => {
    const sdk = await readyClient({ url: server.url, serverKey });
    const received = listening(sdk);
    const before = await ruleset();
    const { on, version } = before.flags.flag!;
    await server.setFaults({ [part]: { mode: "hang", at, when } });
    const request = server.api("PATCH", targeting, { on: !on }).catch(() => null);
    await server.hung();
    await server.kill();
    await request;
    await server.resume();
    await server.sweep();

    const committed = await server.ask<{ on: boolean; version: number }>("GET", targeting);
    expect(committed).toMatchObject(isCommitted ? { on: !on, version: version + 1 } : { on, version });
    await vi.waitFor(() => expect(sdk.boolean("flag", !committed.on, user)).toBe(committed.on), 20_000);
    const next = await server.ask<{ revision: number; version: number }>("PATCH", targeting, { on: !committed.on });
    await vi.waitFor(() => expect(sdk.boolean("flag", committed.on, user)).toBe(!committed.on), 20_000);

    expect(next.version).toBe(committed.version + 1);
    expect(await versionsSince(before.revision, next.revision)).toEqual(
      Array.from({ length: next.version - version + 1 }, (_, index) => version + index),
    );
    expect(received).toEqual([...new Set(received)].sort((one, other) => one - other));
  });
}

test("killed while a kill is on its way, the kill is there or was never answered, and repeating it changes nothing", async () => {
  for (const [part, at, when] of [
    ["HUB", "^setKilled", "before"],
    ["HUB", "^setKilled", "after"],
    ["RELAY", "^deliver", "before"],
    ["DB", 'batch .*insert into "kills"', "after"],
  ] as const) {
    const headers = { "idempotency-key": `${part}-${when}` };
    const kill = () => server.api("POST", `${targeting}/kill`, { reason: "now" }, headers);
    await server.setFaults({ [part]: { mode: "hang", at, when } });
    const request = kill().catch(() => null);
    await server.hung();
    await server.kill();
    await request;
    await server.resume();
    expect((await kill()).status).toBe(200);
    const { flags, revision } = await ruleset(`?revision=${((await (await kill()).json()) as Ruleset).revision}`);
    expect(flags.flag?.killed).toBe(true);
    await server.ask("POST", `${targeting}/restore`, {});
    expect((await ruleset(`?revision=${revision + 1}`)).flags.flag?.killed).toBe(false);
  }
  await vi.waitFor(async () => {
    const { items } = await server.ask<{ items: { action: string }[] }>("GET", "/audit?key=flag&type=flag&limit=8");
    const kills = items.map(({ action }) => action);
    expect(kills).toEqual(Array(4).fill(["flag.restore", "flag.kill"]).flat());
  }, 20_000);
});
