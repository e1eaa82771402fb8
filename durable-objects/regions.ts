/** How many relays each region shall have, as the hub decides, and whether KV has been told, where cold Workers look. */
import { type Region, type RelayCounts, relayCounts } from "./tree.ts";

type Stored = { counts: RelayCounts; told: boolean };

export class Regions {
  readonly #kv: SyncKvStorage;

  constructor(kv: SyncKvStorage) {
    this.#kv = kv;
  }

  get counts(): RelayCounts {
    return this.#stored.counts;
  }

  /** From the clients that each region's relays report. */
  decide(connected: Map<Region, number>, cap: number): RelayCounts {
    const counts = relayCounts(this.counts, connected, cap);
    if (!isSame(counts, this.counts)) this.#kv.put<Stored>("relays", { counts, told: false });
    return counts;
  }

  get isUntold(): boolean {
    return !this.#stored.told;
  }

  markTold(counts: RelayCounts): void {
    if (isSame(counts, this.counts)) this.#kv.put<Stored>("relays", { counts, told: true });
  }

  get #stored(): Stored {
    return this.#kv.get<Stored>("relays") ?? { counts: {}, told: true };
  }
}

/** Regions come in the order of their relays' names. */
const isSame = (one: RelayCounts, other: RelayCounts) => JSON.stringify(one) === JSON.stringify(other);
