/**
 * The clients of `write-storm`, in a process of their own: plain TCP sockets that speak just enough WebSocket, apply every
 * revision and acknowledge as SDKs do. Asked for a revision, it answers when the last client had it, or one after it.
 */
import { connect } from "node:net";
import { frame, opening, statusOf } from "./wire.ts";

export type Arrivals = { connected: true } | { revision: number; lastAt: number | null; missing: number };

const { count, port, key } = JSON.parse(process.argv[2] ?? "{}") as { count: number; port: number; key: string };
const CONNECT_AT_ONCE = 50;
const BUSY_MS = 300;
const PING_EVERY_MS = 20_000;
/** The longest text between a revision and the end of a chunk that cut it in two. */
const CARRIED = 80;

const PATCH = /"(?:patch|resync)","revision":(\d+)[,}]/g;

class Client {
  /** Revisions in the order of their arrival, and when each came. */
  readonly #arrived: { revision: number; at: number }[] = [];
  #carried = "";
  #acknowledging = false;
  write: (data: Buffer) => void = () => {};

  receive(data: Buffer): void {
    const text = this.#carried + data.toString("latin1");
    this.#carried = text.slice(-CARRIED);
    const at = Date.now();
    for (const [, revision] of text.matchAll(PATCH)) {
      if (Number(revision) > this.applied) this.#arrived.push({ revision: Number(revision), at });
    }
    if (this.#acknowledging || this.#arrived.length === 0) return;
    this.#acknowledging = true;
    const withinMs = Number(/"ackWithinMs":(\d+)/.exec(text)?.[1] ?? 0);
    setTimeout(() => {
      this.#acknowledging = false;
      this.write(frame(`{"applied":${this.applied}}`));
    }, Math.random() * withinMs);
  }

  get applied(): number {
    return this.#arrived.at(-1)?.revision ?? 0;
  }

  hadAt(wanted: number): number | null {
    return this.#arrived.find(({ revision }) => revision >= wanted)?.at ?? null;
  }
}

const clients = Array.from({ length: count }, () => new Client());

function open(client: Client, index: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const headers = { authorization: `Bearer ${key}`, "x-bunting-client": `bench/1;instance=${index}` };
    socket.write(opening("websocket", "/sdk/v1/socket", headers));
    socket.once("data", (answer) => {
      const status = statusOf(answer);
      if (status === 503) {
        socket.destroy();
        setTimeout(() => open(client, index).then(resolve, reject), BUSY_MS);
      } else if (status !== 101) reject(new Error(answer.toString()));
      else {
        client.write = (data) => socket.write(data);
        socket.on("data", (data) => client.receive(data));
        resolve();
      }
    });
    socket.on("error", reject);
  });
}

for (let made = 0; made < count; made += CONNECT_AT_ONCE) {
  const some = clients.slice(made, made + CONNECT_AT_ONCE);
  await Promise.all(some.map((client, index) => open(client, made + index)));
}
let next = 0;
setInterval(() => clients[next++ % count]?.write(frame("ping")), PING_EVERY_MS / Math.max(1, count));
process.on("message", (revision: number) => {
  const times = clients.map((client) => client.hadAt(revision));
  const there = times.filter((at) => at !== null);
  const arrivals: Arrivals = {
    revision,
    lastAt: there.length === 0 ? null : Math.max(...there),
    missing: times.length - there.length,
  };
  process.send?.(arrivals);
});
process.send?.({ connected: true } satisfies Arrivals);
