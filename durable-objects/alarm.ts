/** The one alarm of an object that has many things to do later: it goes off at the earliest time that anybody wants. */
export class Alarm {
  readonly #ctx: DurableObjectState;
  /** Storage answers later than the next wish may come: two that read the same old time must both know the earlier. */
  #wanted = Number.POSITIVE_INFINITY;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  wake(inMs: number): void {
    const at = Date.now() + inMs;
    this.#wanted = Math.min(this.#wanted, at);
    this.#ctx.waitUntil(
      this.#ctx.storage.getAlarm().then((set) => {
        const earliest = Math.min(this.#wanted, at);
        if (set === null || set > earliest) return this.#ctx.storage.setAlarm(earliest);
      }),
    );
  }

  /** To be called first thing by the handler: what it does not want again is done. */
  wentOff(): void {
    this.#wanted = Number.POSITIVE_INFINITY;
  }
}
