/** What a delivery of events says in Analytics Engine: for monitoring, never for statistics, because it samples. */
import type { TelemetryEvent } from "@bunting/core/wire";
import type { QueuedEvents } from "./message.ts";

/** Analytics Engine takes 250 points in one invocation of a Worker. */
export const MAX_POINTS = 250;

/**
 * One point for each flag, variation, reason, SDK and source of an environment. `docs/storage.md` has the columns:
 * index1 environment · blob1 `evaluation` or `exposure` · blob2 flag · blob3 variation, empty for none · blob4 reason ·
 * blob5 SDK · blob6 its version · blob7 experiment, empty for none · blob8 source · double1 how many came in ·
 * double2 how many they stand for, where exposures are sampled · double3 the newest version of the flag among them.
 * Intake bounds every text, so that a point stays far below its 16 KB of blobs.
 */
export function decisionPoints(messages: QueuedEvents[]): { points: AnalyticsEngineDataPoint[]; dropped: number } {
  const totals = new Map<string, Total>();
  for (const { environment, sdk, source, events } of messages) {
    for (const { kind, decision, experiment, count, weight } of events.flatMap(decisions)) {
      const blobs = [kind, decision.flag, decision.variation ?? "", decision.reason];
      blobs.push(sdk.name, sdk.version, experiment ?? "", source);
      const key = JSON.stringify([environment, ...blobs]);
      const total = totals.get(key) ?? { environment, blobs, count: 0, weight: 0, flagVersion: 0 };
      total.count += count;
      total.weight += weight;
      total.flagVersion = Math.max(total.flagVersion, decision.flagVersion);
      totals.set(key, total);
    }
  }
  // Beyond the limit the smallest are left out: what they count is in R2.
  const largest = Array.from(totals.values()).sort((a, b) => b.weight - a.weight);
  const points = largest.slice(0, MAX_POINTS).map(({ environment, blobs, count, weight, flagVersion }) => ({
    indexes: [environment],
    blobs,
    doubles: [count, weight, flagVersion],
  }));
  return { points, dropped: largest.length - points.length };
}

type Total = { environment: string; blobs: string[]; count: number; weight: number; flagVersion: number };

type Decision = { flag: string; variation: string | null; reason: string; flagVersion: number };

type Counted = {
  kind: "evaluation" | "exposure";
  decision: Decision;
  experiment: string | null;
  count: number;
  weight: number;
};

function decisions(event: TelemetryEvent | null): Counted[] {
  if (event?.kind === "exposure") {
    const { experiment, sampleRate } = event;
    return [{ kind: "exposure", decision: event, experiment, count: 1, weight: 1 / sampleRate }];
  }
  if (event?.kind !== "summary") return [];
  return event.counts.map((decision) => {
    const { count } = decision;
    return { kind: "evaluation", decision, experiment: null, count, weight: count };
  });
}
