/** What travels through the events queue, from intake to the consumer. */
import type { TelemetryEvent } from "@bunting/core/wire";

/** A message: a run of one batch's events, at most 100 KB. */
export type QueuedEvents = {
  environment: string;
  /** Which kind of key sent it. What comes with a client key, anybody can have sent. */
  source: "server" | "client";
  sdk: { name: string; version: string };
  batchId: string;
  /** The index of `events[0]` in its batch. An event whose kind intake did not know is null, so that indexes stay right. */
  firstIndex: number;
  /** Epoch milliseconds. */
  receivedAt: number;
  events: (TelemetryEvent | null)[];
};
