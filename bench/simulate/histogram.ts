/** Durations in bins of equal width: ten million clients take no more room than ten. */
export class Histogram {
  readonly binMs: number;
  #counts: Float64Array = new Float64Array(1_024);
  total = 0;
  max = 0;

  constructor(binMs: number) {
    this.binMs = binMs;
  }

  add(ms: number, count = 1): void {
    this.#put(Math.floor(ms / this.binMs), count);
    if (ms > this.max) this.max = ms;
  }

  /** Clients that are written one after another over `lastsMs`, each of whose messages is under way for `low` to `high`. */
  addSpread(count: number, fromMs: number, lastsMs: number, low: number, high: number): void {
    if (count === 0) return;
    const start = fromMs + low;
    const end = fromMs + lastsMs + high;
    let below = 0;
    for (let bin = Math.floor(start / this.binMs); below < 1; bin++) {
      const through = (bin + 1) * this.binMs >= end ? 1 : sumBelow((bin + 1) * this.binMs - start, lastsMs, high - low);
      this.#put(bin, (through - below) * count);
      below = through;
    }
    this.max = Math.max(this.max, end);
  }

  /** The upper edge of the bin that holds it; never above the longest. */
  quantile(q: number): number {
    let seen = 0;
    const bin = this.#counts.findIndex((count) => {
      seen += count;
      return seen >= q * this.total * (1 - 1e-12);
    });
    return Math.min(this.max, (bin + 1) * this.binMs);
  }

  /** Shares that are done by the end of each bin, up to the longest. */
  shares(): [ms: number, share: number][] {
    let seen = 0;
    return Array.from(this.#counts.subarray(0, Math.floor(this.max / this.binMs) + 1), (count, bin) => {
      seen += count;
      return [(bin + 1) * this.binMs, seen / this.total];
    });
  }

  #put(bin: number, count: number): void {
    if (bin >= this.#counts.length) {
      const longer = new Float64Array(2 * bin);
      longer.set(this.#counts);
      this.#counts = longer;
    }
    this.#counts[bin] = (this.#counts[bin] as number) + count;
    this.total += count;
  }
}

/** How likely the sum of two numbers, each anywhere from 0 to its width, is to be below `x`. */
export function sumBelow(x: number, one: number, other: number): number {
  const [narrow, wide] = one < other ? [one, other] : [other, one];
  if (x <= 0) return 0;
  if (x >= narrow + wide) return 1;
  if (narrow === 0) return x / wide;
  if (x < narrow) return (x * x) / (2 * narrow * wide);
  if (x <= wide) return (x - narrow / 2) / wide;
  return 1 - (narrow + wide - x) ** 2 / (2 * narrow * wide);
}
