/** Peak load: polls, management and evaluations at once, stepped up to what is asked for or to what the machine can. */
import { isSustained, type Mix } from "./schedule.ts";
import type { Kind } from "./senders.ts";
import { type Size, Stage, type Verdict } from "./stage.ts";

export type PeakLoad = { size: Size; steps: number[]; stepSeconds: number; holdSeconds: number };

/** Of 200 requests: 60 % ETag polls of rulesets, 25 % evaluated flags, 12 % management reads, 2.5 % writes, 0.5 % kills. */
const MIX: Mix<Kind> = { "ruleset poll": 120, "flag poll": 50, "management read": 24, write: 5, kill: 1 };

export const peakLoad: PeakLoad = {
  size: {
    processes: 2,
    clients: 40,
    evaluationsPerSecond: 100_000,
    written: 24,
    rulesetPollers: 96,
    flagPollers: 48,
    readers: 24,
  },
  steps: [100, 200, 300, 400, 500, 650, 800, 1_000, 1_250, 1_500],
  stepSeconds: 4,
  holdSeconds: 20,
};

export async function runPeakLoad(
  folder: string,
  { size, steps, stepSeconds, holdSeconds }: PeakLoad,
): Promise<Verdict> {
  const stage = await Stage.set(folder, size);
  try {
    // The first requests compile what the others use.
    await stage.phase("warm-up", { mix: MIX, perSecond: steps[0]!, seconds: stepSeconds });
    let ceiling: number | null = null;
    for (const perSecond of steps) {
      const load = { mix: MIX, perSecond, seconds: stepSeconds };
      // Once more, since one busy moment of a shared machine is no ceiling.
      const first = await stage.phase(`step ${perSecond}/s`, load);
      const step = isSustained(first) ? first : await stage.phase(`step ${perSecond}/s again`, load);
      if (!isSustained(step)) {
        stage.remarks.push(`${perSecond} requests a second were not sustained: ${JSON.stringify(step)}`);
        break;
      }
      ceiling = perSecond;
    }
    // Only the measurement is printed; the steps have led there.
    stage.rows.length = 0;
    const held = ceiling ?? steps[0]!;
    await stage.phase(`${held}/s held`, { mix: MIX, perSecond: held, seconds: holdSeconds });
    stage.remarks.push(`highest step sustained: ${ceiling ?? "none"}, of ${steps.at(-1)} requests a second asked for`);
    return await stage.judge("peak load", { events: true });
  } finally {
    await stage.close();
  }
}
