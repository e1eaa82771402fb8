/** The last ruleset in a file (R15, Q7). */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { emptyFilter, filterSize, placeOf, type Ruleset, type Segment, setBits } from "@bunting/core";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { type Change, type Client, createClient, type NodeOptions } from "../node.ts";

const on = (version = 1) => booleanFlag("new-checkout", true, version);
const off = (version = 1) => booleanFlag("new-checkout", false, version);
const user = { targetingKey: "user-42" };

let peer: Peer;
let directory: string;
let clients: Client[];
let logged: string[];

beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [on()])).start();
  directory = join(mkdtempSync(join(tmpdir(), "bunting-cache-")), "flags");
  clients = [];
  logged = [];
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await peer.stop();
  rmSync(join(directory, ".."), { recursive: true });
});

const file = () => join(directory, "bunting-env-1.ruleset");

function connect(options: Partial<NodeOptions> = {}): Client {
  const logger = { warn: (text: string) => logged.push(text), error: () => {} };
  const cache = { directory };
  const client = createClient({ serverKey: SERVER_KEY, url: peer.url, events: false, cache, logger, ...options });
  clients.push(client);
  return client;
}

/** A process that ran, got the ruleset and ended. */
async function run(ruleset?: Ruleset): Promise<void> {
  if (ruleset !== undefined) peer.ruleset = ruleset;
  const client = connect();
  expect(await client.ready()).toBe(true);
  await client.close();
}

test("a process that starts while nothing answers serves the last ruleset from its first evaluation, says stale, and goes on trying", async () => {
  await run();
  await peer.stop();
  const client = connect();
  const stale = new Promise((resolve) => client.on("stale", resolve));
  expect(client.details("new-checkout", false, user)).toMatchObject({ value: true, reason: "STATIC" });
  expect(client.status()).toMatchObject({ source: "cache", stale: true, ready: false, revision: 10 });
  await stale;
  const change = new Promise<Change>((resolve) => client.on("change", resolve));
  peer.change(off(2));
  await peer.start();
  expect(await change).toMatchObject({ previous: 10, revision: 11, flags: ["new-checkout"] });
  expect(client.boolean("new-checkout", true, user)).toBe(false);
  expect(client.status()).toMatchObject({ source: "snapshot", stale: false, ready: true });
});

test("a cached ruleset that the server confirms makes the client ready, by a poll or by a stream alone", async () => {
  await run();
  expect(await connect({ streams: [] }).ready()).toBe(true);
  peer.refuse = { ruleset: 500 };
  const client = connect({ streams: ["sse"] });
  expect(await client.ready()).toBe(true);
  expect(client.status()).toMatchObject({ transport: "sse", source: "snapshot", stale: false, revision: 10 });
});

test("is never replaced by an older one, as an edge that is behind may answer (Q8)", async () => {
  await run();
  peer.ruleset = rulesetOf(9, [off()]);
  const client = connect({ streams: [] });
  expect(await client.ready({ timeoutMs: 200 })).toBe(false);
  expect(client.boolean("new-checkout", false, user)).toBe(true);
});

test("comes before a bootstrap, unless the bootstrap is newer", async () => {
  await run();
  await peer.stop();
  const older = connect({ bootstrap: rulesetOf(9, [off()]) });
  expect(older.status()).toMatchObject({ source: "cache", revision: 10 });
  const newer = connect({ bootstrap: rulesetOf(12, [off()]) });
  expect(newer.status()).toMatchObject({ source: "bootstrap", revision: 12, stale: true });
});

test("whatever the server says replaces a bootstrap, even one of a higher revision", async () => {
  const client = connect({ bootstrap: rulesetOf(9_000, [off()]) });
  expect(client.boolean("new-checkout", true, user)).toBe(false);
  expect(await client.ready()).toBe(true);
  expect(client.status()).toMatchObject({ source: "snapshot", revision: 10 });
  const same = connect({ bootstrap: rulesetOf(10, [on()]) });
  expect(await same.ready()).toBe(true);
});

test("is there with what streams have changed since, and only its owner may read it", async () => {
  const client = connect();
  await new Promise((resolve) => client.on("connected", resolve));
  for (let version = 2; version < 20; version++) peer.publish(version % 2 ? on(version) : off(version));
  await vi.waitFor(() => expect(client.status()).toMatchObject({ source: "stream", revision: 28 }));
  await client.close();
  expect(statSync(file()).mode & 0o777).toBe(0o600);
  await peer.stop();
  const next = connect();
  expect(next.status()).toMatchObject({ source: "cache", revision: 28 });
  expect(next.details("new-checkout", false, user)).toMatchObject({ value: true, flagVersion: 19 });
});

test("keys such as __proto__ and every field of the documents come back as they were", async () => {
  const hostile = JSON.parse(
    '{"__proto__":{"key":"__proto__"},"constructor":{"key":"constructor"},"😀\\"\\\\":{"key":"😀"}}',
  );
  const ruleset = { ...rulesetOf(3, []), flags: hostile, segments: hostile };
  await run(ruleset);
  const body = readFileSync(file(), "utf8").split("\n")[1]!;
  expect(body).toBe(JSON.stringify(ruleset));
});

