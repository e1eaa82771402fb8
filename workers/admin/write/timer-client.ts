/** Being woken when something is due. Best effort: cron looks at everything once a minute, whoever was woken before. */

import type { Env } from "../../env.ts";
import { TIMER_MS, within } from "../../platform/deadline.ts";

export async function wakeAt({ TIMER }: Env, at: number | null): Promise<void> {
  if (at === null) return;
  const waking = TIMER.get(TIMER.idFromName("timer")).wakeAt(at);
  await within(waking, TIMER_MS, "the timer").catch((error: unknown) => {
    console.warn(JSON.stringify({ level: "warn", message: "the timer is not set", at, error: String(error) }));
  });
}
