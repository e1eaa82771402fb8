/// <reference lib="esnext.disposable" preserve="true" />
/** What an application sees of the client for pages. */
import type { Context, Decision, Json } from "@bunting/core";
import type { EvaluatedFlag, PutMessage, ValuesMessage } from "@bunting/core/wire";
import type { Trouble } from "../client/advice.ts";
import type { FlagTypes, GivenContext, IfJson, KeyOf, Like } from "../client/flag-types.ts";
import type { EventOptions } from "../events/events.ts";
import type { FeedStatus } from "../sync/driver.ts";
import type { Transport } from "../sync/transport.ts";
import type { Fetch } from "../transports/protocol.ts";
import type { Values, ValuesProtocol } from "../transports/values-protocol.ts";
import type { DeviceStorage } from "./value-cache.ts";

/** A way to stream: `"websocket"`, or `sse` of `@bunting/sdk/sse`. */
export type Stream = "websocket" | ((protocol: ValuesProtocol) => Transport<PutMessage, ValuesMessage>);

export type BrowserOptions = {
  /** The environment's client key (`bnt_cli_…`), which is public. */
  clientKey: string;
  /** The address of your Bunting Worker. */
  url: string;
  /** Whom the flags are for. Without a `targetingKey` it is the visitor's `anonymousId`, which is added in any case. */
  context?: Context;
  /** The application's name, as receipts show it. */
  name?: string;
  /** The answer of an earlier `POST /client/v1/flags` for the same context, as the page was served with it. */
  bootstrap?: { revision: number; flags: Values };
  /** Where values and the anonymous id are kept: `localStorage` by default; `false` keeps nothing on the device. */
  cache?: DeviceStorage | false;
  /** WebSocket by default; polling every 30 s is always the last resort, and the only one with `[]`. */
  streams?: readonly Stream[];
  /** What is recorded about evaluations; `false` sends nothing at all. */
  events?: EventOptions | false;
  /** Opens no connection, stores nothing on the device and serves `bootstrap`: for rendering on a server. */
  offline?: boolean;
  logger?: Pick<Console, "warn" | "error">;
  fetch?: Fetch;
};

export type BrowserStatus = FeedStatus & {
  ready: boolean;
  /** The server does not take the key from here. */
  refused: boolean;
  revision: number | null;
  closed: boolean;
  events: { buffered: number; dropped: number };
};

export type BrowserEvents = {
  /** The first values have come from the server. */
  ready: { revision: number };
  /** Flags whose values, or whose reasons for them, have changed. */
  change: { revision: number; flags: string[] };
  /** Nobody has confirmed the values for a while; they are still served. */
  stale: { forMs: number };
  connected: { transport: string };
  disconnected: { transport: string; reason: string };
  /** REFUSED: the key, or this origin. UNREACHABLE: the server. INVALID_RESPONSE: a response that could not be used. EVENTS: telemetry is not being taken. */
  error: { code: Trouble; message: string };
};

export type Listeners<Flags extends object> = BrowserEvents & {
  [Key in keyof Flags & string as `change:${Key}`]: BrowserEvents["change"];
};

export type BrowserClient<Flags extends object = FlagTypes> = {
  boolean(key: KeyOf<Flags, boolean>, defaultValue: boolean): boolean;
  string(key: KeyOf<Flags, string>, defaultValue: string): string;
  number(key: KeyOf<Flags, number>, defaultValue: number): number;
  /** Of whatever shape the flag has: check it as you would any input. */
  json<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>): Like<Value>;
  /**
   * The value and how it came about. A value of another type than the default's becomes the default with reason
   * `ERROR` and `TYPE_MISMATCH`; a default that is null, a list or an object takes any type.
   */
  details<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>): Decision<Like<Value>>;
  /**
   * All values as they came, the same object until one changes, and each flag the same object until it changes. Counts
   * and exposes nothing: `shown` does.
   */
  all(): Values;
  /**
   * As `details`, of a flag that was read from `all()` or `bootstrap` and is on the page (undefined where there is none):
   * counted and exposed for the visitor whose value it was, though the client may have others' by now.
   */
  shown(key: keyof Flags & string, flag: EvaluatedFlag | undefined, defaultValue?: Json): Decision;
  /** What the page was served with. */
  readonly bootstrap: Values;
  /** A metric of the visitor; `value` is 1 by default. */
  track(metric: string, value?: number): void;
  /** With what was added to the one given. */
  readonly context: Context;
  /**
   * Until the values for this context are here, the previous context's are served. Resolves to true when they are, from the server or
   * from the device's cache; to false when the time (5,000 ms by default) is up first, the key is refused or the client is closed:
   * they are still served as soon as they arrive. Never rejects. A function is called with the present context:
   * `setContext((context) => ({ ...context, plan: "pro" }))`.
   * @throws TypeError for a context that is not JSON; the previous one stays then.
   */
  setContext(
    context: GivenContext | ((context: Context) => GivenContext),
    options?: { timeoutMs?: number | null } | null,
  ): Promise<boolean>;
  /** Calls the listener from now on, until the answer is called. What a listener throws is logged and goes no further. */
  on<Name extends keyof Listeners<Flags>>(name: Name, listener: (detail: Listeners<Flags>[Name]) => void): () => void;
  /** The same, for the next time alone. */
  once: BrowserClient<Flags>["on"];
  /** Waits for the first values of the server: false when the time (5,000 ms by default) is up first, the key is refused or the client closed. Never rejects. */
  ready(options?: { timeoutMs?: number | null } | null): Promise<boolean>;
  status(): BrowserStatus;
  /** Sends the buffered events. Never rejects. */
  flush(): Promise<void>;
  /** Ends every connection and sends the buffered events, once. The last values are still served. */
  close(): Promise<void>;
  /** `await using client = createClient(…)` closes it at the end of the block. */
  [Symbol.asyncDispose](): Promise<void>;
};
