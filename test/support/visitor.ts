/** Whoever has a client for browsers: the same sentences for one in this process and one in a page. */

import type { Json } from "@bunting/core";
import { type BrowserClient, type BrowserOptions, createClient, type DeviceStorage } from "@bunting/sdk/browser";

export type Heard = { name: string; detail: Record<string, unknown> };

/** Options that can be sent into a page. */
export type VisitorOptions = Omit<BrowserOptions, "logger" | "fetch" | "cache" | "streams"> & { polls?: boolean };

export interface Visitor {
  /** A new client, on what earlier ones of this visitor have kept. */
  open(options: VisitorOptions): Promise<void>;
  ready(): Promise<boolean>;
  details(key: string, defaultValue: Json): Promise<{ value: Json; reason: string; variation: string | null }>;
  setContext(context: Record<string, Json>): Promise<void>;
  track(metric: string): Promise<void>;
  flush(): Promise<void>;
  status(): Promise<ReturnType<BrowserClient["status"]>>;
  context(): Promise<Record<string, Json>>;
  /** Everything that listeners were told since `open`, each with the value of `watched` at that moment. */
  heard(): Promise<Heard[]>;
  close(): Promise<void>;
}

export class NodeVisitor implements Visitor {
  readonly #kept = new Map<string, string>();
  readonly #storage: DeviceStorage = {
    getItem: (key) => this.#kept.get(key) ?? null,
    setItem: (key, value) => void this.#kept.set(key, value),
  };
  #client: BrowserClient | undefined;
  #heard: Heard[] = [];

  async open({ polls, ...options }: VisitorOptions): Promise<void> {
    await this.#client?.close();
    this.#heard = [];
    const logger = { warn() {}, error() {} };
    const client = createClient({ ...options, cache: this.#storage, logger, ...(polls && { streams: [] }) });
    for (const name of ["ready", "change", "stale", "connected", "disconnected", "error"] as const)
      client.on(name, (detail) => void this.#heard.push({ name, detail }));
    this.#client = client;
  }

  ready = async () => this.#client!.ready({ timeoutMs: 10_000 });
  details = async (key: string, defaultValue: Json) => this.#client!.details(key, defaultValue);
  setContext = async (context: Record<string, Json>) => this.#client!.setContext(context);
  track = async (metric: string) => this.#client!.track(metric);
  flush = async () => this.#client!.flush();
  status = async () => this.#client!.status();
  context = async () => this.#client!.context as Record<string, Json>;
  heard = async () => this.#heard;
  close = async () => this.#client?.close();
}
