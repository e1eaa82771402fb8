/** Chance that is the same on every run: sfc32, seeded. */
export class Random {
  #a: number;
  #b = 0x9e3779b9;
  #c = 0x85ebca6b;
  #counter = 1;

  constructor(seed: number) {
    this.#a = seed | 0;
    for (let index = 0; index < 12; index++) this.next();
  }

  /** In [0, 1). */
  next = (): number => {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };

  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** Median 1. Box–Muller. */
  lognormal(sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    return Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.next()));
  }

  /** How many of `count` happen, each with `chance`: exact, by skipping from one that does to the next. */
  binomial(count: number, chance: number): number {
    if (chance >= 1) return count;
    if (chance <= 0) return 0;
    if (chance > 0.5) return count - this.binomial(count, 1 - chance);
    const scale = 1 / Math.log1p(-chance);
    let happened = 0;
    for (let at = -1; ; happened++) {
      at += 1 + Math.floor(Math.log(1 - this.next()) * scale);
      if (at >= count) return happened;
    }
  }
}
