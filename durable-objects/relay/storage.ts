/** What a relay remembers, in its SQLite: where it is, what it was lately sent, which keys are good. All synchronous. */
import { type Delivery, type KeyEnds, runAfter, type Standing } from "../fan-out/delivery.ts";
import type { Attachment } from "../fan-out/handshake.ts";
import type { Counts } from "../fan-out/receipt.ts";

const RING_BYTES = 1024 * 1024;
/** Receipts are asked for soon, if at all. */
const KEPT_TALLIES = 32;

export class RelayStorage {
  readonly #storage: DurableObjectStorage;
  readonly #sql: SqlStorage;
  /** Null until attached. */
  #revision: number | null;
  #standing: Standing;
  #ringBytes = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    this.#revision = storage.kv.get<number>("position") ?? null;
    this.#standing = storage.kv.get<Standing>("standing") ?? { relays: {}, connected: 0, keys: {} };
    if (this.#revision !== null) this.#prepare();
  }

  /** Not before there is something to keep: a made-up environment's relay leaves nothing behind. */
  #prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS ring (revision INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, delivery TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS tallies (revision INTEGER PRIMARY KEY, tally TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS keys (hash TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID;
    `);
    this.#ringBytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM ring").one().bytes;
  }

  get revision(): number | null {
    return this.#revision;
  }

  /** Null is how it began. */
  get above(): number | null | undefined {
    return this.#storage.kv.get<number | null>("above");
  }

  attachTo(above: number | null): void {
    this.#storage.kv.put("above", above);
  }

  get standing(): Standing {
    return this.#standing;
  }

  stand(standing: Standing): void {
    if (this.#revision === null || JSON.stringify(standing) === JSON.stringify(this.#standing)) return;
    this.#standing = standing;
    this.#storage.kv.put("standing", standing);
  }

  /** As if it had never been. */
  async forget(): Promise<void> {
    this.#revision = null;
    await this.#storage.deleteAll();
  }

  // The ring.

  /** Moves on to what was just passed on. */
  log(delivery: Delivery): void {
    this.#keep(delivery);
    this.#trim();
    this.#moveTo(delivery.revision);
  }

  /** What came before the ring, as somebody above knows it. */
  fill(deliveries: Delivery[]): void {
    for (const delivery of deliveries) if (delivery.revision <= (this.#revision ?? 0)) this.#keep(delivery);
    this.#trim();
  }

  /** To a revision that cannot be told by deliveries. */
  leapTo(revision: number, keys: KeyEnds): void {
    this.#prepare();
    this.#sql.exec("DELETE FROM ring");
    this.#ringBytes = 0;
    this.#sql.exec("DELETE FROM keys");
    for (const [hash, expiresAt] of Object.entries(keys)) this.putKey(hash, expiresAt);
    this.#moveTo(revision);
  }

  /** The unbroken run from `revision` to where the relay is; null where the ring does not reach back so far. */
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

  /** Who lacks all of it was sent about a megabyte; after a leap the ring is short, and says nothing of anybody. */
  get isRingFull(): boolean {
    return this.#ringBytes > RING_BYTES / 2;
  }

  /** Who has acknowledged less than this was sent more than the ring holds since. */
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

  // Keys, by hash. Ends are epoch ms.

  isGood(keyHash: string, now: number): boolean {
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

  dropKey(hash: string): void {
    this.#sql.exec("DELETE FROM keys WHERE hash = ?", hash);
  }

  keyEnds(): KeyEnds {
    const rows = this.#sql.exec<{ hash: string; expires_at: number | null }>("SELECT hash, expires_at FROM keys");
    return Object.fromEntries(rows.toArray().map((row) => [row.hash, row.expires_at]));
  }

  // Tallies.

  saveTally(tally: Tally): void {
    this.#sql.exec("INSERT OR REPLACE INTO tallies VALUES (?, ?)", tally.revision, JSON.stringify(tally));
    this.#sql.exec(
      "DELETE FROM tallies WHERE revision <= (SELECT revision FROM tallies ORDER BY revision DESC LIMIT 1 OFFSET ?)",
      KEPT_TALLIES,
    );
  }

  /** In one row, however many there are. */
  saveDepartures(departures: Departure[]): void {
    this.#storage.kv.put("departures", departures);
  }

  departures(): Departure[] {
    return this.#storage.kv.get<Departure[]>("departures") ?? [];
  }

  tallies(): Tally[] {
    if (this.#revision === null) return [];
    return this.#sql
      .exec<{ tally: string }>("SELECT tally FROM tallies ORDER BY revision")
      .toArray()
      .map(({ tally }) => JSON.parse(tally) as Tally);
  }
}

export type Tally = {
  revision: number;
  publishedAt: number;
  sentAt: number;
  /** Sockets open at delivery. */
  connected: number;
  took: number[];
  max: number;
  /** Of those who have left since, by SDK. */
  left: Record<string, Counts>;
};

/** Who has left: what it had, and the last delivery that it was there for. */
export type Departure = Pick<Attachment, "sdk" | "transport" | "applied" | "connectedWith"> & { last: number };
