/** An object has one alarm for all its background work: it is set to the earliest requested time. */

/** The runtime retries a failing alarm only a few times: one that is overdue by this much (ms) never goes off. */
const GIVEN_UP_MS = 5 * 60_000;

export class Alarm {
  readonly #storage: DurableObjectStorage;
  /** The stored alarm, cached so that `wake` is synchronous. Epoch ms; null: none. */
  #at: number | null = null;

  /** To be called in the object's constructor: requests wait until the alarm is read. */
  constructor(ctx: DurableObjectState) {
    this.#storage = ctx.storage;
    ctx.blockConcurrencyWhile(async () => {
      this.#at = await ctx.storage.getAlarm();
    });
  }

  /** Written atomically with the writes before it, if nothing is awaited between: a crash leaves both or neither. */
  wake(inMs: number): void {
    const now = Date.now();
    const at = now + inMs;
    if (this.#at !== null && this.#at <= at && this.#at > now - GIVEN_UP_MS) return;
    this.#at = at;
    void this.#storage.setAlarm(at);
  }

  /** To be called at the start of the alarm handler, and after storage was deleted. */
  wentOff(): void {
    this.#at = null;
  }
}
