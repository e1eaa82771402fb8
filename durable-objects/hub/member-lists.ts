/**
 * Members added to and removed from big segments since their filters were built: a row each, so that a change writes
 * one.
 */
import type { Segment } from "@bunting/core";
import type { MemberRow } from "../../workers/store/documents.ts";
import type { Documents } from "../../workers/store/outbox/change.ts";

export class MemberLists {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  prepare(): void {
    this.#sql.exec(
      `CREATE TABLE IF NOT EXISTS members
       (segment TEXT, member TEXT, present INTEGER NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (segment, member))
       WITHOUT ROWID`,
    );
  }

  /** A document with a newer filter removes the changes that the filter contains. */
  write({ segments, members = {} }: Pick<Documents, "segments" | "members">): void {
    for (const [key, segment] of Object.entries(segments)) {
      const through = segment?.big?.generation ?? Number.MAX_SAFE_INTEGER;
      this.#sql.exec("DELETE FROM members WHERE segment = ? AND generation <= ?", key, through);
    }
    for (const [key, { added, removed, generation }] of Object.entries(members)) {
      this.#put(key, added, true, generation);
      this.#put(key, removed, false, generation);
    }
  }

  /** Replaces all rows. Returns the segments whose lists changed. */
  replace(rows: MemberRow[]): string[] {
    const before = this.#lists();
    this.#sql.exec("DELETE FROM members");
    for (const { segmentKey, member, present, generation } of rows)
      this.#put(segmentKey, [member], present, generation);
    const after = this.#lists();
    return [...new Set([...before.keys(), ...after.keys()])].filter((key) => before.get(key) !== after.get(key));
  }

  segments(): Set<string> {
    const rows = this.#sql.exec<{ segment: string }>("SELECT DISTINCT segment FROM members").toArray();
    return new Set(rows.map(({ segment }) => segment));
  }

  /** The document as clients receive it, with its lists. */
  join(segment: Segment): Segment {
    if (segment.big === undefined) return segment;
    const rows = this.#sql
      .exec<{ member: string; present: number }>(
        "SELECT member, present FROM members WHERE segment = ? ORDER BY member",
        segment.key,
      )
      .toArray();
    const listed = (wanted: number) => rows.filter(({ present }) => present === wanted).map(({ member }) => member);
    return { ...segment, big: { ...segment.big, added: listed(1), removed: listed(0) } };
  }

  #put(key: string, members: string[], present: boolean, generation: number): void {
    this.#sql.exec(
      "INSERT OR REPLACE INTO members SELECT ?, value, ?, ? FROM json_each(?)",
      key,
      present ? 1 : 0,
      generation,
      JSON.stringify(members),
    );
  }

  #lists(): Map<string, string> {
    const rows = this.#sql
      .exec<{ segment: string; lists: string }>(
        `SELECT segment, json_group_array(member || ' ' || present ORDER BY member) AS lists FROM members GROUP BY segment`,
      )
      .toArray();
    return new Map(rows.map(({ segment, lists }) => [segment, lists]));
  }
}
