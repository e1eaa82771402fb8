/**
 * Polls that are answered by 304, a second, as a share of what a Worker that says hello answers in the same isolate to the
 * same requests; beside it the runtime's own processor time, which others on the machine disturb less. Rounds alternate;
 * server and load share this machine's cores. Arguments: rounds (default 9), seconds of each.
 */
import { globSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { bundle, Server } from "../test/support/server.ts";

const rounds = Number(process.argv[2] ?? 9);
const seconds = Number(process.argv[3] ?? 2);
const ENTRY = "bench/polls-peer.ts";
const CONNECTIONS = 32;
/** Polls come from many clients: each has limits of its own. */
const CLIENTS = 5_000;
const FLAGS = 100;

const server = await Server.start(ENTRY, bundle(ENTRY));
const { serverKey, flags, path } = await server.environment();
const { key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" });
const variations = [
  { key: "on", value: true },
  { key: "off", value: false },
];
for (let n = 0; n < FLAGS; n++) {
  await server.ask("POST", flags, { key: `flag-${n}`, type: "boolean", clientSide: true, variations });
}

type Poll = { name: string; method: "GET" | "POST"; path: string; key: string; body: string };
const context = JSON.stringify({
  context: { targetingKey: "user-42", email: "user-42@example.com", plan: "pro", country: "CH", version: "4.2.1" },
});
const polls: Poll[] = [
  { name: "ruleset", method: "GET", path: "/sdk/v1/ruleset", key: serverKey, body: "" },
  { name: "evaluated flags", method: "POST", path: "/client/v1/flags", key: clientKey, body: context },
  { name: "OFREP, in bulk", method: "POST", path: "/ofrep/v1/evaluate/flags", key: clientKey, body: context },
];

async function etagOf({ method, path, key, body }: Poll): Promise<string> {
  const response = await fetch(server.url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    ...(method === "POST" && { body }),
  });
  await response.arrayBuffer();
  return response.headers.get("etag") ?? "";
}

/** The same bytes but for the path. */
function request({ method, path, key, body }: Poll, etag: string, client: number, hello: boolean): string {
  const lines = [
    `${method} ${hello ? "/hello" : path} HTTP/1.1`,
    "host: localhost",
    `authorization: Bearer ${key}`,
    `x-bunting-client: bench/1;instance=${client}`,
    `cf-connecting-ip: 10.0.${client >> 8}.${client & 255}`,
    `if-none-match: ${etag}`,
  ];
  if (method === "POST") lines.push("content-type: application/json", `content-length: ${Buffer.byteLength(body)}`);
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

/** Empty for a process that has ended since its name was read. */
function statOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** Seconds of processor time that the runtime has used: it is the server process's child. */
function runtimeSeconds(): number {
  for (const path of globSync("/proc/[0-9]*/stat")) {
    // After the name, which may hold anything, in brackets.
    const fields = statOf(path).split(") ").at(-1)?.split(" ") ?? [];
    if (Number(fields[1]) === server.pid) return (Number(fields[11]) + Number(fields[12])) / 100;
  }
  return Number.NaN;
}

type Measure = { perSecond: number; microseconds: number };

/** Answers a second, and processor time of each. Each connection asks again as soon as it was answered; anything but `status` ends the bench. */
async function rate(poll: Poll, etag: string, hello: boolean): Promise<Measure> {
  const status = hello ? "HTTP/1.1 200" : "HTTP/1.1 304";
  const sockets: Socket[] = await Promise.all(
    Array.from({ length: CONNECTIONS }, () => {
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1").setNoDelay(true);
      return new Promise<Socket>((resolve) => socket.once("connect", () => resolve(socket)));
    }),
  );
  let answered = 0;
  let asked = Math.floor(Math.random() * CLIENTS);
  const usedBefore = runtimeSeconds();
  const startedAt = performance.now();
  await new Promise<void>((resolve, reject) => {
    let open = sockets.length;
    for (const socket of sockets) {
      let text = "";
      const ask = () => socket.write(request(poll, etag, asked++ % CLIENTS, hello));
      socket.on("close", () => {
        if (performance.now() - startedAt < seconds * 1_000) reject(new Error("The server closed a connection"));
      });
      socket.on("error", reject);
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1");
        const end = text.indexOf("\r\n\r\n");
        if (end === -1) return;
        if (!text.startsWith(status)) return reject(new Error(`Not ${status}: ${text.slice(0, 400)}`));
        const length = hello ? Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0) : 0;
        if (text.length < end + 4 + length) return;
        text = "";
        answered++;
        if (performance.now() - startedAt < seconds * 1_000) ask();
        else {
          socket.destroy();
          if (--open === 0) resolve();
        }
      });
      ask();
    }
  });
  return {
    perSecond: answered / ((performance.now() - startedAt) / 1_000),
    microseconds: ((runtimeSeconds() - usedBefore) * 1e6) / answered,
  };
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

const measured = polls.map(() => ({ ours: [] as Measure[], hello: [] as Measure[] }));
for (let round = -1; round < rounds; round++) {
  for (const [index, poll] of polls.entries()) {
    const etag = await etagOf(poll);
    const ours = await rate(poll, etag, false);
    const hello = await rate(poll, etag, true);
    if (round < 0) continue;
    measured[index]?.ours.push(ours);
    measured[index]?.hello.push(hello);
  }
}
console.log(`\n${CONNECTIONS} connections, ${CLIENTS} clients, medians of ${rounds} rounds of ${seconds} s\n`);
console.log("| poll | 304s a second | hello | ratio | processor, µs | hello | hello ÷ poll |");
console.log("|---|---|---|---|---|---|---|");
for (const [index, { name }] of polls.entries()) {
  const { ours, hello } = measured[index] as (typeof measured)[0];
  const of = (side: Measure[], field: keyof Measure) => median(side.map((measure) => measure[field]));
  const ratio = median(ours.map(({ perSecond }, round) => perSecond / (hello[round] as Measure).perSecond));
  const share = median(ours.map(({ microseconds }, round) => (hello[round] as Measure).microseconds / microseconds));
  const cells = [
    of(ours, "perSecond").toFixed(0),
    of(hello, "perSecond").toFixed(0),
    ratio.toFixed(2),
    of(ours, "microseconds").toFixed(0),
    of(hello, "microseconds").toFixed(0),
    share.toFixed(2),
  ];
  console.log(`| ${name} | ${cells.join(" | ")} |`);
}
await server.dispose();
process.exit(0);
