/**
 * publish → the last byte at every client, for as many clients as the machine takes: plain TCP sockets that speak just
 * enough WebSocket or SSE, against one relay, a tree of relays, and a bare Node server that sends as many bytes from one loop.
 * Rounds alternate between the two; both, and all clients, share this machine's cores.
 * Arguments: websocket or sse; clients (default 1000); rounds (default 20); `one` relay or a `tree`; `acks` or `silent`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { bundle, Server } from "../test/support/server.ts";

const [kind = "websocket", clientCount = "1000", roundCount = "20", shape = "one", speech = "acks"] =
  process.argv.slice(2);
const count = Number(clientCount);
const rounds = Number(roundCount);
const ENTRY = "workers/index.ts";
const CONNECT_AT_ONCE = 100;
const BUSY_MS = 500;
const PING_EVERY_MS = 20_000;
const ROUND_DEADLINE_MS = 30_000;

/** One text frame from a client: masked, as RFC 6455 asks (5.3), here with a mask of zeros. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}

class Clients {
  readonly sockets: Socket[] = [];
  lost = 0;
  #arrived: number[] = [];
  #waiting = 0;
  #publishedAt = 0;
  #full: () => void = () => {};
  readonly #answers: boolean;

  constructor(answers: boolean) {
    this.#answers = answers;
  }

  /** Each by a name of its own: what one instance may ask for is limited. */
  async connect(port: number, path: string, headersOf: (index: number) => Record<string, string>): Promise<void> {
    for (let made = 0; made < count; made += CONNECT_AT_ONCE) {
      const batch = Math.min(CONNECT_AT_ONCE, count - made);
      await Promise.all(Array.from({ length: batch }, (_, index) => this.#open(port, path, headersOf(made + index))));
    }
    setInterval(() => {
      if (this.#waiting === 0 && kind === "websocket") for (const socket of this.sockets) socket.write(frame("ping"));
    }, PING_EVERY_MS).unref();
  }

  #open(port: number, path: string, headers: Record<string, string>): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1");
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      const upgrade =
        kind === "websocket"
          ? `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n`
          : "Accept: text/event-stream\r\n";
      socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${upgrade}${lines.join("")}\r\n`);
      socket.once("data", (answer) => {
        // Relays become more while clients come: an SDK would poll meanwhile.
        if (/^HTTP\/1\.1 503/.test(answer.toString("latin1"))) {
          socket.destroy();
          setTimeout(() => this.#open(port, path, headers).then(resolve, reject), BUSY_MS);
          return;
        }
        if (!/^HTTP\/1\.1 (101|200)/.test(answer.toString("latin1"))) return reject(new Error(answer.toString()));
        this.sockets.push(socket);
        socket.on("close", () => this.lost++);
        let round = 0;
        socket.on("data", (data) => {
          if (round === this.#round || this.#waiting === 0 || !data.includes('"publishedAt":')) return;
          round = this.#round;
          this.#arrive(socket, data);
        });
        resolve();
      });
      socket.on("error", reject);
    });
  }

  #round = 0;

  #arrive(socket: Socket, data: Buffer): void {
    if (this.#arrived.length === 0) this.#publishedAt = Number(/"publishedAt":(\d+)/.exec(data.toString())?.[1]);
    this.#arrived.push(Date.now());
    if (this.#answers && kind === "websocket") {
      const text = data.toString("latin1", 0, 400);
      const revision = /"revision":(\d+)/.exec(text)?.[1];
      const withinMs = Number(/"ackWithinMs":(\d+)/.exec(text)?.[1] ?? 0);
      if (revision !== undefined)
        setTimeout(() => socket.write(frame(`{"applied":${revision}}`)), Math.random() * withinMs).unref();
    }
    if (--this.#waiting === 0) this.#full();
  }

  /** Milliseconds from publishing to each client, sorted. */
  async round(publish: () => Promise<void>): Promise<number[]> {
    this.#round++;
    this.#arrived = [];
    this.#waiting = count;
    const full = new Promise<void>((resolve, reject) => {
      this.#full = resolve;
      const late = () => reject(new Error(`${this.#waiting} of ${count} did not get it; ${this.lost} were lost`));
      setTimeout(late, ROUND_DEADLINE_MS).unref();
    });
    await Promise.all([publish(), full]);
    return this.#arrived.map((at) => at - this.#publishedAt).sort((one, other) => one - other);
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
  }
}

