import { type EventBatch, MAX_EVENTS, type SummaryEvent, type TelemetryEvent } from "@bunting/core/wire";

/** What fits into one request to the event intake, decided purely. */

/** The intake refuses a whole batch for one event beyond these; in characters, and UTF-8 bytes of JSON. */
export const MAX_NAME = 256;
export const MAX_UNIT = 1_024;
const MAX_ONE_EVENT_BYTES = 65_536;
/** A thousand counts would be too large an event: with the longest names a hundred are not. */
const COUNTS_PER_SUMMARY = 100;

type Counts = SummaryEvent["counts"];

/** Summary events of one window, each small enough for the intake. */
export function summaries(from: number, to: number, counts: Counts): SummaryEvent[] {
  const events: SummaryEvent[] = [];
  for (let at = 0; at < counts.length; at += COUNTS_PER_SUMMARY) {
    events.push({ kind: "summary", from, to, counts: counts.slice(at, at + COUNTS_PER_SUMMARY) });
  }
  return events;
}

/** A batch that would be refused for ever must not block those behind it. A refused key (401, 403) may be replaced. */
export const isFinal = (status: number): boolean => [400, 413, 415, 422].includes(status);

/** As many of the first events as one request may carry; events larger than that alone are taken and left out. */
export function encodeBatch(
  batchId: EventBatch["batchId"],
  events: readonly TelemetryEvent[],
  maxBytes: number,
): { body: string; taken: number; tooLarge: number } {
  const head = `{"batchId":"${batchId}","events":[`;
  const room = maxBytes - head.length - 2;
  const parts: string[] = [];
  let bytes = 0;
  let tooLarge = 0;
  for (const event of events) {
    if (parts.length === MAX_EVENTS) break;
    const part = encodeEvent(event);
    // With its comma.
    const size = new TextEncoder().encode(part).length + 1;
    if (part === "" || size > Math.min(room, MAX_ONE_EVENT_BYTES)) tooLarge += 1;
    else if (bytes + size > room) break;
    else {
      parts.push(part);
      bytes += size;
    }
  }
  return { body: `${head}${parts}]}`, taken: parts.length + tooLarge, tooLarge };
}

/** Attributes are the caller's: they may hold a cycle or a BigInt. */
function encodeEvent(event: TelemetryEvent): string {
  try {
    return JSON.stringify(event);
  } catch {
    return "";
  }
}
