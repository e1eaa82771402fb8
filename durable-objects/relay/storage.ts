/**
 * A relay's SQLite: its revision, the ring of its latest deliveries, valid keys, and delivery statistics. Synchronous.
 */
import { type Delivery, type EnvironmentOccupancy, type KeyExpiries, runAfter } from "../fan-out/delivery.ts";
import type { Attachment } from "../fan-out/handshake.ts";
import type { ReceiptCounts } from "../fan-out/receipt.ts";

const RING_BYTES = 1024 * 1024;
/** Receipts are requested soon after a change, if at all. */
const KEPT_STATISTICS = 32;

export class RelayStorage {
  readonly #storage: DurableObjectStorage;
  readonly #sql: SqlStorage;
  /** Null until attached. */
  #revision: number | null;
  #occupancy: EnvironmentOccupancy;
  #ringBytes = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    this.#revision = storage.kv.get<number>("position") ?? null;
    this.#occupancy = storage.kv.get<EnvironmentOccupancy>("occupancy") ?? { relays: {}, connected: 0, keys: {} };
    if (this.#revision !== null) this.#prepare();
  }

  /** Only once there is something to store: a relay of an invented environment id must leave nothing behind. */
  #prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS ring (revision INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, delivery TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS delivery_statistics (revision INTEGER PRIMARY KEY, statistics TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS keys (hash TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID;
    `);
    this.#ringBytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM ring").one().bytes;
  }

  get revision(): number | null {
    return this.#revision;
  }

  /** The number of the relay that this one is attached to; null is the hub, undefined: none yet. */
  get attachedTo(): number | null | undefined {
    return this.#storage.kv.get<number | null>("attachedTo");
  }

  setAttachedTo(n: number | null): void {
    this.#storage.kv.put("attachedTo", n);
  }

  get occupancy(): EnvironmentOccupancy {
    return this.#occupancy;
  }

  setOccupancy(occupancy: EnvironmentOccupancy): void {
    if (this.#revision === null || JSON.stringify(occupancy) === JSON.stringify(this.#occupancy)) return;
    this.#occupancy = occupancy;
    this.#storage.kv.put("occupancy", occupancy);
  }

  async deleteAll(): Promise<void> {
    this.#revision = null;
    await this.#storage.deleteAll();
  }

  // The ring.

  /** Records a delivery that was just sent, and moves to its revision. */
  log(delivery: Delivery): void {
    this.#keep(delivery);
    this.#trim();
    this.#moveTo(delivery.revision);
  }

  /** Adds older deliveries that were read from upstream. */
  fill(deliveries: Delivery[]): void {
    for (const delivery of deliveries) if (delivery.revision <= (this.#revision ?? 0)) this.#keep(delivery);
    this.#trim();
  }

  /** Moves to a revision that deliveries do not lead to. `keys` replace the known ones. */
  skipTo(revision: number, keys: KeyExpiries): void {
    this.#prepare();
    this.#sql.exec("DELETE FROM ring");
    this.#ringBytes = 0;
    this.#sql.exec("DELETE FROM keys");
    for (const [hash, expiresAt] of Object.entries(keys)) this.putKey(hash, expiresAt);
    this.#moveTo(revision);
  }

  /** The unbroken run from `revision` to the relay's own; null where the ring does not reach back that far. */
  runAfter(revision: number): Delivery[] | null {
    if (this.#revision === null) return null;
    const rows = this.#sql
      .exec<{ delivery: string }>("SELECT delivery FROM ring WHERE revision > ? ORDER BY revision", revision)
      .toArray();
    return runAfter(
      rows.map((row) => JSON.parse(row.delivery) as Delivery),
      revision,
      this.#revision,
    );
  }

  /** Whether a client that lacks all of the ring was sent about a megabyte: after a skip the ring is short. */
  get isRingFull(): boolean {
    return this.#ringBytes > RING_BYTES / 2;
  }

  /** The oldest revision in the ring, 0 if it is empty. */
  firstOfRing(): number {
    const { first } = this.#sql.exec<{ first: number | null }>("SELECT min(revision) AS first FROM ring").one();
    return first ?? 0;
  }

  #keep(delivery: Delivery): void {
    const text = JSON.stringify(delivery);
    const { rowsWritten } = this.#sql.exec(
      "INSERT OR IGNORE INTO ring VALUES (?, ?, ?)",
      delivery.revision,
      text.length,
      text,
    );
    if (rowsWritten > 0) this.#ringBytes += text.length;
  }

  #trim(): void {
    while (this.#ringBytes > RING_BYTES) {
      const [oldest] = this.#sql.exec<{ bytes: number }>(
        "DELETE FROM ring WHERE revision = (SELECT min(revision) FROM ring) RETURNING bytes",
      );
      if (oldest === undefined) break;
      this.#ringBytes -= oldest.bytes;
    }
  }

  #moveTo(revision: number): void {
    this.#revision = revision;
    this.#storage.kv.put("position", revision);
  }

  // Valid SDK keys, by hash.

  isValidKey(keyHash: string, now: number): boolean {
    return (
      this.#sql.exec("SELECT 1 FROM keys WHERE hash = ? AND coalesce(expires_at > ?, TRUE)", keyHash, now).toArray()
        .length > 0
    );
  }

  putKey(hash: string, expiresAt: number | null): void {
    this.#sql.exec("INSERT OR REPLACE INTO keys VALUES (?, ?)", hash, expiresAt);
  }

  expiredKeys(now: number): string[] {
    return this.#sql
      .exec<{ hash: string }>("SELECT hash FROM keys WHERE expires_at <= ?", now)
      .toArray()
      .map(({ hash }) => hash);
  }

  deleteKey(hash: string): void {
    this.#sql.exec("DELETE FROM keys WHERE hash = ?", hash);
  }

  keyExpiries(): KeyExpiries {
    const rows = this.#sql.exec<{ hash: string; expires_at: number | null }>("SELECT hash, expires_at FROM keys");
    return Object.fromEntries(rows.toArray().map((row) => [row.hash, row.expires_at]));
  }

  // Delivery statistics.

  saveStatistics(statistics: RevisionStatistics): void {
    this.#sql.exec(
      "INSERT OR REPLACE INTO delivery_statistics VALUES (?, ?)",
      statistics.revision,
      JSON.stringify(statistics),
    );
    this.#sql.exec(
      `DELETE FROM delivery_statistics
       WHERE revision <= (SELECT revision FROM delivery_statistics ORDER BY revision DESC LIMIT 1 OFFSET ?)`,
      KEPT_STATISTICS,
    );
  }

  /** Writes one row, whatever their number. */
  saveDepartures(departures: Departure[]): void {
    this.#storage.kv.put("departures", departures);
  }

  departures(): Departure[] {
    return this.#storage.kv.get<Departure[]>("departures") ?? [];
  }

  statistics(): RevisionStatistics[] {
    if (this.#revision === null) return [];
    return this.#sql
      .exec<{ statistics: string }>("SELECT statistics FROM delivery_statistics ORDER BY revision")
      .toArray()
      .map(({ statistics }) => JSON.parse(statistics) as RevisionStatistics);
  }
}

export type RevisionStatistics = {
  revision: number;
  publishedAt: number;
  sentAt: number;
  /** Sockets open at delivery. */
  connected: number;
  durations: number[];
  max: number;
  /** The clients that have disconnected since, by SDK. */
  left: Record<string, ReceiptCounts>;
};

/** A client that has disconnected: what it had applied, and the last delivery before it left. */
export type Departure = Pick<Attachment, "sdk" | "transport" | "applied" | "connectedWith"> & { last: number };
