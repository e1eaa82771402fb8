/** A client for browsers that is operated the same way in this process, in a page and in a Worker. */
import type { Json } from "@bunting/core";
import {
  type BrowserClient,
  type BrowserOptions,
  createClient,
  type DeviceStorage,
  type Values,
} from "@bunting/sdk/browser";
import { sseTransport } from "@bunting/sdk/sse";

export type Emitted = { name: string; detail: Record<string, unknown> };

/** Options that can be sent as JSON. */
export type VisitorOptions = Omit<BrowserOptions, "logger" | "fetch" | "cache" | "streams"> & {
  streams?: ("websocket" | "sse")[];
};

/** The methods that can be called remotely: arguments and results are JSON. */
export type RemoteVisitor = Omit<Visitor, "client">;

export class Visitor {
  readonly #cache: DeviceStorage | undefined;
  #client: BrowserClient | undefined;
  #emitted: Emitted[] = [];

  constructor(cache?: DeviceStorage) {
    this.#cache = cache;
  }

  get client(): BrowserClient {
    return this.#client!;
  }

  /** Opens a new client with the cache of the earlier ones. Returns the values that it has before its first request. */
  async open({ streams = ["websocket"], ...options }: VisitorOptions): Promise<Values> {
    await this.#client?.close();
    const emitted: Emitted[] = [];
    this.#emitted = emitted;
    const client = createClient({
      ...options,
      ...(this.#cache && { cache: this.#cache }),
      logger: { warn() {}, error() {} },
      streams: streams.map((name) => (name === "sse" ? sseTransport : name)),
    });
    for (const name of ["ready", "change", "stale", "connected", "disconnected", "error"] as const)
      client.on(name, (detail) => void emitted.push({ name, detail }));
    this.#client = client;
    return client.all();
  }

  ready = async () => this.client.ready({ timeoutMs: 15_000 });
  details = async (key: string, defaultValue: Json) => this.client.details(key, defaultValue);
  all = async () => this.client.all();
  track = async (metric: string) => this.client.track(metric);
  flush = async () => this.client.flush();
  status = async () => this.client.status();
  context = async () => this.client.context as Record<string, Json>;
  /** All events since `open`. */
  emitted = async () => this.#emitted;
  close = async () => this.#client?.close();

  /** Returns the flag's values until those of the context arrive, and its value then. The default is "default". */
  async setContext(context: Record<string, Json>, watched: string): Promise<Json[]> {
    const seen: Json[] = [];
    const look = () => void seen.push(this.client.details(watched, "default").value);
    const done = this.client.setContext(context);
    look();
    const timer = setInterval(look, 1);
    await done;
    clearInterval(timer);
    look();
    return seen.filter((value, at) => value !== seen[at - 1]);
  }
}

/** A `localStorage` in memory. */
export function newStorage(): DeviceStorage & { kept: Map<string, string> } {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
  };
}
