/** A server with the data plane's protocol over real sockets, which can be made to misbehave. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket as NetSocket } from "node:net";
import type { Flag, Ruleset } from "@bunting/core";
import type { EvaluatedFlag, EventBatch } from "@bunting/core/wire";
import { type WebSocket, WebSocketServer } from "ws";

export const SERVER_KEY = "bnt_srv_env-1_0123456789abcdef";
export const CLIENT_KEY = "bnt_cli_env-1_0123456789abcdef";

export function booleanFlag(key: string, value: boolean, version: number, more: Partial<Flag> = {}): Flag {
  return {
    key,
    version,
    type: "boolean",
    on: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
    offVariation: "off",
    prerequisites: [],
    targets: [],
    rules: [],
    fallthrough: { variation: value ? "on" : "off" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
    ...more,
  };
}

export function rulesetOf(revision: number, flags: Flag[]): Ruleset {
  return {
    schema: 1,
    environment: "env-1",
    revision,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: Object.fromEntries(flags.map((flag) => [flag.key, flag])),
    segments: {},
  };
}

export class Peer {
  ruleset: Ruleset;
  readonly requests: { method: string; url: string; headers: IncomingMessage["headers"] }[] = [];
  readonly applied: number[] = [];
  /** The contexts that clients with a client key have sent, over sockets and by POST. */
  readonly contexts: unknown[] = [];
  readonly batches: EventBatch[] = [];
  readonly serverKeys = new Set([SERVER_KEY]);
  /** Status codes to answer with instead of serving, by path; for the socket, the status of the handshake. */
  refuse: Partial<Record<"ruleset" | "socket" | "stream" | "events", number>> = {};
  /** Accepts requests, messages and pings and answers none, as a connection does whose other end is lost. */
  silent = false;
  /** Milliseconds between the bytes of an answer that never ends. */
  trickleMs: number | null = null;
  headers: Record<string, string> = {};
  /** Sent in place of the ruleset. */
  body: string | null = null;
  /** Filters of big segments, by path. Other paths are 404. */
  readonly filters = new Map<string, Uint8Array>();
  /** Filters are sent after this has resolved. */
  filtersAfter: Promise<void> = Promise.resolve();
  reconnectWithinMs = 0;
  /** The messages after the hello of a new stream; null: a resync if the client's revision is old. */
  replay: ((since: number) => object[]) | null = null;
  readonly sockets = new Set<WebSocket>();
  readonly streams = new Set<ServerResponse>();
  readonly #connections = new Set<NetSocket>();
  #server: Server | null = null;
  #port = 0;

  constructor(ruleset: Ruleset) {
    this.ruleset = ruleset;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Starts, or starts again on the same port. */
  async start(): Promise<this> {
    const upgrader = new WebSocketServer({ noServer: true });
    const server = createServer((request, response) => void this.#serve(request, response));
    server.on("connection", (connection) => {
      this.#connections.add(connection);
      connection.on("close", () => this.#connections.delete(connection));
    });
    server.on("upgrade", (request, socket, head) => {
      this.#record(request);
      if (this.silent) return;
      if (this.trickleMs !== null) return this.#trickle(socket);
      const status = this.refuse.socket ?? (this.#isAuthorized(request) ? null : 401);
      if (status !== null) {
        socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\n\r\n`);
        return;
      }
      upgrader.handleUpgrade(request, socket as NetSocket, head, (opened) => this.#accept(opened, request));
    });
    await new Promise<void>((done) => server.listen(this.#port, "127.0.0.1", done));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
    return this;
  }

  /** Cuts every connection, as a crash does. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    for (const socket of this.sockets) socket.terminate();
    this.sockets.clear();
    for (const stream of this.streams) stream.destroy();
    this.streams.clear();
    await new Promise<void>((done) => {
      server.close(() => done());
      // `closeAllConnections` does not close upgraded ones.
      for (const connection of this.#connections) connection.destroy();
    });
  }

  /** Publishes flags as one patch on top of the current ruleset. */
  publish(...flags: Flag[]): void {
    const previous = this.ruleset.revision;
    this.change(...flags);
    const changed = Object.fromEntries(flags.map((flag) => [flag.key, flag]));
    this.send({
      type: "patch",
      revision: previous + 1,
      previous,
      publishedAt: Date.now(),
      ackWithinMs: 0,
      flags: changed,
      segments: {},
    });
  }

  /** Changes the ruleset without a message to clients. */
  change(...flags: Flag[]): void {
    const documents = { ...this.ruleset.flags };
    for (const flag of flags) documents[flag.key] = flag;
    this.ruleset = { ...this.ruleset, revision: this.ruleset.revision + 1, flags: documents };
  }

  send(message: object): void {
    this.sendText(JSON.stringify(message));
    const { type, ...data } = message as { type: string; revision?: number };
    for (const stream of this.streams)
      stream.write(`event: ${type}\nid: ${data.revision ?? ""}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  sendText(text: string): void {
    for (const socket of this.sockets) socket.send(text);
  }

  count(path: string): number {
    return this.requests.filter(({ url }) => url.startsWith(`/sdk/v1/${path}`)).length;
  }

  #record(request: IncomingMessage): void {
    this.requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
  }

  #isAuthorized(request: IncomingMessage): boolean {
    if (request.url?.includes(`key=${CLIENT_KEY}&`)) return true;
    return this.serverKeys.has(request.headers.authorization?.replace(/^Bearer /, "") ?? "");
  }

  #hello(since: number): object[] {
    const { revision } = this.ruleset;
    const hello = { type: "hello", revision, reconnectWithinMs: this.reconnectWithinMs };
    const rest = this.replay?.(since) ?? (since === revision ? [] : [{ type: "resync", revision, withinMs: 0 }]);
    return [hello, ...rest];
  }

  #accept(socket: WebSocket, request: IncomingMessage): void {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("message", (data) => {
      if (this.silent) return;
      const text = data.toString();
      if (text === "ping") socket.send("pong");
      else if (text.startsWith('{"context"')) {
        this.contexts.push(JSON.parse(text));
        socket.send(JSON.stringify({ type: "put", ...this.#values() }));
      } else this.applied.push((JSON.parse(text) as { applied: number }).applied);
    });
    for (const message of this.#hello(sinceOf(request))) socket.send(JSON.stringify(message));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#record(request);
    const path = (request.url ?? "").replace(/^\/(sdk|client)\/v1\//, "").replace(/\?.*/, "");
    const text = await bodyOf(request);
    if (text.startsWith('{"context"')) this.contexts.push(JSON.parse(text));
    if (this.silent) return;
    if (this.trickleMs !== null) return this.#trickle(response.writeHead(200));
    const status = this.refuse[path as "ruleset"] ?? (this.#isAuthorized(request) ? null : 401);
    if (status !== null) {
      response.writeHead(status, this.headers).end("{}");
    } else if (path === "ruleset" || path === "flags") {
      this.#sendWhole(path === "flags" ? this.#values() : this.ruleset, request, response);
    } else if (path === "stream") {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      this.streams.add(response);
      response.on("close", () => this.streams.delete(response));
      for (const message of this.#hello(sinceOf(request))) {
        const { type, ...data } = message as { type: string };
        response.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
      }
    } else if (path === "events") {
      this.batches.push(JSON.parse(text) as EventBatch);
      response.writeHead(202).end();
    } else {
      if (path.startsWith("segments/")) await this.filtersAfter;
      const filter = this.filters.get(`/sdk/v1/${path}`);
      response.writeHead(filter === undefined ? 404 : 200).end(filter);
    }
  }

  #trickle(to: { write(text: string): unknown; on(event: "close", listener: () => void): unknown }): void {
    const timer = setInterval(() => to.write(" "), this.trickleMs!);
    to.on("close", () => clearInterval(timer));
  }

  /** The same for every context. */
  #values(): { revision: number; flags: Record<string, EvaluatedFlag> } {
    const { revision, flags } = this.ruleset;
    const values = Object.entries(flags).map(([key, { variations, version }]): [string, EvaluatedFlag] => {
      const { key: variation, value } = variations[0]!;
      return [key, { value, variation, reason: "STATIC", version }];
    });
    return { revision, flags: Object.fromEntries(values) };
  }

  #sendWhole(whole: object, request: IncomingMessage, response: ServerResponse): void {
    const etag = `"${this.ruleset.revision}"`;
    if (this.body !== null) {
      // The body is shorter than its length says, as when a proxy crashes.
      response.writeHead(200, { "Content-Length": String(this.body.length + 100) });
      response.write(this.body, () => response.destroy());
    } else if (request.headers["if-none-match"] === etag) response.writeHead(304, { ETag: etag }).end();
    else response.writeHead(200, { ETag: etag, "Content-Type": "application/json" }).end(JSON.stringify(whole));
  }
}

const sinceOf = (request: IncomingMessage): number => Number(/since=(\d+)/.exec(request.url ?? "")?.[1] ?? -1);

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
