/** Wakes the Worker when something planned is due. There is one Timer; it stores only a time, and D1 what is due. */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../workers/env.ts";

/** The Worker's entrypoint, called because it must not be imported here. Returns when to wake it next (epoch ms). */
type Due = { run(): Promise<number | null> };

export class Timer extends DurableObject<Env> {
  /** The earliest time wins: an alarm that is too early finds nothing due. */
  async wakeAt(at: number): Promise<void> {
    const known = await this.ctx.storage.getAlarm();
    if (known === null || at < known) await this.ctx.storage.setAlarm(at);
  }

  /** If it throws, the platform retries it six times with back-off; after that the minutely cron has done the work. */
  override async alarm(): Promise<void> {
    const { Due } = this.ctx.exports as unknown as { Due: Due };
    const next = await Due.run();
    if (next !== null) await this.wakeAt(next);
  }
}
