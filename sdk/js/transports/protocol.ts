import type { Incoming, Patch, Put } from "../sync/state.ts";

/** `fetch` as every platform has it, and a service binding's too. */
export type Fetch = (
  url: string,
  init: {
    method?: string;
    headers?: Record<string, string>;
    body?: string;
    signal?: AbortSignal;
  },
) => Promise<Response>;

/** The part of a WebSocket that is used. */
export type Socket = {
  send(text: string): void;
  close(code?: number): void;
  addEventListener(type: "open" | "error", listener: (event: unknown) => void): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number; reason: string }) => void): void;
};

type Request = { url: string; method?: string; headers: Record<string, string>; body?: string };

/** What transports speak: the requests they send and how responses are read. */
export type Protocol<P extends Put = Put, D extends Patch = Patch> = {
  fetch: Fetch;
  /** For everything, at least at this revision. */
  poll(atLeast: number | null): Request;
  /** For what changes from this revision on. */
  stream(since: number | null): Request;
  /** The same; throws where the platform refuses. A promise where the WebSocket has to be loaded first. */
  socket(since: number | null): Socket | Promise<Socket>;
  /** The first message of a socket. */
  greeting?(): string;
  /** Everything, or why it is not that. */
  readWhole(text: string): P | string;
  /** Over SSE the type is the event's name, over WebSocket a field. */
  readMessage(text: string, eventName?: string): Incoming<P, D>;
  /** What to do about an answer of this status. */
  explain?(status: number): string | undefined;
};

/** Sends one batch to the intake. */
export type Post = (body: string, signal: AbortSignal) => Promise<Response>;

/** Where a client talks to and as whom. */
export type Endpoint = { url: string; headers(): Record<string, string>; fetch: Fetch };
