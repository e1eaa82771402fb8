/**
 * How many relays each region has, as the hub decides, and whether KV, from which cold Workers read it, has the newest
 * counts.
 */
import { type Region, type RelayCounts, relayCounts } from "../fan-out/tree.ts";

/** Since when a region needs fewer relays than it has. Epoch ms. */
type Shrinking = Partial<Record<Region, number>>;

type Stored = { counts: RelayCounts; published: boolean; shrinking?: Shrinking };

/**
 * Clients that lose their connections all at once reconnect within seconds, and need as many relays as before: a region
 * keeps its relays until it has been that empty for this long.
 */
export const SHRINK_AFTER_MS = 10 * 60_000;

/** Decides from the reported clients: a region gets more relays at once, fewer only later. */
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

  /** Decides and stores. `connected` are the clients that each region's relays report; `now` is epoch ms. */
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

/** Both have their regions in the order of their relays' names. */
const isSame = (one: RelayCounts | Shrinking, other: RelayCounts | Shrinking) =>
  JSON.stringify(one) === JSON.stringify(other);
