/** How many relays each region has, as the hub decides, and whether KV, from which cold Workers read it, has the newest counts. */
import { type Region, type RelayCounts, relayCounts } from "../fan-out/tree.ts";

/** Since when a region could do with fewer relays. Epoch ms. */
type Shrinking = Partial<Record<Region, number>>;

type Stored = { counts: RelayCounts; published: boolean; shrinking?: Shrinking };

/**
 * A region whose clients drop all at once has them back within seconds. Had it few relays by then, there would be no room
 * for them: it keeps what it has until it has been that empty for so long.
 */
export const SHRINK_AFTER_MS = 10 * 60_000;

/** From the clients that each region's relays report. More at once, fewer later. */
export function decide(
  counts: RelayCounts,
  shrinking: Shrinking,
  connected: Map<Region, number>,
  cap: number,
  now: number,
): { counts: RelayCounts; shrinking: Shrinking } {
  const decided = { counts: relayCounts(counts, connected, cap), shrinking: {} as Shrinking };
  for (const region of connected.keys()) {
    const before = counts[region] ?? 1;
    if ((decided.counts[region] as number) >= before) continue;
    const since = shrinking[region] ?? now;
    if (now - since >= SHRINK_AFTER_MS) continue;
    decided.counts[region] = before;
    decided.shrinking[region] = since;
  }
  return decided;
}

export class Regions {
  readonly #kv: SyncKvStorage;

  constructor(kv: SyncKvStorage) {
    this.#kv = kv;
  }

  get counts(): RelayCounts {
    return this.#stored.counts;
  }

  /** From the clients that each region's relays report. `now`: epoch ms. */
  decide(connected: Map<Region, number>, cap: number, now: number): RelayCounts {
    const { counts, shrinking = {}, published } = this.#stored;
    const decided = decide(counts, shrinking, connected, cap, now);
    if (!isSame(decided.counts, counts)) this.#kv.put<Stored>("relays", { ...decided, published: false });
    else if (!isSame(decided.shrinking, shrinking)) this.#kv.put<Stored>("relays", { ...decided, published });
    return decided.counts;
  }

  get hasUnpublishedCounts(): boolean {
    return !this.#stored.published;
  }

  markPublished(counts: RelayCounts): void {
    if (isSame(counts, this.counts)) this.#kv.put<Stored>("relays", { ...this.#stored, published: true });
  }

  get #stored(): Stored {
    return this.#kv.get<Stored>("relays") ?? { counts: {}, published: true };
  }
}

/** Regions come in the order of their relays' names. */
const isSame = (one: RelayCounts | Shrinking, other: RelayCounts | Shrinking) =>
  JSON.stringify(one) === JSON.stringify(other);
