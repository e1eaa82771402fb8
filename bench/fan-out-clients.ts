/**
 * The clients of one side of `fan-out-wire`, in a process of their own: plain TCP sockets that speak just enough WebSocket or
 * SSE. Told by its parent when a round begins, it answers how long after publishing each client had it.
 */
import { connect, type Socket } from "node:net";
import { frame, opening, statusOf } from "./wire.ts";

/** `path` and `headers` of each request; `{index}` in a header's value is the client's number. */
export type ClientGroup = {
  kind: "websocket" | "sse";
  count: number;
  port: number;
  path: string;
  headers: Record<string, string>;
  acknowledges: boolean;
};
/** Ages in ms from publishing to each client, sorted; `lastAt` in epoch ms. `lost` is how many sockets have been closed since the beginning. */
export type Report =
  | { connected: true }
  | { listening: true }
  | { ages: number[]; lastAt: number; lost: number }
  | { failed: string };

const CONNECT_AT_ONCE = 100;
const BUSY_MS = 500;
const PING_EVERY_MS = 20_000;
const PING_TURNS = 1_000;
const ROUND_DEADLINE_MS = 30_000;

const group = JSON.parse(process.argv[2] ?? "{}") as ClientGroup;
const { kind, count, port, path, headers, acknowledges } = group;
const sockets: Socket[] = [];
let lost = 0;
let round = 0;
/** What the first client of a round was sent. */
let first = { revision: 0, publishedAt: 0, ackWithinMs: 0 };
let arrived: number[] = [];
let deadline: ReturnType<typeof setTimeout> | undefined;

type Client = { socket: Socket; has: number; acknowledging: boolean };

const report = (message: Report) => process.send?.(message);

function open(index: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const own = Object.entries(headers).map(([name, value]) => [name, value.replace("{index}", String(index))]);
    socket.write(opening(kind, path, Object.fromEntries(own) as Record<string, string>));
    socket.once("data", (answer) => {
      // Relays become more while clients come: an SDK would poll meanwhile.
      const status = statusOf(answer);
      if (status === 503) {
        socket.destroy();
        setTimeout(() => open(index).then(resolve, reject), BUSY_MS);
        return;
      }
      if (status !== 101 && status !== 200) return reject(new Error(answer.toString()));
      sockets.push(socket);
      socket.on("close", () => lost++);
      const client: Client = { socket, has: 0, acknowledging: false };
      socket.on("data", (data) => {
        if (client.has === round || !data.includes('"publishedAt":')) return;
        client.has = round;
        arrive(client, data);
      });
      resolve();
    });
    socket.on("error", reject);
  });
}

function arrive(client: Client, data: Buffer): void {
  if (arrived.length === 0) first = read(data);
  arrived.push(Date.now());
  if (acknowledges && !client.acknowledging) {
    client.acknowledging = true;
    setTimeout(acknowledge, Math.random() * first.ackWithinMs, client);
  }
  if (arrived.length === count) done();
}

/** As SDKs do: of what came while an acknowledgement was held back, the last. */
function acknowledge(client: Client): void {
  client.acknowledging = false;
  client.socket.write(frame(`{"applied":${first.revision}}`));
}

function read(data: Buffer): typeof first {
  const text = data.toString();
  const number = (name: string) => Number(new RegExp(`"${name}":(\\d+)`).exec(text)?.[1] ?? 0);
  return { revision: number("revision"), publishedAt: number("publishedAt"), ackWithinMs: number("ackWithinMs") };
}

function done(): void {
  clearTimeout(deadline);
  const ages = arrived.map((at) => at - first.publishedAt).sort((one, other) => one - other);
  report({ ages, lastAt: arrived.at(-1) as number, lost });
}

process.on("message", () => {
  round++;
  arrived = [];
  deadline = setTimeout(
    () => report({ failed: `${count - arrived.length} of ${count} did not get it; ${lost} were lost` }),
    ROUND_DEADLINE_MS,
  );
  report({ listening: true });
});

/** As many at a time as make one ping of each client in twenty seconds: an even load, as of many SDKs. */
function pingByTurns(): void {
  let next = 0;
  setInterval(() => {
    for (let sent = 0; sent < count / PING_TURNS && sockets.length > 0; sent++)
      sockets[next++ % sockets.length]?.write(frame("ping"));
  }, PING_EVERY_MS / PING_TURNS);
}

if (kind === "websocket") pingByTurns();
try {
  for (let made = 0; made < count; made += CONNECT_AT_ONCE) {
    const batch = Math.min(CONNECT_AT_ONCE, count - made);
    await Promise.all(Array.from({ length: batch }, (_, index) => open(made + index)));
  }
  report({ connected: true });
} catch (error) {
  report({ failed: String(error) });
}
