/** Wakes the Worker when the next thing is due. There is one; it knows a time and nothing else: what is due stands in D1. */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../workers/env.ts";

/** The Worker's own entrypoint, which reaches what may not be imported from here. Answers when to wake it next. */
type Due = { run(): Promise<number | null> };

export class Timer extends DurableObject<Env> {
  /** The earliest time wins; a moment too early does no harm. */
  async wakeAt(at: number): Promise<void> {
    const known = await this.ctx.storage.getAlarm();
    if (known === null || at < known) await this.ctx.storage.setAlarm(at);
  }

  /** Once more where it throws, at growing intervals, six times (the platform's); then cron's turn has come anyway. */
  override async alarm(): Promise<void> {
    const { Due } = this.ctx.exports as unknown as { Due: Due };
    const next = await Due.run();
    if (next !== null) await this.wakeAt(next);
  }
}
