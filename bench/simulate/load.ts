/** Who is asked how much: by second, and one after another. */

/** Requests by second. */
export class Peak {
  readonly seconds: number[] = [];

  add(ms: number, count = 1): void {
    const second = Math.floor(ms / 1_000);
    while (this.seconds.length <= second) this.seconds.push(0);
    this.seconds[second] = (this.seconds[second] as number) + count;
  }

  get max(): number {
    return this.seconds.reduce((most, count) => Math.max(most, count), 0);
  }
}

/** Objects that do one thing at a time, each taking `eachMs`. */
export class Load {
  readonly #eachMs: number;
  readonly #freeAt: Float64Array;
  readonly #inSecond: Int32Array;
  readonly #second: Int32Array;
  /** The most that any of them was asked in one second. */
  peak = 0;

  constructor(objects: number, eachMs: number) {
    this.#eachMs = eachMs;
    this.#freeAt = new Float64Array(objects);
    this.#inSecond = new Int32Array(objects);
    this.#second = new Int32Array(objects);
  }

  /** How long something that arrives now would wait. */
  waitMs(n: number, at: number): number {
    return Math.max(0, (this.#freeAt[n] as number) - at);
  }

  /** When it is done. */
  serve(n: number, at: number): number {
    const second = Math.floor(at / 1_000);
    this.#inSecond[n] = this.#second[n] === second ? (this.#inSecond[n] as number) + 1 : 1;
    this.#second[n] = second;
    this.peak = Math.max(this.peak, this.#inSecond[n] as number);
    const done = at + this.waitMs(n, at) + this.#eachMs;
    this.#freeAt[n] = done;
    return done;
  }
}
