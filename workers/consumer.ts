import type { TelemetryEvent } from "@bunting/core/wire";
export type QueuedEvents = {
  environment: string;
  source: "server" | "client";
  sdk: { name: string; version: string };
  batchId: string;
  firstIndex: number;
  receivedAt: number;
  events: (TelemetryEvent | null)[];
};
export async function consume(_batch: MessageBatch<QueuedEvents>, _env: unknown): Promise<void> {
  throw new Error("in progress");
}
