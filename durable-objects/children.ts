/** The relays below a hub: kept in its SQLite, told of every delivery, asked for receipts. */
import { RELAY_DELIVER_MS, within } from "../workers/deadline.ts";
import type { Env } from "../workers/env.ts";
import type { Delivery, Downstream } from "./delivery.ts";

type Child = Downstream & { connected: number };

/** How many live clients have a revision. Counts sockets that were open when it was delivered. */
export type Receipt = {
  revision: number;
  publishedAt: number;
  connected: number;
  applied: number;
  delivered: number;
  gone: number;
  silent: number;
};

export class Children {
  readonly #ctx: DurableObjectState;
  readonly #relays: Env["RELAY"];
  readonly #retry: () => void;

  /** `retry` is called where a child could not be told: `deliverAgain` is then to be called by alarm. */
  constructor(ctx: DurableObjectState, relays: Env["RELAY"], retry: () => void) {
    this.#ctx = ctx;
    this.#relays = relays;
    this.#retry = retry;
  }

  prepare(): void {
    this.#ctx.storage.sql.exec(
      `CREATE TABLE IF NOT EXISTS children
       (name TEXT PRIMARY KEY, region TEXT NOT NULL, revision INTEGER NOT NULL, connected INTEGER NOT NULL) WITHOUT ROWID`,
    );
  }

  /** Registers a child, or hears how far it has come. */
  put({ name, region, revision }: Downstream, connected: number): void {
    this.#ctx.storage.sql.exec(
      "INSERT OR REPLACE INTO children VALUES (?, ?, ?, ?)",
      name,
      region,
      revision,
      connected,
    );
  }

  connected(): number {
    return this.#all().reduce((sum, child) => sum + child.connected, 0);
  }

  deliver(delivery: Delivery): void {
    for (const child of this.#all()) this.#ctx.waitUntil(this.#tell(child, delivery));
  }

  /** To those that have not confirmed it. */
  async deliverAgain(delivery: Delivery): Promise<void> {
    const behind = this.#all().filter(({ revision }) => revision < delivery.revision);
    await Promise.all(behind.map((child) => this.#tell(child, delivery)));
  }

  async receipt({ revision, publishedAt }: Delivery): Promise<Receipt> {
    const sum = { revision, publishedAt, connected: 0, applied: 0, delivered: 0, gone: 0, silent: 0 };
    await Promise.all(
      this.#all().map(async (child) => {
        try {
          const counts = await within(this.#relay(child).receipt(revision), RELAY_DELIVER_MS, "relay");
          sum.connected += counts.connected;
          sum.applied += counts.applied;
          sum.delivered += counts.delivered;
          sum.gone += counts.gone;
        } catch {
          sum.connected += child.connected;
          sum.silent += child.connected;
        }
      }),
    );
    return sum;
  }

  async #tell(child: Child, delivery: Delivery): Promise<void> {
    try {
      const { revision, connected } = await within(this.#relay(child).deliver(delivery), RELAY_DELIVER_MS, "relay");
      this.put({ ...child, revision }, connected);
    } catch {
      this.#retry();
    }
  }

  #all(): Child[] {
    return this.#ctx.storage.sql
      .exec<Child>("SELECT name, region, revision, connected FROM children ORDER BY name")
      .toArray();
  }

  #relay({ name, region }: Downstream) {
    const locationHint = region as DurableObjectLocationHint;
    return this.#relays.get(this.#relays.idFromName(name), { locationHint });
  }
}
