/** The relays below a hub or a relay: kept in its SQLite, told of every delivery, asked for receipts. */

import type { Env } from "../../workers/env.ts";
import { RELAY_DELIVER_MS, within } from "../../workers/platform/deadline.ts";
import type { Delivery, Downstream, EnvironmentOccupancy, Report } from "./delivery.ts";
import { merge, nothing, type Part, silence } from "./receipt.ts";
import { type Region, type RelayCounts, relayName, rootsOf } from "./tree.ts";

type Child = Omit<Report, "keys">;
/** `failures`: how often it was asked by alarm, one after the other, and did not answer. */
type Row = Child & { keys: string; failures: number };

/** Who does not answer is asked again after this long, then twice as long, and so on: its parent may sleep between. */
const RETRY_MS = 2_000;
/** As often as a relay that lives asks by itself. */
const MAX_RETRY_MS = 60_000;

/** SDK keys in a report, those with the most clients: an environment has a handful. */
const MAX_KEYS = 50;

export class Children {
  readonly #ctx: DurableObjectState;
  readonly #relays: Env["RELAY"];
  readonly #retry: (inMs: number) => void;
  #prepared = false;
  /** Everybody who asks for the same receipt at the same time gets the same answer. */
  readonly #asked = new Map<number, Promise<Part>>();

  /** `retry` is called where a child could not be told: `refresh` is then to be called by alarm, in `inMs`. */
  constructor(ctx: DurableObjectState, relays: Env["RELAY"], retry: (inMs: number) => void) {
    this.#ctx = ctx;
    this.#relays = relays;
    this.#retry = retry;
  }

  /** Registers a child, or hears how it is; who has only just come is told `latest`. */
  put({ name, region, revision, connected, keys }: Report, latest = 0): void {
    this.#prepare();
    this.#ctx.storage.sql.exec(
      "INSERT OR REPLACE INTO children VALUES (?, ?, ?, ?, ?, 0)",
      name,
      region,
      revision === 0 ? latest : revision,
      connected,
      JSON.stringify(keys),
    );
  }

  remove(name: string): void {
    this.#prepare();
    this.#ctx.storage.sql.exec("DELETE FROM children WHERE name = ?", name);
  }

  /** The table is gone with the rest of a node that was emptied. */
  forget(): void {
    this.#prepared = false;
  }

  /** What all of them have reported: clients, also by region and by key. */
  sum(): { connected: number; regions: Map<Region, number>; keys: Record<string, number> } {
    const regions = new Map<Region, number>();
    const keys = new Map<string, number>();
    let sum = 0;
    for (const { region, connected, keys: own } of this.#all()) {
      sum += connected;
      regions.set(region, (regions.get(region) ?? 0) + connected);
      addKeys(keys, Object.entries(JSON.parse(own) as Record<string, number>));
    }
    return { connected: sum, regions, keys: mostUsed(keys) };
  }

  get isEmpty(): boolean {
    return this.#all().length === 0;
  }

  /** To all but those already `told`, in the background: whoever does not take it is asked again by alarm. */
  deliver(delivery: Delivery, occupancy: EnvironmentOccupancy, told = new Set<string>()): Set<string> {
    for (const child of this.#all()) {
      if (told.has(child.name)) continue;
      told.add(child.name);
      this.#ctx.waitUntil(this.#hear(child, (relay) => relay.deliver(delivery, occupancy), child.failures));
    }
    return told;
  }

  /** Those that have not come as far as `revision`. */
  async refresh(revision: number): Promise<void> {
    const behind = this.#all().filter((child) => child.revision < revision);
    await Promise.all(behind.map((child) => this.#hear(child, (relay) => relay.refresh(), child.failures + 1)));
  }

  /** Relays that may be below a hub and that it does not know of: those that are attached to it attach again. */
  call(environmentId: string, counts: RelayCounts, fanOut: number): void {
    for (const [region, count] of Object.entries(counts) as [Region, number][]) {
      for (let n = 0; n < Math.min(count, rootsOf(fanOut)); n++) {
        const relay = this.#relay({ name: relayName({ environmentId, region, n }), region });
        this.#ctx.waitUntil(relay.refresh().catch(() => null));
      }
    }
  }

  receipt(revision: number, withinMs: number): Promise<Part> {
    const asked = this.#asked.get(revision);
    if (asked !== undefined) return asked;
    const answer = this.#receipt(revision, withinMs).finally(() => this.#asked.delete(revision));
    this.#asked.set(revision, answer);
    return answer;
  }

  async #receipt(revision: number, withinMs: number): Promise<Part> {
    const parts = this.#all().map(async (child) => {
      try {
        return await within(this.#relay(child).receipt(revision, withinMs), withinMs, "relay");
      } catch {
        return silence(child.region, child.connected);
      }
    });
    return (await Promise.all(parts)).reduce(merge, nothing());
  }

  /** `failures` is what stands of the child if it does not answer this time either. */
  async #hear(child: Child, tell: (relay: Downstream) => Promise<Report | null>, failures: number): Promise<void> {
    try {
      const report = await within(tell(this.#relay(child)), RELAY_DELIVER_MS, "relay");
      if (report !== null) this.put(report);
    } catch {
      // Nothing is kept any more where this node has left meanwhile.
      if (!this.#prepared) return;
      this.#ctx.storage.sql.exec("UPDATE children SET failures = ? WHERE name = ?", failures, child.name);
      this.#retry(Math.min(RETRY_MS * 2 ** failures, MAX_RETRY_MS));
    }
  }

  #all(): Row[] {
    this.#prepare();
    return this.#ctx.storage.sql.exec<Row>("SELECT * FROM children ORDER BY name").toArray();
  }

  #prepare(): void {
    if (this.#prepared) return;
    this.#ctx.storage.sql.exec(
      `CREATE TABLE IF NOT EXISTS children
       (name TEXT PRIMARY KEY, region TEXT NOT NULL, revision INTEGER NOT NULL, connected INTEGER NOT NULL, keys TEXT NOT NULL,
        failures INTEGER NOT NULL)
       WITHOUT ROWID`,
    );
    this.#prepared = true;
  }

  #relay({ name, region }: Pick<Child, "name" | "region">): Downstream {
    return this.#relays.get(this.#relays.idFromName(name), { locationHint: region });
  }
}

export function addKeys(sums: Map<string, number>, keys: Iterable<[string, number]>): void {
  for (const [hash, count] of keys) sums.set(hash, (sums.get(hash) ?? 0) + count);
}

export function mostUsed(keys: Map<string, number>): Record<string, number> {
  const ranked = [...keys].sort(([, one], [, other]) => other - one);
  return Object.fromEntries(ranked.slice(0, MAX_KEYS));
}
