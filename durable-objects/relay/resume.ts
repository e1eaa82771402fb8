/** How a client that comes back goes on: from the revision that it has, or by fetching the ruleset. */
import { resync } from "../fan-out/delivery.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import type { RelayStorage } from "./storage.ts";

/** The messages after `since`; a resync where the relay has no unbroken run of deliveries from there. */
export function messagesSince(storage: RelayStorage, since: number, connected: number): string[] {
  const run = storage.runAfter(since);
  if (run !== null) return run.map(({ message }) => message);
  return [JSON.stringify(resync(storage.revision ?? 0, spreadMs(connected)))];
}
