/**
 * One list for ten thousand flags, with three environments: how much is sent, and how much longer it takes than one page of flags.
 * Arguments: rounds (default 40), flags (default 10000).
 */
import { get, type IncomingHttpHeaders } from "node:http";
import { gunzipSync } from "node:zlib";
import { bundle, Server } from "../test/support/server.ts";
import { Place } from "./year/place.ts";

const rounds = Number(process.argv[2] ?? 40);
const flags = Number(process.argv[3] ?? 10_000);
const WARM_UP_ROUNDS = 5;
const ENTRY = "bench/year-peer.ts";
const LIST = "/projects/shop/flags/summary?environments=production,staging,development";
const HOUR_MS = 3_600_000;

type Answer = { status: number; headers: IncomingHttpHeaders; body: Buffer; ms: number };

/** As it comes over the wire: nothing is decompressed. */
function ask({ url, token }: Server, path: string, headers: Record<string, string>): Promise<Answer> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const all = { authorization: `Bearer ${token}`, ...headers };
    get(`${url}/api/v1${path}`, { headers: all }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("error", reject);
      response.on("end", () => {
        const body = Buffer.concat(pieces);
        resolve({ status: response.statusCode!, headers: response.headers, body, ms: performance.now() - began });
      });
    }).on("error", reject);
  });
}

const DAY_MS = 24 * HOUR_MS;

/** Off, on, split, or decided by kilobytes of rules; changed on any day of a year, as in bench/year. */
async function diversify(place: Place): Promise<void> {
  const rules = Array.from({ length: 4 }, (_, index) => ({
    id: `rule-${index}`,
    conditions: [{ attribute: "account", op: "in", values: Array.from({ length: 40 }, (_, one) => `account-${one}`) }],
    serve: { variation: "on" },
  }));
  const ranges = (share: string) =>
    `json_array(json_object('variation', 'on', 'from', 0, 'to', ${share}), json_object('variation', 'off', 'from', ${share}, 'to', 100000))`;
  const kind = "abs(random()) % 10";
  await place.sql(
    [
      `UPDATE flag_configurations SET "on" = ${kind} > 2, version = 1 + abs(random()) % 40, updated_at = ?1 - rowid * 7 % 365 * ${DAY_MS}`,
      Date.now(),
    ],
    [`UPDATE flag_configurations SET rules = ?1 WHERE ${kind} > 6`, JSON.stringify(rules)],
    [
      `UPDATE flag_configurations SET fallthrough = json_object('split', json_object('by', 'targetingKey', 'seed', flag_id,
         'hash', 'xxh32', 'ranges', ${ranges("1000 * (1 + flag_configurations.rowid % 98)")})) WHERE ${kind} > 6`,
    ],
    [
      `INSERT INTO schedules (id, project_id, environment_id, flag_id, flag_key, actor, version, created_at, updated_at, at, edit, status)
       SELECT printf('sch_%s_%s', f.id, e.key), f.project_id, e.id, f.id, f.key, 'ada', 1, 0, 0, ?1, '{"fields":{"on":true}}', 'pending'
       FROM flags f JOIN environments e ON e.project_id = f.project_id WHERE f.rowid % 50 = 0`,
      Date.now() + 1_000 * HOUR_MS,
    ],
  );
}

/** The worst for compression: no two flags or configurations were changed in the same millisecond. */
async function scatter(place: Place): Promise<void> {
  const moment = `${Date.now() - 365 * DAY_MS} + abs(random()) % ${365 * DAY_MS}`;
  await place.sql(
    [`UPDATE flags SET updated_at = ${moment}`],
    [`UPDATE flag_configurations SET updated_at = ${moment}`],
  );
}

const quantile = (values: number[], q: number) =>
  values.toSorted((one, other) => one - other)[Math.floor(q * values.length)] as number;

const server = await Server.start(ENTRY, bundle(ENTRY));
try {
  const place = new Place(server, { projects: 1, flags, entries: 0 });
  await place.furnish();
  await server.ask("POST", "/projects/shop/environments", { key: "development" });
  const packed = { "accept-encoding": "gzip" };
  const size = async () => (await ask(server, LIST, packed)).body.length;
  await place.sql(["UPDATE flags SET archived_at = NULL"]);
  const plain = await size();
  await diversify(place);
  for (const flag of [1, 2, 3, 4, 5]) {
    const there = `/projects/shop/flags/flag-${flag}/environments/production`;
    await server.ask("POST", `${there}/kill?wait=0`, { reason: "a bench" });
  }

  const known = { "if-none-match": String((await ask(server, LIST, {})).headers.etag) };
  const calls: [string, string, Record<string, string>][] = [
    ["a page of flags, `limit=20`", "/projects/shop/flags?limit=20", packed],
    ["a page of flags, `limit=100`", "/projects/shop/flags?limit=100", packed],
    ["the list, compressed", LIST, packed],
    ["the list, as it is", LIST, {}],
    ["the list, known (304)", LIST, known],
  ];
  const times = calls.map((): number[] => []);
  const bytes = calls.map(() => 0);
  for (let round = 0; round < WARM_UP_ROUNDS + rounds; round++) {
    for (const [index, [name, path, headers]] of calls.entries()) {
      const answer = await ask(server, path, headers);
      const isKnown = headers === known;
      if (answer.status !== (isKnown ? 304 : 200)) throw new Error(`${name}: ${answer.status} ${answer.body}`);
      bytes[index] = answer.body.length;
      if (round >= WARM_UP_ROUNDS) times[index]!.push(answer.ms);
      if (round > 0 || path !== LIST || isKnown) continue;
      const text = answer.headers["content-encoding"] === "gzip" ? gunzipSync(answer.body) : answer.body;
      const lines = text.toString().trimEnd().split("\n").length;
      if (lines !== flags + 1) throw new Error(`${name}: ${lines} lines`);
    }
  }
  console.log(`\n${flags} flags, three environments, ${rounds} rounds\n`);
  console.log("| call | KB | ms best | p50 | p99 | p50 less a page of 20 |\n|---|---|---|---|---|---|");
  const page = quantile(times[0]!, 0.5);
  for (const [index, [name]] of calls.entries()) {
    const [best, p50, p99] = [0, 0.5, 0.99].map((q) => quantile(times[index]!, q)) as [number, number, number];
    const cells = [bytes[index]! / 1_000, best, p50, p99, p50 - page].map((value) => value.toFixed(1));
    console.log(`| ${[name, ...cells].join(" | ")} |`);
  }
  await scatter(place);
  const sizes = {
    "as in bench/year": plain,
    "as above": bytes[2]!,
    "every change at its own millisecond": await size(),
  };
  for (const [what, length] of Object.entries(sizes))
    console.log(`${what}: ${(length / 1_000).toFixed(1)} KB compressed`);
} finally {
  await server.dispose();
}
process.exit(0);