type Side = { name: string; clients: Clients; publish(round: number): Promise<void>; close(): Promise<void> };

async function bunting(): Promise<Side> {
  // A tree: few enough places for a dozen relays, all but the first of them below the first.
  const tree = { RELAY_CAP: String(Math.ceil(count / 6)), RELAY_FAN_OUT: "17" };
  const server = await Server.start(ENTRY, bundle(ENTRY), shape === "tree" ? tree : { RELAY_CAP: "50000" });
  const { serverKey, flags, path } = await server.environment();
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "bench", name: "Bench", type: "boolean", variations });
  const clients = new Clients(speech === "acks");
  const startedAt = Date.now();
  const port = Number(new URL(server.url).port);
  const headers = (index: number) => ({
    authorization: `Bearer ${serverKey}`,
    "x-bunting-client": `bench/1;instance=${index}`,
  });
  await clients
    .connect(port, kind === "websocket" ? "/sdk/v1/socket" : "/sdk/v1/stream", headers)
    .catch(async (error) => {
      await server.dispose();
      throw error;
    });
  console.log(`${count} connected in ${((Date.now() - startedAt) / 1_000).toFixed(1)} s`);
  let revision = 0;
  return {
    name: "Bunting",
    clients,
    async publish(round) {
      const targets = [{ variation: "on", values: [`user-${round}`] }];
      const wait = speech === "acks" ? "?wait=1000" : "";
      ({ revision } = await server.ask<{ revision: number }>(
        "PATCH",
        `/projects/p/flags/bench/environments/production${wait}`,
        { targets },
      ));
    },
    async close() {
      console.log(JSON.stringify(await server.ask("GET", `${path}/propagation?revision=${revision}`)));
      clients.close();
      await server.dispose();
    },
  };
}

async function bareNode(): Promise<Side> {
  const peer: ChildProcess = spawn(process.execPath, ["bench/fan-out-peer.ts"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const port = await new Promise<string>((resolve) => {
    peer.stdout?.on("data", (chunk) => resolve(String(chunk).trim().split(" ")[1] as string));
  });
  const clients = new Clients(false);
  await clients.connect(Number(port), "/", () => ({}));
  return {
    name: "bare Node",
    clients,
    async publish(round) {
      // As many bytes as a patch of one small flag.
      const body = JSON.stringify({ type: "patch", round, filler: "x".repeat(420) });
      await fetch(`http://127.0.0.1:${port}`, { method: "POST", body });
    },
    async close() {
      clients.close();
      peer.kill();
    },
  };
}

const quantile = (sorted: number[], q: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
const median = (list: number[]) =>
  quantile(
    [...list].sort((one, other) => one - other),
    0.5,
  );

const sides = [await bunting(), await bareNode()];
const figures = sides.map(() => ({ p50: [] as number[], p99: [] as number[], last: [] as number[] }));
for (let round = -3; round < rounds; round++) {
  for (const [index, { clients, publish }] of sides.entries()) {
    const ages = await clients.round(() => publish(round));
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (round < 0) continue;
    figures[index]?.p50.push(quantile(ages, 0.5));
    figures[index]?.p99.push(quantile(ages, 0.99));
    figures[index]?.last.push(ages.at(-1) as number);
  }
}
console.log(`\n${count} × ${kind}, ${shape}, ${speech}: medians of ${rounds} rounds, ms from publishing to the client`);
for (const [index, { name, clients }] of sides.entries()) {
  const { p50, p99, last } = figures[index] as (typeof figures)[0];
  console.log(`${name.padEnd(9)} p50 ${median(p50)}  p99 ${median(p99)}  last ${median(last)}  lost ${clients.lost}`);
}
const [ours, floor] = figures as [(typeof figures)[0], (typeof figures)[0]];
for (const name of ["p50", "p99", "last"] as const) {
  const ratios = ours[name].map((ms, round) => ms / Math.max(1, floor[name][round] as number));
  console.log(`ratio ${name}: median of the rounds ${median(ratios).toFixed(2)}`);
}
for (const side of sides) await side.close();
process.exit(0);
