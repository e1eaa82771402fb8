/** The child relays of a hub or a relay: registered in its SQLite, sent every delivery, and queried for receipts. */

import type { Env } from "../../workers/env.ts";
import { RELAY_DELIVER_MS, within } from "../../workers/platform/deadline.ts";
import type { Delivery, DownstreamNode, EnvironmentOccupancy, Report } from "./delivery.ts";
import { emptyPart, mergeParts, type ReceiptPart, silentPart } from "./receipt.ts";
import { type Region, type RelayCounts, relayName, rootsOf } from "./tree.ts";

type Child = Omit<Report, "keys">;
/** `failures`: how many retries in a row the child did not respond to. */
type Row = Child & { keys: string; failures: number };

/**
 * The first retry's delay; each further one doubles it. Retries run by alarm, so that the parent can hibernate between.
 */
const RETRY_MS = 2_000;
/** A relay that is alive attaches by itself this often. */
const MAX_RETRY_MS = 60_000;

/** A report holds this many SDK keys, those with the most clients: an environment has a handful. */
const MAX_KEYS = 50;

export class Children {
  readonly #ctx: DurableObjectState;
  readonly #relays: Env["RELAY"];
  readonly #retry: (inMs: number) => void;
  #prepared = false;
  /** Concurrent requests for the same receipt share one answer. */
  readonly #pendingReceipts = new Map<number, Promise<ReceiptPart>>();

  /** `retry` is called when a child did not respond: its owner's alarm has to call `refresh` in `inMs`. */
  constructor(ctx: DurableObjectState, relays: Env["RELAY"], retry: (inMs: number) => void) {
    this.#ctx = ctx;
    this.#relays = relays;
    this.#retry = retry;
  }

  /**
   * Registers a child or stores its report. A new child has revision 0, and is sent everything up to `latest` with the
   * answer.
   */
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

  /** To be called after the node's storage was deleted, and the table with it. */
  reset(): void {
    this.#prepared = false;
  }

  /** The sums of all children's reports: clients, also by region and by key. */
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

  /**
   * Sends to all children that are not in `sentTo`, in the background, and adds them. Failed ones are retried by alarm.
   */
  deliver(delivery: Delivery, occupancy: EnvironmentOccupancy, sentTo = new Set<string>()): Set<string> {
    for (const child of this.#all()) {
      if (sentTo.has(child.name)) continue;
      sentTo.add(child.name);
      this.#ctx.waitUntil(this.#callChild(child, (relay) => relay.deliver(delivery, occupancy), child.failures));
    }
    return sentTo;
  }

  /** Makes the children that have not reached `revision` attach again. */
  async refresh(revision: number): Promise<void> {
    const behind = this.#all().filter((child) => child.revision < revision);
    await Promise.all(behind.map((child) => this.#callChild(child, (relay) => relay.refresh(), child.failures + 1)));
  }

  /**
   * After a cold start: a hub that lost its children calls the relays that it may have had, which then attach again.
   */
  requestReattach(environmentId: string, counts: RelayCounts, fanOut: number): void {
    for (const [region, count] of Object.entries(counts) as [Region, number][]) {
      for (let n = 0; n < Math.min(count, rootsOf(fanOut)); n++) {
        const relay = this.#relay({ name: relayName({ environmentId, region, n }), region });
        this.#ctx.waitUntil(relay.refresh().catch(() => null));
      }
    }
  }

  receipt(revision: number, withinMs: number): Promise<ReceiptPart> {
    const pending = this.#pendingReceipts.get(revision);
    if (pending !== undefined) return pending;
    const answer = this.#receipt(revision, withinMs).finally(() => this.#pendingReceipts.delete(revision));
    this.#pendingReceipts.set(revision, answer);
    return answer;
  }

  async #receipt(revision: number, withinMs: number): Promise<ReceiptPart> {
    const parts = this.#all().map(async (child) => {
      try {
        return await within(this.#relay(child).receipt(revision, withinMs), withinMs, "relay");
      } catch {
        return silentPart(child.region, child.connected);
      }
    });
    return (await Promise.all(parts)).reduce(mergeParts, emptyPart());
  }

  /** Stores the child's report, or `failures` if it does not respond. */
  async #callChild(
    child: Child,
    call: (relay: DownstreamNode) => Promise<Report | null>,
    failures: number,
  ): Promise<void> {
    try {
      const report = await within(call(this.#relay(child)), RELAY_DELIVER_MS, "relay");
      if (report !== null) this.put(report);
    } catch {
      // The node shut down meanwhile, and its table is gone.
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

  #relay({ name, region }: Pick<Child, "name" | "region">): DownstreamNode {
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
