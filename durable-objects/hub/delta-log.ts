/**
 * A hub's newest revisions: deliveries as relays receive them, and patches that were too large for a message. Archived
 * revisions are deleted, oldest first, once the log exceeds what relays need.
 */
import { type Delivery, isResync } from "../fan-out/delivery.ts";

/** Relays and resuming clients are served from this much; a client that is further behind fetches the ruleset. */
const LOG_BYTES = 8 * 1024 * 1024;
/**
 * While R2 fails nothing is archived and the log grows up to this. Beyond it history gets a gap, and publishing
 * continues.
 */
const UNARCHIVED_BYTES = 64 * 1024 * 1024;
/**
 * As large as a relay's ring. A caller that is further behind fetches the ruleset, which is rarely larger than this.
 */
const MAX_RUN_BYTES = 1024 * 1024;
/** A row of SQLite holds 2 MB; a character of a patch is up to three bytes. */
const PART_CHARACTERS = 500_000;

export class DeltaLog {
  readonly #sql: SqlStorage;
  #bytes = 0;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS deltas
        (revision INTEGER PRIMARY KEY, at INTEGER NOT NULL, bytes INTEGER NOT NULL, delivery TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS large
        (revision INTEGER, part INTEGER, text TEXT NOT NULL, PRIMARY KEY (revision, part)) WITHOUT ROWID;
    `);
    this.recount();
  }

  /** Corrects the size after a rollback, which undoes rows but not the counter. */
  recount(): void {
    this.#bytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM deltas").one().bytes;
  }

  /**
   * `patch` is the full patch, also where the message is a resync. Rows after `archived` are deleted only beyond
   * UNARCHIVED_BYTES.
   */
  add(delivery: Delivery, patch: string, archived: number): void {
    const { revision, publishedAt } = delivery;
    const text = JSON.stringify(delivery);
    const isLarge = isResync(delivery);
    const bytes = text.length + (isLarge ? patch.length : 0);
    this.#sql.exec("INSERT INTO deltas VALUES (?, ?, ?, ?)", revision, publishedAt, bytes, text);
    if (isLarge) this.keepLarge(revision, patch);
    this.#bytes += bytes;
    this.trim(archived);
  }

  trim(archived: number): void {
    while (this.#bytes > LOG_BYTES) {
      const [oldest] = this.#sql.exec<{ revision: number; bytes: number }>(
        "SELECT revision, bytes FROM deltas ORDER BY revision LIMIT 1",
      );
      if (oldest === undefined || (oldest.revision > archived && this.#bytes <= UNARCHIVED_BYTES)) return;
      this.#sql.exec("DELETE FROM deltas WHERE revision = ?", oldest.revision);
      this.#sql.exec("DELETE FROM large WHERE revision = ?", oldest.revision);
      this.#bytes -= oldest.bytes;
    }
  }

  /** A text of any length, in parts. */
  keepLarge(revision: number, text: string): void {
    for (let part = 0, from = 0; from < text.length; part++) {
      let end = from + PART_CHARACTERS;
      // SQLite stores UTF-8 and would lose both halves of a split surrogate pair.
      if (/[\uD800-\uDBFF]/.test(text.charAt(end - 1))) end++;
      this.#sql.exec("INSERT OR REPLACE INTO large VALUES (?, ?, ?)", revision, part, text.slice(from, end));
      from = end;
    }
  }

  large(revision: number): string | null {
    const rows = this.#sql
      .exec<{ text: string }>("SELECT text FROM large WHERE revision = ? ORDER BY part", revision)
      .toArray();
    return rows.length === 0 ? null : rows.map(({ text }) => text).join("");
  }

  deleteLarge(revision: number): void {
    this.#sql.exec("DELETE FROM large WHERE revision = ?", revision);
  }

  get(revision: number): Delivery | null {
    const [row] = this.#sql.exec<{ delivery: string }>("SELECT delivery FROM deltas WHERE revision = ?", revision);
    return row === undefined ? null : (JSON.parse(row.delivery) as Delivery);
  }

  /**
   * The deliveries after `revision`. Null where the log does not reach back that far, or where they exceed
   * MAX_RUN_BYTES.
   */
  after(revision: number, latest: number): Delivery[] | null {
    if (revision === latest) return [];
    const { first, bytes } = this.#sql
      .exec<{ first: number | null; bytes: number }>(
        "SELECT min(revision) AS first, total(length(delivery)) AS bytes FROM deltas WHERE revision > ?",
        revision,
      )
      .one();
    if (first !== revision + 1 || bytes > MAX_RUN_BYTES) return null;
    return this.#sql
      .exec<{ delivery: string }>("SELECT delivery FROM deltas WHERE revision > ? ORDER BY revision", revision)
      .toArray()
      .map((row) => JSON.parse(row.delivery) as Delivery);
  }

  /** The size of the log after `revision`, and when its first entry was published. */
  sizeAfter(revision: number): { bytes: number; since: number | null } {
    return this.#sql
      .exec<{ bytes: number; since: number | null }>(
        "SELECT total(bytes) AS bytes, min(at) AS since FROM deltas WHERE revision > ?",
        revision,
      )
      .one();
  }

  /** The full patches after `revision`: as many as `maxBytes` holds, but at least one. */
  patches(revision: number, maxBytes: number): { revision: number; text: string }[] {
    const found: { revision: number; text: string }[] = [];
    let bytes = 0;
    const rows = this.#sql.exec<{ revision: number; bytes: number; delivery: string }>(
      "SELECT revision, bytes, delivery FROM deltas WHERE revision > ? ORDER BY revision",
      revision,
    );
    for (const row of rows) {
      if (found.length > 0 && bytes + row.bytes > maxBytes) break;
      bytes += row.bytes;
      const delivery = JSON.parse(row.delivery) as Delivery;
      const text = isResync(delivery) ? this.large(row.revision) : delivery.message;
      if (text === null) throw new Error(`The patch of revision ${row.revision} is not in the log`);
      found.push({ revision: row.revision, text });
    }
    return found;
  }
}
