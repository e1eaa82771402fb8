/** Whoever has a client for browsers, so that the same sentences hold for one in this process and one in a page. */
import type { Json } from "@bunting/core";
import {
  type BrowserClient,
  type BrowserOptions,
  createClient,
  type DeviceStorage,
  type Values,
} from "@bunting/sdk/browser";
import { sseTransport } from "@bunting/sdk/sse";

export type Heard = { name: string; detail: Record<string, unknown> };

/** Options that can be sent into a page. */
export type VisitorOptions = Omit<BrowserOptions, "logger" | "fetch" | "cache" | "streams"> & {
  streams?: ("websocket" | "sse")[];
};

/** What of a visitor can be asked from elsewhere: everything goes there and back as JSON. */
export type RemoteVisitor = Omit<Visitor, "client">;

export class Visitor {
  readonly #cache: DeviceStorage | undefined;
  #client: BrowserClient | undefined;
  #heard: Heard[] = [];

  constructor(cache?: DeviceStorage) {
    this.#cache = cache;
  }

  get client(): BrowserClient {
    return this.#client!;
  }

  /** A new client, on what earlier ones of this visitor have kept. Answers what it has before anybody was asked. */
  async open({ streams = ["websocket"], ...options }: VisitorOptions): Promise<Values> {
    await this.#client?.close();
    const heard: Heard[] = [];
    this.#heard = heard;
    const client = createClient({
      ...options,
      ...(this.#cache && { cache: this.#cache }),
      logger: { warn() {}, error() {} },
      streams: streams.map((name) => (name === "sse" ? sseTransport : name)),
    });
    for (const name of ["ready", "change", "stale", "connected", "disconnected", "error"] as const)
      client.on(name, (detail) => void heard.push({ name, detail }));
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
  /** Everything that listeners were told since `open`. */
  heard = async () => this.#heard;
  close = async () => this.#client?.close();

  /** Answers every value that the flag had until those for the context were here, and then; the default is "default". */
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

/** What `localStorage` is, where there is none. */
export function newStorage(): DeviceStorage & { kept: Map<string, string> } {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
  };
}
