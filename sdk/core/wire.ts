/** What travels on streams (docs/protocol.md, "Data plane"). Unknown messages and fields are ignored (EV-36). */
import type { ErrorCode, Reason } from "./decision.ts";
import type { Exposure } from "./evaluate/exposures.ts";
import type { Flag, Json, Segment } from "./ruleset.ts";

/** A change on top of `previous`, or of any revision from there to before `revision`; a document that is null has been deleted. */
export type Delta = {
  revision: number;
  previous: number;
  flags: Record<string, Flag | null>;
  segments: Record<string, Segment | null>;
  /** Of big segments, after `segments`: one member that comes or goes costs one member. */
  members?: Record<string, MemberChange>;
};

/** Members added and removed, whatever their state was before: applying a change twice has no effect. */
export type MemberChange = { added: string[]; removed: string[] };

/** First on every stream: the window for the client's next reconnect, known before it is needed. */
export type HelloMessage = { type: "hello"; revision: number; reconnectWithinMs: number };

/** `publishedAt` is epoch milliseconds; an SDK acknowledges at a random moment within `ackWithinMs`. */
export type PatchMessage = { type: "patch"; publishedAt: number; ackWithinMs: number } & Delta;

/** Fetch the ruleset, at least at this revision, at a random moment within the window. */
export type ResyncMessage = { type: "resync"; revision: number; withinMs: number };

/** SSE only, written by the bridge. */
export type HeartbeatMessage = { type: "heartbeat"; revision: number };

export type GoodbyeMessage = { type: "goodbye"; withinMs: number; reason: string };

export type ServerMessage = HelloMessage | PatchMessage | ResyncMessage | HeartbeatMessage | GoodbyeMessage;

/**
 * What a client key receives of a flag: never the details of the reason. `variation` is null where the code's default is meant;
 * `version` is the flag's.
 */
export type EvaluatedFlag = {
  value: Json;
  variation: string | null;
  reason: Reason;
  version: number;
  /** ERROR only. */
  errorCode?: ErrorCode;
  /** What to report once a user is shown this value; absent where nothing is reported. */
  exposure?: Exposure;
};

/** Client keys: the values of all flags. Whatever the client held before is void. */
export type PutMessage = { type: "put"; revision: number; flags: Record<string, EvaluatedFlag> };

/** Client keys: the values that may differ from those sent with `previous`, the last revision sent; null is gone. */
export type ValuesMessage = {
  type: "patch";
  revision: number;
  previous: number;
  flags: Record<string, EvaluatedFlag | null>;
};

/** To the server, over a client key's WebSocket: first, and again whenever it changes. */
export type ContextMessage = { context: Record<string, unknown> };

/** WebSocket only: cumulative. `waitedMs` is how long ago it was applied, where the acknowledgement was held back. */
export type AppliedMessage = { applied: number; waitedMs?: number };

/** The runtime answers `pong` to this text without waking the relay. */
export const PING = "ping";
export const PONG = "pong";

/** Larger patches travel as `resync`. UTF-8 bytes. */
export const MAX_MESSAGE_BYTES = 65_536;

export const HEARTBEAT_SECONDS = 25;
/** A relay drops sockets from which it has received nothing for this long. */
export const SILENCE_SECONDS = 75;

/** Events: docs/protocol.md, "Events". Times are epoch milliseconds. */
export type ExposureEvent = {
  kind: "exposure";
  at: number;
  flag: string;
  flagVersion: number;
  variation: string | null;
  reason: string;
  experiment: string | null;
  unit: string;
  sampleRate: number;
  attributes?: Record<string, unknown>;
};
export type MetricEvent = { kind: "metric"; at: number; metric: string; unit: string; value: number };
export type SummaryEvent = {
  kind: "summary";
  from: number;
  to: number;
  counts: { flag: string; variation: string | null; reason: string; flagVersion: number; count: number }[];
};
export type TelemetryEvent = ExposureEvent | MetricEvent | SummaryEvent;
export type EventBatch = { batchId: string; events: TelemetryEvent[] };

/** A batch larger than either is refused. */
export const MAX_EVENTS = 1_000;
export const MAX_EVENT_BYTES = 1_048_576;
