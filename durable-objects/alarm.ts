/** The one alarm of an object that has many things to do later: it goes off at the earliest time that anybody wants. */

/** One that is overdue for so long was given up by the runtime, which tries again a few times only. Ms. */
const GIVEN_UP_MS = 5 * 60_000;

export class Alarm {
  readonly #storage: DurableObjectStorage;
  /** As storage has it, so that no wish has to wait for storage. Epoch ms; null: none. */
  #at: number | null = null;

  /** To be made where the object is: nothing comes in before the alarm is known. */
  constructor(ctx: DurableObjectState) {
    this.#storage = ctx.storage;
    ctx.blockConcurrencyWhile(async () => {
      this.#at = await ctx.storage.getAlarm();
    });
  }

  /** One step with what was written just before, if nothing was awaited since: a crash leaves both or neither. */
  wake(inMs: number): void {
    const now = Date.now();
    const at = now + inMs;
    if (this.#at !== null && this.#at <= at && this.#at > now - GIVEN_UP_MS) return;
    this.#at = at;
    void this.#storage.setAlarm(at);
  }

  /** To be called first thing by the handler, and where storage was emptied: what is not wanted again is done. */
  wentOff(): void {
    this.#at = null;
  }
}
