/**
 * Clients that all lose their streams at once and come back as SDKs do: at a random moment of the window that `hello` told
 * them, with the revision that they have. A change is published meanwhile, which each of them then lacks. Among them are real
 * SDKs, which evaluate all the time. Arguments: clients (default 1000); how they lose them: `reset` (all sockets, default) or
 * `killed` (the whole runtime, kill -9, and started again on its data); RELAY_CAP (default 2500).
 */
import { connect, type Socket } from "node:net";
import { createClient, type Client as Sdk } from "@bunting/sdk/node";
import { bundle, Server } from "../test/support/server.ts";
import { frame, opening, statusOf } from "./wire.ts";

const [clientCount = "1000", how = "reset", cap = "2500"] = process.argv.slice(2);
const count = Number(clientCount);
const ENTRY = "test/support/faulty-worker.ts";
const SDKS = 20;
const CONNECT_AT_ONCE = 100;
const BUSY_MS = 500;
const PING_EVERY_MS = 20_000;
const GIVE_UP_MS = 180_000;
const EVALUATE_EVERY_MS = 10;

/** `attempt` rises with each socket, so that what an old one still tells is not heard. */
type Client = {
  index: number;
  socket: Socket | null;
  attempt: number;
  windowMs: number;
  revision: number;
  backAt: number;
};

const server = await Server.start(ENTRY, bundle(ENTRY), { RELAY_CAP: cap });
const port = Number(new URL(server.url).port);
const sdks: Sdk[] = [];
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end(1));
const { serverKey, flags } = await server.environment();
const variations = [
  { key: "on", value: true },
  { key: "off", value: false },
];
await server.ask("POST", flags, { key: "bench", name: "Bench", type: "boolean", variations });
const targeting = `${flags}/bench/environments/production`;
await server.ask("PATCH", targeting, { on: true, fallthrough: { variation: "on" } });

const clients: Client[] = Array.from({ length: count }, (_, index) => {
  return { index, socket: null, attempt: 0, windowMs: 1_000, revision: 0, backAt: 0 };
});
const refusals = new Map<string, number>();
let wanted = 0;

/** Resolves with the status, or 0 where there was no answer. A stream that is lost comes back by itself. */
function open(client: Client): Promise<number> {
  return new Promise((resolve) => {
    const attempt = ++client.attempt;
    const socket = connect(port, "127.0.0.1");
    client.socket = socket;
    const headers = { authorization: `Bearer ${serverKey}`, "x-bunting-client": `bench/1;instance=${client.index}` };
    const since = client.revision > 0 ? `?since=${client.revision}` : "";
    socket.write(opening("websocket", `/sdk/v1/socket${since}`, headers));
    socket.once("data", (answer) => {
      resolve(statusOf(answer));
      if (statusOf(answer) !== 101) return socket.destroy();
      receive(client, answer);
      socket.on("data", (data) => receive(client, data));
      socket.once("close", () => attempt === client.attempt && void comeBack(client));
    });
    socket.once("error", () => resolve(0));
  });
}

function receive(client: Client, data: Buffer): void {
  const text = data.toString("latin1");
  const windowMs = /"reconnectWithinMs":(\d+)/.exec(text)?.[1];
  if (windowMs !== undefined) client.windowMs = Number(windowMs);
  for (const [, revision] of text.matchAll(/"(?:hello|patch)","revision":(\d+)/g)) {
    // A hello that is ahead of what the client has is followed by what it lacks.
    if (client.revision === 0 || text.includes(`"patch","revision":${revision}`)) client.revision = Number(revision);
  }
  if (wanted > 0 && client.revision >= wanted && client.backAt === 0) client.backAt = Date.now();
}

async function comeBack(client: Client): Promise<void> {
  while (true) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * client.windowMs));
    const status = await open(client);
    if (status === 101) return;
    refusals.set(String(status), (refusals.get(String(status)) ?? 0) + 1);
  }
}

async function connectAll(): Promise<void> {
  for (let made = 0; made < count; made += CONNECT_AT_ONCE) {
    const some = clients.slice(made, made + CONNECT_AT_ONCE).map(async (client) => {
      while ((await open(client)) !== 101) await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
    });
    await Promise.all(some);
  }
}

async function end(code: number): Promise<never> {
  for (const sdk of sdks) await sdk.close();
  await server.dispose();
  process.exit(code);
}

await connectAll();
for (let n = 0; n < SDKS; n++) {
  const sdk = createClient({ url: server.url, serverKey, events: false, logger: { warn() {}, error() {} } });
  sdks.push(sdk);
  if (!(await sdk.ready({ timeoutMs: 15_000 }))) throw new Error("An SDK got no ruleset");
}
let next = 0;
setInterval(() => {
  for (let sent = 0; sent < count / 1_000; sent++) clients[next++ % count]?.socket?.write(frame("ping"));
}, PING_EVERY_MS / 1_000);
let evaluations = 0;
let failed = 0;
const user = { targetingKey: "user" };
setInterval(() => {
  for (const sdk of sdks) {
    const { value, reason } = sdk.details("bench", false, user);
    evaluations++;
    if (value !== true || reason === "ERROR") failed++;
  }
}, EVALUATE_EVERY_MS);
console.log(`${count} connected, windows of ${Math.max(...clients.map(({ windowMs }) => windowMs))} ms`);

let asked: Awaited<ReturnType<Server["calls"]>> = (await server.calls()) ?? {};
const hubRequests: number[] = [];
const droppedAt = Date.now();
if (how === "killed") {
  await server.kill();
  await server.resume();
  console.log(`runtime back after ${((Date.now() - droppedAt) / 1_000).toFixed(1)} s`);
  asked = {};
} else for (const { socket } of clients) socket?.resetAndDestroy();
const targets = [{ variation: "on", values: ["user-1"] }];
({ revision: wanted } = await server.ask<{ revision: number }>("PATCH", targeting, { targets }));
while (clients.some(({ backAt }) => backAt === 0) && Date.now() - droppedAt < GIVE_UP_MS) {
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const now = await server.calls();
  hubRequests.push((now.HUB ?? 0) - (asked.HUB ?? 0));
  asked = now;
}
const back = clients.filter(({ backAt }) => backAt > 0).map(({ backAt }) => (backAt - droppedAt) / 1_000);
back.sort((one, other) => one - other);
console.log(
  `${back.length} of ${count} back and at the new revision: half after ${back[back.length >> 1]?.toFixed(1)} s, the last after ${back.at(-1)?.toFixed(1)} s`,
);
console.log(`requests to the hub, each second: ${hubRequests.join(" ")}; peak ${Math.max(...hubRequests)}`);
console.log(`refused: ${JSON.stringify(Object.fromEntries(refusals))}; calls: ${JSON.stringify(asked)}`);
console.log(`evaluations of ${SDKS} SDKs meanwhile: ${evaluations}, failed ${failed}`);
await end(back.length === count && failed === 0 ? 0 : 1);
