/** The Worker isolates of a region: each knows how many relays there are from the relay that it asked last. */
import type { Load, Peak } from "./load.ts";
import type { Costs } from "./parameters.ts";
import type { Random } from "./random.ts";
import type { Reports } from "./reports.ts";

export class Isolates {
  readonly #random: Random;
  readonly #costs: Costs;
  readonly #reports: Reports;
  readonly #load: Load;
  readonly #kv: Peak;
  readonly #relays: Int32Array;
  /** When each asks again; below zero: it has not begun. */
  readonly #askAt: Float64Array;

  /** All begin cold, with the count that KV has: the one from before. */
  constructor(count: number, relays: number, random: Random, costs: Costs, reports: Reports, load: Load, kv: Peak) {
    this.#random = random;
    this.#costs = costs;
    this.#reports = reports;
    this.#load = load;
    this.#kv = kv;
    this.#relays = new Int32Array(count).fill(relays);
    this.#askAt = new Float64Array(count).fill(-1);
  }

  /** How many relays the isolate knows of that a request at this moment comes to. */
  relaysFor(at: number): number {
    const isolate = Math.floor(this.#random.next() * this.#relays.length);
    const askAt = this.#askAt[isolate] as number;
    if (askAt < 0) this.#kv.add(at, this.#costs.kvReads);
    if (askAt <= at) {
      const n = Math.floor(this.#random.next() * (this.#relays[isolate] as number));
      this.#load.serve(n, at);
      this.#relays[isolate] = this.#reports.relaysAsOf(n);
      this.#askAt[isolate] = at + this.#costs.freshMs;
    }
    return this.#relays[isolate] as number;
  }
}
