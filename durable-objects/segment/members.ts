/** The tables of a big segment: its exact members, and what has changed since its filter. Synchronous throughout. */
import type { AuditEntry } from "../../workers/store/outbox/change.ts";

/**
 * A member counts from the mark `validFrom` on. An upload that replaces all writes a mark of its own, which becomes
 * `validFrom` at its end: so nobody is missing meanwhile, and who was not in it is gone in one step, however many they are.
 */
export type Marks = { mark: number; validFrom: number };

/** Sent: D1 has it. */
export type PendingChange = { generation: number; added: string[]; removed: string[] };

/** One commit's worth. A UTF-16 unit is at most six bytes of JSON, and the row of the outbox must fit D1's 2 MB. */
const MAX_SENT_MEMBERS = 1_000;
const MAX_SENT_UNITS = 250_000;

export class SegmentMembers {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS members (member TEXT PRIMARY KEY, mark INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS pending
        (member TEXT PRIMARY KEY, present INTEGER NOT NULL, generation INTEGER NOT NULL, sent INTEGER NOT NULL) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS pending_unsent ON pending (generation) WHERE sent = 0;
      CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS filters (generation INTEGER PRIMARY KEY, supersededAt INTEGER);
    `);
  }

  // Members.

  /** Those of `members` that are members. */
  present(members: string[], validFrom: number): string[] {
    return this.#sql
      .exec<{ member: string }>(
        "SELECT member FROM members WHERE member IN (SELECT value FROM json_each(?)) AND mark >= ?",
        JSON.stringify(members),
        validFrom,
      )
      .toArray()
      .map(({ member }) => member);
  }

  /** How many are new. `members` are distinct. */
  add(members: string[], { mark, validFrom }: Marks): number {
    const before = this.#countOf(members, validFrom);
    this.#sql.exec(
      `INSERT INTO members SELECT value, ? FROM json_each(?) WHERE true
       ON CONFLICT (member) DO UPDATE SET mark = excluded.mark WHERE members.mark < excluded.mark`,
      mark,
      JSON.stringify(members),
    );
    return members.length - before;
  }

  /** How many are gone. */
  remove(members: string[], validFrom: number): number {
    const before = this.#countOf(members, validFrom);
    this.#sql.exec("DELETE FROM members WHERE member IN (SELECT value FROM json_each(?))", JSON.stringify(members));
    return before;
  }

  count(validFrom: number): number {
    return this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM members WHERE mark >= ?", validFrom).one().n;
  }

  /** In order, after the one given; also those that no longer count. */
  page(after: string | null, limit: number): Iterable<[member: string, mark: number]> {
    const query = "SELECT member, mark FROM members";
    const rows =
      after === null
        ? this.#sql.exec(`${query} ORDER BY member LIMIT ?`, limit)
        : this.#sql.exec(`${query} WHERE member > ? ORDER BY member LIMIT ?`, after, limit);
    return rows.raw<[string, number]>();
  }

  /** Those among the first up to `through` that no longer count. */
  drop(through: string, validFrom: number): void {
    this.#sql.exec("DELETE FROM members WHERE member <= ? AND mark < ?", through, validFrom);
  }

  #countOf(members: string[], validFrom: number): number {
    return this.#sql
      .exec<{ n: number }>(
        "SELECT count(*) AS n FROM members WHERE member IN (SELECT value FROM json_each(?)) AND mark >= ?",
        JSON.stringify(members),
        validFrom,
      )
      .one().n;
  }

  // Changes since the filter.

  tell(members: string[], present: boolean, generation: number): void {
    this.#sql.exec(
      "INSERT OR REPLACE INTO pending SELECT value, ?, ?, 0 FROM json_each(?)",
      present ? 1 : 0,
      generation,
      JSON.stringify(members),
    );
  }

  /** How many changes are beside that filter, and how long they are in UTF-16 units, about. */
  pendingAfter(generation: number): { members: number; units: number } {
    return this.#sql
      .exec<{ members: number; units: number }>(
        "SELECT count(*) AS members, coalesce(sum(length(member)), 0) AS units FROM pending WHERE generation > ?",
        generation,
      )
      .one();
  }

  /** The oldest of what D1 has not been told, all of it for one generation. */
  unsent(): PendingChange | null {
    const rows = this.#sql
      .exec<{ member: string; present: number; generation: number }>(
        "SELECT member, present, generation FROM pending WHERE sent = 0 ORDER BY generation LIMIT ?",
        MAX_SENT_MEMBERS,
      )
      .toArray();
    const generation = rows[0]?.generation;
    if (generation === undefined) return null;
    const since: PendingChange = { generation, added: [], removed: [] };
    let units = 0;
    for (const { member, present, generation: own } of rows) {
      units += member.length;
      if (own !== generation || units > MAX_SENT_UNITS) break;
      since[present === 1 ? "added" : "removed"].push(member);
    }
    return since;
  }

  /** Unless they have changed again meanwhile. */
  markSent({ generation, added, removed }: PendingChange): void {
    for (const [members, present] of [[added, 1] as const, [removed, 0] as const]) {
      this.#sql.exec(
        `UPDATE pending SET sent = 1
         WHERE member IN (SELECT value FROM json_each(?)) AND present = ? AND generation = ?`,
        JSON.stringify(members),
        present,
        generation,
      );
    }
  }

  /** What is part of a filter need not be said beside it. */
  forgetThrough(generation: number): void {
    this.#sql.exec("DELETE FROM pending WHERE generation <= ?", generation);
  }

  // Audit entries on their way to D1.

  note(entry: AuditEntry): void {
    this.#sql.exec("INSERT INTO audit (entry) VALUES (?)", JSON.stringify(entry));
  }

  notes(): { through: number; entries: AuditEntry[] } {
    const rows = this.#sql
      .exec<{ id: number; entry: string }>("SELECT id, entry FROM audit ORDER BY id LIMIT 20")
      .toArray();
    return { through: rows.at(-1)?.id ?? 0, entries: rows.map(({ entry }) => JSON.parse(entry) as AuditEntry) };
  }

  forgetNotes(through: number): void {
    this.#sql.exec("DELETE FROM audit WHERE id <= ?", through);
  }

  // Filters in R2.

  /** Known before it is written: what is never published is found and deleted as well. */
  logFilter(generation: number, now: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO filters VALUES (?, ?)", generation, now);
  }

  /** From now on the others are kept for those who are still on their way to them. */
  useFilter(generation: number | null, now: number): void {
    this.#sql.exec("UPDATE filters SET supersededAt = ? WHERE supersededAt IS NULL", now);
    this.#sql.exec("UPDATE filters SET supersededAt = NULL WHERE generation = ?", generation);
  }

  filtersSupersededBefore(time: number): number[] {
    return this.#sql
      .exec<{ generation: number }>("SELECT generation FROM filters WHERE supersededAt < ? LIMIT 100", time)
      .toArray()
      .map(({ generation }) => generation);
  }

  firstSupersededAt(): number | null {
    return this.#sql.exec<{ at: number | null }>("SELECT min(supersededAt) AS at FROM filters").one().at;
  }

  forgetFilter(generation: number): void {
    this.#sql.exec("DELETE FROM filters WHERE generation = ?", generation);
  }

  /** All but the audit entries and the filters, which outlive the members. */
  clear(): void {
    this.#sql.exec("DELETE FROM members");
    this.#sql.exec("DELETE FROM pending");
  }
}
