/**
 * publish → applied: from the hub's acceptance to the change event of every connected Node SDK, on loopback, beside a bare
 * Node `ws` server that sends the same bytes to as many sockets. Rounds alternate; both ends share this machine's cores.
 * Arguments: clients (default 1 and 1000), rounds (default 30).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { type Client, createClient } from "@bunting/sdk/node";
import { bundle, Server } from "../test/support/server.ts";

const counts = (process.argv[2] ?? "1,1000").split(",").map(Number);
const rounds = Number(process.argv[3] ?? 30);
const ENTRY = "workers/index.ts";
const TARGETING = "/projects/p/flags/bench/environments/production";

type Side = {
  name: string;
  connect(count: number): Promise<void>;
  publish(round: number): Promise<number[]>;
  close(): Promise<void>;
};

const now = () => performance.timeOrigin + performance.now();

async function bunting(): Promise<Side> {
  const server = await Server.start(ENTRY, bundle(ENTRY), { RELAY_CAP: "20000" });
  const { serverKey, flags } = await server.environment();
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "bench", name: "Bench", type: "boolean", variations });
  let clients: Client[] = [];
  return {
    name: "Bunting",
    async connect(count) {
      for (let made = 0; made < count; made += 50) {
        const batch = Array.from({ length: Math.min(50, count - made) }, () =>
          createClient({ url: server.url, serverKey, events: false, streams: ["websocket"] }),
        );
        await Promise.all(
          batch.map((client) => new Promise<void>((resolve) => client.on("connected", () => resolve()))),
        );
        clients.push(...batch);
      }
    },
    async publish(round) {
      const ages = clients.map(
        (client) =>
          new Promise<number>((resolve) => {
            const off = client.on("change", ({ publishedAt }) => {
              off();
              resolve(now() - (publishedAt ?? Number.NaN));
            });
          }),
      );
      await server.ask("PATCH", TARGETING, { targets: [{ variation: "on", values: [`user-${round}`] }] });
      return Promise.all(ages);
    },
    async close() {
      await Promise.all(clients.map((client) => client.close()));
      clients = [];
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
  const sockets: WebSocket[] = [];
  return {
    name: "bare ws",
    async connect(count) {
      for (let made = 0; made < count; made += 50) {
        await Promise.all(
          Array.from({ length: Math.min(50, count - made) }, async () => {
            const socket = new WebSocket(`ws://127.0.0.1:${port}`);
            await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
            sockets.push(socket);
          }),
        );
      }
    },
    async publish(round) {
      const ages = sockets.map(
        (socket) =>
          new Promise<number>((resolve) => {
            socket.addEventListener("message", ({ data }) => resolve(now() - JSON.parse(data).publishedAt), {
              once: true,
            });
          }),
      );
      // As many bytes as a patch of one small flag.
      const body = JSON.stringify({ type: "patch", round, filler: "x".repeat(420) });
      await fetch(`http://127.0.0.1:${port}`, { method: "POST", body });
      return Promise.all(ages);
    },
    async close() {
      for (const socket of sockets) socket.close();
      peer.kill();
    },
  };
}

const quantile = (sorted: number[], q: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] as number;

for (const count of counts) {
  const sides = [await bunting(), await bareNode()];
  for (const side of sides) await side.connect(count);
  const measured = sides.map(() => [] as number[]);
  const last = sides.map(() => [] as number[]);
  for (let round = -3; round < rounds; round++) {
    for (const [index, side] of sides.entries()) {
      const ages = await side.publish(round);
      if (round < 0) continue;
      measured[index]?.push(...ages);
      last[index]?.push(Math.max(...ages));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  const figures = sides.map(({ name }, index) => {
    const sorted = (measured[index] as number[]).sort((a, b) => a - b);
    const slowest = (last[index] as number[]).sort((a, b) => a - b);
    return { name, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), last: quantile(slowest, 0.5) };
  });
  console.log(`\n${count} client(s), ${rounds} rounds, ms from publishing to applied`);
  for (const { name, p50, p99, last: slowest } of figures) {
    console.log(
      `${name.padEnd(8)} p50 ${p50.toFixed(1)}  p99 ${p99.toFixed(1)}  last client (median round) ${slowest.toFixed(1)}`,
    );
  }
  const [ours, floor] = figures as [(typeof figures)[0], (typeof figures)[0]];
  console.log(
    `ratio    p50 ${(ours.p50 / floor.p50).toFixed(2)}  p99 ${(ours.p99 / floor.p99).toFixed(2)}  last ${(ours.last / floor.last).toFixed(2)}`,
  );
  for (const side of sides) await side.close();
}
process.exit(0);
