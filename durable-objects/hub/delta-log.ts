/**
 * A hub's newest revisions: deliveries as relays get them, and the patches that were too large for a message. What has been
 * archived may go, oldest first, once there is more than relays ask for.
 */
import { type Delivery, isResync } from "../fan-out/delivery.ts";

/** What relays and resuming clients are served from; who lacks more fetches the ruleset. */
const LOG_BYTES = 8 * 1024 * 1024;
/** While R2 is away nothing is archived and the log grows: up to here, then history has a gap and the hub goes on. */
const UNARCHIVED_BYTES = 64 * 1024 * 1024;
/** What a relay keeps too: whoever lacks more than this fetches the ruleset, which is no larger than many such runs. */
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

  /** After a transaction that was rolled back: what it had added or trimmed was counted. */
  recount(): void {
    this.#bytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM deltas").one().bytes;
  }

  /** `patch` is what the delivery's message stands for. Rows after `archived` are dropped only when there is no room. */
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
      // Between the two halves of a character SQLite would store neither.
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

  forgetLarge(revision: number): void {
    this.#sql.exec("DELETE FROM large WHERE revision = ?", revision);
  }

  get(revision: number): Delivery | null {
    const [row] = this.#sql.exec<{ delivery: string }>("SELECT delivery FROM deltas WHERE revision = ?", revision);
    return row === undefined ? null : (JSON.parse(row.delivery) as Delivery);
  }

  /** All that came after `revision`. Null where the log does not reach back so far, or where it is too much to send. */
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

  /** How much came after `revision`, and when the first of it did. */
  waiting(revision: number): { bytes: number; since: number | null } {
    return this.#sql
      .exec<{ bytes: number; since: number | null }>(
        "SELECT total(bytes) AS bytes, min(at) AS since FROM deltas WHERE revision > ?",
        revision,
      )
      .one();
  }

  /** The patches after `revision`, whole: as many as `maxBytes` holds, but one at least. */
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
