import type { GoodbyeMessage, HeartbeatMessage, HelloMessage, ResyncMessage } from "@bunting/core/wire";

/** What staying in step with an environment is made of: state, events, effects and their times (milliseconds). */

export type StreamName = "websocket" | "sse";
export type TimerName = "fetch" | "connect" | "silence" | "ping" | "ack" | "stale";

/** Everything, and a change to it: of a ruleset with a server key, of the values for one context with a client key. */
export type Put = { type: "put"; revision: number };
export type Patch = { type: "patch"; revision: number; previous: number; ackWithinMs?: number };

/** What a transport can deliver. `alive` proves that the server is alive and carries nothing else. */
export type Incoming<P extends Put = Put, D extends Patch = Patch> =
  | HelloMessage
  | ResyncMessage
  | HeartbeatMessage
  | GoodbyeMessage
  | P
  | D
  | { type: "unchanged" | "alive" | "invalid" };

/** Why a request or a stream ended. `refused`: the key was not accepted. `invalid`: the server is there and takes no such request. `clean`: nothing is wrong. */
export type End = { reason: string; refused?: boolean; invalid?: boolean; clean?: boolean; retryAfterMs?: number };

type Circuit = { failures: number; openUntil: number };

export type SyncState<D extends Patch = Patch> = {
  readonly closed: boolean;
  /** What is held; null before the first. */
  readonly revision: number | null;
  /** Since when. */
  readonly appliedAt: number;
  /** The highest revision that a message has named. */
  readonly wanted: number;
  readonly fetching: boolean;
  readonly fetchFailures: number;
  /** The last answer was 401 or 403. */
  readonly refused: boolean;
  readonly stream: { readonly name: StreamName; readonly helloAt: number | null; readonly leaving: boolean } | null;
  /** In order of preference; polling always remains. */
  readonly order: readonly StreamName[];
  readonly circuits: Readonly<Record<StreamName, Circuit>>;
  /** The server's window for the next reconnect, from the last hello. */
  readonly windowMs: number;
  /** Patches that arrived ahead of what they build on. */
  readonly early: readonly D[];
  readonly verifiedAt: number | null;
  readonly stale: boolean;
  /** When each timer is due. */
  readonly due: Readonly<Partial<Record<TimerName, number>>>;
};

export type SyncEvent<P extends Put = Put, D extends Patch = Patch> =
  | [type: "start"]
  | [type: "timer", name: TimerName]
  | [type: "fetched", message: Incoming<P, D>]
  | [type: "failed", end: End]
  | [type: "message", message: Incoming<P, D>]
  | [type: "closed", end: End]
  /** A patch could not be taken, and this revision is still held. */
  | [type: "rejected", revision: number | null]
  /** The network went, or the page is being put away. */
  | [type: "sleep"]
  /** The network is back, or the page is. */
  | [type: "wake"]
  /** Nothing has run for a while, of which the monotonic clock has missed so many milliseconds. */
  | [type: "slept", missedMs: number]
  /** The current values belong to another context than the one requested from now on. */
  | [type: "forget"]
  | [type: "close"];

export type News =
  | { type: "connected"; transport: StreamName }
  | { type: "disconnected"; transport: StreamName; reason: string }
  | { type: "stale"; forMs: number }
  | { type: "error"; code: "REFUSED" | "UNREACHABLE" | "INVALID_RESPONSE"; message: string };

/** Timers are no effects: whoever carries these out looks at `due`. */
export type Effect<P extends Put = Put, D extends Patch = Patch> =
  | [type: "fetch", atLeast: number | null]
  | [type: "abort"]
  | [type: "open", name: StreamName, since: number]
  | [type: "disconnect"]
  | [type: "install", whole: P]
  | [type: "apply", change: D]
  | [type: "acknowledge", revision: number, waitedMs: number]
  | [type: "ping"]
  | [type: "report", news: News];

const POLL_MS = 30_000;
export const PING_MS = 25_000;
/** A server writes or answers every 25 s: two misses and a little. */
export const SILENCE_MS = 60_000;
/** For the handshake and the hello together. */
export const CONNECT_MS = 15_000;
export const STALE_MS = 60_000;
export const CIRCUIT_FAILURES = 5;
/** A stream that dies sooner was no success: otherwise a flapping server would be hammered within its own window. */
export const STABLE_MS = 5_000;
/** Messages on one stream can overtake each other by a hop, so a gap may close by itself. */
export const GAP_MS = 250;
/** Replays follow a hello at once; only when they do not is a fetch worth its bytes. */
export const CATCH_UP_MS = 2_000;
export const EARLY_PATCHES = 100;

/** ±20 %, so that pollers started together drift apart. */
export const pollMs = (random: () => number): number => Math.round(POLL_MS * (0.8 + 0.4 * random()));

const CLOSED: Circuit = { failures: 0, openUntil: 0 };

export const initialState = (order: readonly StreamName[], revision: number | null = null): SyncState => ({
  closed: false,
  revision,
  appliedAt: 0,
  wanted: 0,
  fetching: false,
  fetchFailures: 0,
  refused: false,
  stream: null,
  order,
  circuits: { websocket: CLOSED, sse: CLOSED },
  windowMs: 0,
  early: [],
  verifiedAt: null,
  stale: false,
  due: {},
});
