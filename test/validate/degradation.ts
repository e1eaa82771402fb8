/** Dependency degradation: D1, KV and the Queue slow, then failing half of the time, while everything goes on. */
import type { Faults } from "../support/faults.ts";
import type { Mix } from "./schedule.ts";
import type { Kind } from "./senders.ts";
import { type Size, Stage, type Verdict } from "./stage.ts";

export type Degradation = { size: Size; perSecond: number; seconds: number; delayMs: number };

const MIX: Mix<Kind> = { "ruleset poll": 20, "flag poll": 10, "management read": 10, write: 8, kill: 2 };

export const degradation: Degradation = {
  size: {
    processes: 2,
    clients: 24,
    evaluationsPerSecond: 20_000,
    written: 18,
    rulesetPollers: 24,
    flagPollers: 12,
    readers: 24,
  },
  perSecond: 50,
  seconds: 12,
  delayMs: 2_000,
};

/** No poll of a warm isolate needs any of these, and no kill needs D1 or the Queue (docs/architecture.md). */
const POLLS: Kind[] = ["ruleset poll", "flag poll"];
const parts: { name: string; binding: keyof Faults; mustAnswer: Kind[] }[] = [
  { name: "D1", binding: "DB", mustAnswer: [...POLLS, "kill"] },
  { name: "KV", binding: "KV", mustAnswer: POLLS },
  { name: "Queue", binding: "EVENTS_QUEUE", mustAnswer: [...POLLS, "kill"] },
];

export async function runDegradation(
  folder: string,
  { size, perSecond, seconds, delayMs }: Degradation,
): Promise<Verdict> {
  const stage = await Stage.set(folder, size);
  const load = { mix: MIX, perSecond, seconds };
  try {
    await stage.phase("all well", { ...load, mustAnswer: POLLS });
    for (const { name, binding, mustAnswer } of parts) {
      await stage.server.setFaults({ [binding]: { mode: "delay", ms: delayMs } });
      await stage.phase(`${name} +${delayMs / 1_000} s`, { ...load, mustAnswer });
      await stage.server.setFaults({ [binding]: { mode: "flaky", rate: 0.5 } });
      await stage.phase(`${name} 50 % errors`, { ...load, mustAnswer });
      await stage.server.setFaults({});
    }
    return await stage.judge("dependency degradation", { events: true });
  } finally {
    await stage.close();
  }
}