describe("a file that cannot be used is ignored, and said so once", () => {
  const bytes = () => readFileSync(file());
  test.each<[string, () => void]>([
    ["empty", () => writeFileSync(file(), "")],
    ["cut off", () => writeFileSync(file(), bytes().subarray(0, bytes().length / 2))],
    ["cut off by one byte", () => writeFileSync(file(), bytes().subarray(0, -1))],
    [
      "changed by one bit",
      () => {
        const changed = bytes();
        changed[changed.length >> 1]! ^= 1;
        writeFileSync(file(), changed);
      },
    ],
    ["something else", () => writeFileSync(file(), '{"schema":1,"revision":99,"flags":{},"segments":{}}')],
    [
      "noise",
      () => writeFileSync(file(), Buffer.from(Array.from({ length: 5_000 }, (_, index) => (index * 7919) % 256))),
    ],
    [
      "of another environment",
      () => {
        rmSync(file());
        writeFileSync(file(), readFileSync(join(directory, "bunting-env-2.ruleset")));
      },
    ],
    [
      "a directory",
      () => {
        rmSync(file());
        mkdirSync(file());
      },
    ],
  ])("%s", async (kind, spoil) => {
    await run();
    const other = "bnt_srv_env-2_0123456789abcdef";
    peer.serverKeys.add(other);
    const elsewhere = connect({ serverKey: other });
    expect(elsewhere.status()).toMatchObject({ source: "none" });
    await elsewhere.ready();
    await elsewhere.close();
    logged = [];
    spoil();
    await peer.stop();
    const client = connect({ bootstrap: rulesetOf(1, [off()]) });
    expect(client.status()).toMatchObject({ source: "bootstrap", revision: 1 });
    expect(logged).toEqual([expect.stringMatching(/the cache .*bunting-env-1\.ruleset was ignored: it /)]);
    expect(logged.join()).not.toContain("0123456789abcdef");
    if (kind === "a directory") return;
    await peer.start();
    expect(await client.ready()).toBe(true);
    await client.close();
    await peer.stop();
    expect(connect().status(), "it was replaced").toMatchObject({ source: "cache", revision: 10 });
  });
});

describe("big segments (EV-20)", () => {
  const members = ["ada", "grace"];
  const size = filterSize(members.length);
  const url = "/sdk/v1/segments/s/1";
  const big = { generation: 1, count: 2, ...size, url, added: [], removed: ["grace"] };
  const segment: Segment = { key: "s", version: 1, included: [], excluded: [], rules: [], big };
  const rules = [{ id: "r", conditions: [{ segment: ["s"] }], serve: { variation: "on" } }];
  const flag = booleanFlag("for-members", false, 1, { rules });
  const ask = (client: Client) =>
    ["ada", "grace", "eve"].map((targetingKey) => client.boolean("for-members", false, { targetingKey }));
  const filterFile = () => join(directory, readdirSync(directory).find((name) => name.endsWith(".filter"))!);

  beforeEach(async () => {
    const filter = emptyFilter(size);
    for (const member of members) setBits(filter, size, ...placeOf(member));
    peer.filters.set(url, filter);
    await run({ ...rulesetOf(10, [flag]), segments: { s: segment } });
    await vi.waitFor(() => expect(statSync(filterFile()).mode & 0o777).toBe(0o600));
  });

  test("are answered from the first evaluation on while nothing can be reached, and their filters are fetched once", async () => {
    expect(await connect().ready()).toBe(true);
    expect(peer.count("segments")).toBe(1);
    await peer.stop();
    expect(ask(connect())).toEqual([true, false, false]);
  });

  test.each<[string, (bytes: Buffer) => Uint8Array]>([
    ["cut off", (bytes) => bytes.subarray(0, -1)],
    ["changed", (bytes) => bytes.fill(255, bytes.length - 70, bytes.length - 66)],
    ["another's", () => Buffer.from("bunting-filter 1 env-1 /sdk/v1/segments/s/2")],
  ])("whose filter is %s fetch it again", async (_, spoil) => {
    writeFileSync(filterFile(), spoil(readFileSync(filterFile())));
    const client = connect();
    expect(ask(client)).toEqual([false, false, false]);
    expect(await client.ready()).toBe(true);
    expect(ask(client)).toEqual([true, false, false]);
    expect(peer.count("segments")).toBe(2);
  });
});

test("a directory that cannot be written to costs one warning and nothing else", async () => {
  writeFileSync(join(directory, "..", "flags"), "a file in its place");
  const client = connect();
  expect(await client.ready()).toBe(true);
  await vi.waitFor(() => expect(logged).toContainEqual(expect.stringContaining("could not be written")));
  expect(client.boolean("new-checkout", false, user)).toBe(true);
});

test("what a process that died in the middle left behind is removed once it is old", async () => {
  mkdirSync(directory);
  const old = `${file()}.123.abc.tmp`;
  const young = `${file()}.124.def.tmp`;
  const foreign = join(directory, "bunting-env-2.ruleset.1.a.tmp");
  for (const path of [old, young, foreign]) writeFileSync(path, "half");
  for (const path of [old, foreign]) utimesSync(path, 1_000_000, 1_000_000);
  await run();
  expect(readdirSync(directory).toSorted()).toEqual(
    [file(), young, foreign].map((path) => path.slice(directory.length + 1)).toSorted(),
  );
});

test("no directory, no file", () => {
  expect(() => connect({ cache: { directory: "" } })).toThrow("cache.directory is missing");
});
