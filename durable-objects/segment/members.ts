/** A big segment's tables: its exact members, changes since its filter, audit entries and filters. Synchronous. */
import type { AuditEntry } from "../../workers/store/outbox/change.ts";

/**
 * Marks of members are odd, and count from `validFrom` on. An upload that replaces all members raises the mark: whom it
 * sends and who is a member already gets that one, whoever is new the even one below, `stagedBy`, which is a member's only
 * where it is `validFrom`. It becomes that at the upload's end: then, in one step, the new ones are members and those that
 * were not sent are none. Of an upload that breaks off nothing is left but rows that count for nothing.
 */
export type Marks = { mark: number; validFrom: number };

export const FIRST_MARK = 1;
/** For the upload that begins now: odd, and the one below it is new as well. */
export const nextMark = (mark: number): number => mark + (mark % 2 === 1 ? 2 : 3);
export const stagedBy = (mark: number): number => mark - 1;
export const isMember = (mark: number, validFrom: number): boolean =>
  mark >= validFrom && (mark % 2 === 1 || mark === validFrom);

/** The same in SQL, of one parameter that is given twice. */
const IS_MEMBER = "mark >= ? AND (mark % 2 = 1 OR mark = ?)";

/** Changes that D1 does not have yet, all of one generation. */
export type PendingChange = { generation: number; added: string[]; removed: string[] };

/** The most of one commit. A UTF-16 unit is at most six bytes of JSON, and the outbox's row must fit D1's 2 MB. */
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

  /** The given strings that are members. */
  present(members: string[], validFrom: number): string[] {
    return this.#sql
      .exec<{ member: string }>(
        `SELECT member FROM members WHERE member IN (SELECT value FROM json_each(?)) AND ${IS_MEMBER}`,
        JSON.stringify(members),
        validFrom,
        validFrom,
      )
      .toArray()
      .map(({ member }) => member);
  }

  /** Returns how many are new. `members` must be distinct. */
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

  /** For an upload that replaces. Returns how many it adds to the rows that wait for its end. `members` must be distinct. */
  stage(members: string[], { mark, validFrom }: Marks): number {
    const values = JSON.stringify(members);
    const { there } = this.#sql
      .exec<{ there: number }>(
        `SELECT count(*) AS there FROM members
         WHERE member IN (SELECT value FROM json_each(?)) AND (mark = ? OR ${IS_MEMBER})`,
        values,
        stagedBy(mark),
        validFrom,
        validFrom,
      )
      .one();
    this.#sql.exec(
      `INSERT INTO members SELECT value, ? FROM json_each(?) WHERE true
       ON CONFLICT (member) DO UPDATE SET mark = CASE WHEN ${IS_MEMBER} THEN ? ELSE excluded.mark END`,
      stagedBy(mark),
      values,
      validFrom,
      validFrom,
      mark,
    );
    return members.length - there;
  }

  /** Returns how many were members. */
  remove(members: string[], validFrom: number): number {
    const before = this.#countOf(members, validFrom);
    this.#sql.exec("DELETE FROM members WHERE member IN (SELECT value FROM json_each(?))", JSON.stringify(members));
    return before;
  }

  count(validFrom: number): number {
    return this.#sql
      .exec<{ n: number }>(`SELECT count(*) AS n FROM members WHERE ${IS_MEMBER}`, validFrom, validFrom)
      .one().n;
  }

  /** Rows after the given one, in order, including those that are no members. */
  page(after: string | null, limit: number): Iterable<[member: string, mark: number]> {
    const query = "SELECT member, mark FROM members";
    const rows =
      after === null
        ? this.#sql.exec(`${query} ORDER BY member LIMIT ?`, limit)
        : this.#sql.exec(`${query} WHERE member > ? ORDER BY member LIMIT ?`, after, limit);
    return rows.raw<[string, number]>();
  }

  /** Deletes rows up to `through` that are no members, but for those that wait for the end of an upload that goes on. */
  drop(through: string, validFrom: number, waiting: number | null): void {
    this.#sql.exec(
      `DELETE FROM members WHERE member <= ? AND NOT (${IS_MEMBER}) AND mark IS NOT ?`,
      through,
      validFrom,
      validFrom,
      waiting,
    );
  }

  #countOf(members: string[], validFrom: number): number {
    return this.#sql
      .exec<{ n: number }>(
        `SELECT count(*) AS n FROM members WHERE member IN (SELECT value FROM json_each(?)) AND ${IS_MEMBER}`,
        JSON.stringify(members),
        validFrom,
        validFrom,
      )
      .one().n;
  }

  // Changes since the filter.

  addPending(members: string[], present: boolean, generation: number): void {
    this.#sql.exec(
      "INSERT OR REPLACE INTO pending SELECT value, ?, ?, 0 FROM json_each(?)",
      present ? 1 : 0,
      generation,
      JSON.stringify(members),
    );
  }

  /** The number of changes after that filter, and their approximate length in UTF-16 units. */
  pendingAfter(generation: number): { members: number; units: number } {
    return this.#sql
      .exec<{ members: number; units: number }>(
        "SELECT count(*) AS members, coalesce(sum(length(member)), 0) AS units FROM pending WHERE generation > ?",
        generation,
      )
      .one();
  }

  /** The oldest changes that D1 does not have, all of one generation; null: none. */
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

  /** Marks changes that D1 has now, unless their member has changed again. */
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

  /** Deletes changes that the filter of this generation contains. */
  deletePendingThrough(generation: number): void {
    this.#sql.exec("DELETE FROM pending WHERE generation <= ?", generation);
  }

  // Audit entries on their way to D1.

  addAudit(entry: AuditEntry): void {
    this.#sql.exec("INSERT INTO audit (entry) VALUES (?)", JSON.stringify(entry));
  }

  auditEntries(): { through: number; entries: AuditEntry[] } {
    const rows = this.#sql
      .exec<{ id: number; entry: string }>("SELECT id, entry FROM audit ORDER BY id LIMIT 20")
      .toArray();
    return { through: rows.at(-1)?.id ?? 0, entries: rows.map(({ entry }) => JSON.parse(entry) as AuditEntry) };
  }

  deleteAuditEntries(through: number): void {
    this.#sql.exec("DELETE FROM audit WHERE id <= ?", through);
  }

  // Filters in R2.

  /** To be called before the filter is written, so that one that is never published is deleted too. */
  logFilter(generation: number, now: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO filters VALUES (?, ?)", generation, now);
  }

  /** Marks the other filters as superseded: they are kept for FILTER_KEPT_MS. */
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

  deleteFilter(generation: number): void {
    this.#sql.exec("DELETE FROM filters WHERE generation = ?", generation);
  }

  /** Deletes members and changes. Audit entries and filters outlive the segment. */
  clear(): void {
    this.#sql.exec("DELETE FROM members");
    this.#sql.exec("DELETE FROM pending");
  }
}
