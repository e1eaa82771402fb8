/**
 * A big segment from its upload to its evaluation, in workerd and in the Node SDK on this machine: how fast members are
 * taken, how long their filter takes, how large and how wrong it is, and what asking it costs.
 * Arguments: members (default 200,000).
 */
import { createClient } from "@bunting/sdk/node";
import { bundle, Server } from "../test/support/server.ts";

const ENTRY = "workers/index.ts";
const members = Number(process.argv[2] ?? 200_000);
const outsiders = 5_000_000;
const rounds = 7;
const evaluations = 200_000;

type Status = { count: number; generation: number; filterCount: number; building: { count: number } | null };

/** As customers have them: 36 characters, in no order. */
const memberOf = (index: number): string => {
  const mixed = Math.imul(index ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
  const hex = mixed.toString(16).padStart(8, "0");
  return `${hex}-${hex.slice(0, 4)}-4000-8000-${index.toString(16).padStart(12, "0")}`;
};

/** A line each, made as it is read. */
function lines(count: number): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next = 0;
  return new ReadableStream({
    pull(controller) {
      const texts: string[] = [];
      for (const end = Math.min(next + 5_000, count); next < end; next++) texts.push(`"${memberOf(next)}"\n`);
      if (texts.length > 0) controller.enqueue(encoder.encode(texts.join("")));
      if (next >= count) controller.close();
    },
  });
}

const show = (label: string, value: string): void => console.log(`${label.padEnd(34)} ${value}`);
const rate = (count: number, ms: number) => `${Math.round(count / (ms / 1_000)).toLocaleString("en")}/s`;

function nanoseconds(work: () => void): number {
  const times = Array.from({ length: rounds }, () => {
    const from = performance.now();
    work();
    return ((performance.now() - from) * 1e6) / evaluations;
  });
  return times.sort((one, other) => one - other)[Math.floor(rounds / 2)] as number;
}

const server = await Server.start(ENTRY, bundle(ENTRY));
try {
  const { serverKey, flags, path } = await server.environment();
  await server.ask("POST", `${path}/segments`, { key: "big" });
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "bench", type: "boolean", variations });
  const rules = [{ conditions: [{ segment: ["big"] }], serve: { variation: "on" } }];
  const targeting = { on: true, rules, fallthrough: { variation: "off" } };
  await server.ask("PATCH", `${flags}/bench/environments/production`, targeting);
  const url = `${path}/segments/big/members`;

  let from = performance.now();
  const response = await fetch(`${server.url}/api/v1${url}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.token}`, "content-type": "application/x-ndjson" },
    body: lines(members),
    duplex: "half",
  } as RequestInit);
  if (response.status !== 202) throw new Error(`The upload answered ${response.status}: ${await response.text()}`);
  const uploadMs = performance.now() - from;
  show("members", members.toLocaleString("en"));
  show("upload, 36 characters each", `${(uploadMs / 1_000).toFixed(1)} s, ${rate(members, uploadMs)}`);

  from = performance.now();
  let status: Status;
  do {
    await new Promise((resolve) => setTimeout(resolve, 50));
    status = await server.ask<Status>("GET", url);
  } while (status.generation === 0 || status.building !== null);
  const buildMs = performance.now() - from;
  show("filter built and published", `${(buildMs / 1_000).toFixed(1)} s, ${rate(members, buildMs)}`);
  if (status.filterCount !== members) throw new Error(`The filter has ${status.filterCount} members`);

  from = performance.now();
  const sdk = createClient({ url: server.url, serverKey, events: false });
  if (!(await sdk.ready({ timeoutMs: 60_000 }))) throw new Error("The SDK is not ready");
  show("SDK ready, filter fetched", `${Math.round(performance.now() - from)} ms`);
  const filter = await fetch(`${server.url}/sdk/v1/segments/big/${status.generation}`, {
    headers: { authorization: `Bearer ${serverKey}` },
  });
  const bytes = (await filter.arrayBuffer()).byteLength;
  show("filter", `${(bytes / 1e6).toFixed(2)} MB, ${((bytes * 8) / members).toFixed(2)} bits a member`);

  const times: number[] = [];
  // One for another: five million is also the most that there may be.
  let leaving = memberOf(0);
  for (let round = 0; round < 30; round++) {
    const applied = new Promise<void>((resolve) => {
      const off = sdk.on("change", () => {
        off();
        resolve();
      });
    });
    from = performance.now();
    await server.ask("PATCH", url, { add: [`newcomer-${round}`], remove: [leaving] });
    await applied;
    leaving = `newcomer-${round}`;
    times.push(performance.now() - from);
  }
  times.sort((one, other) => one - other);
  show("one for another, until in the SDK", `${times[15]!.toFixed(0)} ms (median of 30)`);

  const has = (targetingKey: string): boolean => sdk.boolean("bench", false, { targetingKey });
  let falseNegatives = 0;
  for (let index = 1; index < members; index++) if (!has(memberOf(index))) falseNegatives++;
  show("false negatives", String(falseNegatives));
  let falsePositives = 0;
  for (let index = 0; index < outsiders; index++) if (has(`outsider-${index}`)) falsePositives++;
  show(
    "false positives",
    `${falsePositives} of ${outsiders.toLocaleString("en")}, ${(falsePositives / outsiders).toExponential(1)}`,
  );

  const hits = Array.from({ length: evaluations }, (_, n) => ({ targetingKey: memberOf((n * 7_919) % members) }));
  const misses = Array.from({ length: evaluations }, (_, n) => ({ targetingKey: `${memberOf(n).slice(1)}x` }));
  const evaluateAll = (contexts: { targetingKey: string }[]) => () => {
    for (const context of contexts) sdk.boolean("bench", false, context);
  };
  show("evaluation of a member", `${nanoseconds(evaluateAll(hits)).toFixed(0)} ns`);
  show("evaluation of a stranger", `${nanoseconds(evaluateAll(misses)).toFixed(0)} ns`);

  await sdk.close();
} finally {
  await server.dispose();
}
