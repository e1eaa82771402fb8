/** A hub's kills: the killed flags, and the log that answers repeated requests and is mirrored to D1. */
import type { MirroredKill } from "../../../workers/store/kills.ts";
import type { KillRecord, KillRequest, KillState } from "./kill.ts";

const DAY_MS = 24 * 60 * 60_000;
const IDEMPOTENCY_MS = DAY_MS;
/** A day more than Time Travel can restore D1 by: kills that D1 loses are mirrored again from here. */
const KEPT_MS = 31 * DAY_MS;
/** Of older records only the newest of each flag is kept. */
const KEPT_RECORDS = 10_000;

export class KillLog {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS kills (flag TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS kill_log
        (seq INTEGER PRIMARY KEY, flag TEXT NOT NULL, changed INTEGER NOT NULL, mirrored INTEGER NOT NULL,
         at INTEGER NOT NULL, requester TEXT UNIQUE, record TEXT NOT NULL);
      CREATE INDEX IF NOT EXISTS kill_log_unmirrored ON kill_log (seq) WHERE mirrored = 0;
      CREATE INDEX IF NOT EXISTS kill_log_by_flag ON kill_log (flag, seq);
    `);
  }

  // Killed flags.

  state(flag: string): KillState | null {
    const [row] = this.#sql.exec<{ state: string }>("SELECT state FROM kills WHERE flag = ?", flag);
    return row === undefined ? null : (JSON.parse(row.state) as KillState);
  }

  states(): Record<string, KillState> {
    const rows = this.#sql.exec<{ flag: string; state: string }>("SELECT flag, state FROM kills").toArray();
    return Object.fromEntries(rows.map((row) => [row.flag, JSON.parse(row.state) as KillState]));
  }

  setState(flag: string, state: KillState | null): void {
    if (state === null) this.#sql.exec("DELETE FROM kills WHERE flag = ?", flag);
    else this.#sql.exec("INSERT OR REPLACE INTO kills VALUES (?, ?)", flag, JSON.stringify(state));
  }

  /** Applies D1's kills, except to flags with a later decision here. Returns the flags whose state changed. */
  importFromD1(rows: MirroredKill[]): string[] {
    const changed: string[] = [];
    for (const { flagKey: flag, killed, by, at, reason, seq } of rows) {
      const decided = this.#lastDecision(flag);
      if (decided > seq) {
        // Without D1's row the decision may have been recorded as no change: mirror it after all.
        this.#sql.exec("UPDATE kill_log SET changed = 1, mirrored = 0 WHERE seq = ?", decided);
      } else if (decided < seq) {
        if ((this.state(flag) !== null) !== killed) changed.push(flag);
        this.setState(flag, killed ? { by, at, reason, seq } : null);
      }
    }
    return changed;
  }

  #lastDecision(flag: string): number {
    return this.#sql
      .exec<{ seq: number }>("SELECT coalesce(max(seq), 0) AS seq FROM kill_log WHERE flag = ?", flag)
      .one().seq;
  }

  // The log.

  add(record: KillRecord): void {
    const { seq, flag, changed, at } = record;
    // A request that changed nothing is only kept to answer its repetition.
    this.#sql.exec(
      "INSERT INTO kill_log VALUES (?, ?, ?, ?, ?, ?, ?)",
      seq,
      flag,
      changed ? 1 : 0,
      changed ? 0 : 1,
      at,
      requester(record),
      JSON.stringify(record),
    );
  }

  /** The record of an earlier request with the same Idempotency-Key, within a day. */
  findRecord(request: KillRequest, now: number): KillRecord | null {
    const name = requester(request);
    const [row] = this.#sql.exec<{ record: string; at: number }>(
      "SELECT record, at FROM kill_log WHERE requester = ?",
      name,
    );
    if (row === undefined) return null;
    if (row.at >= now - IDEMPOTENCY_MS) return JSON.parse(row.record) as KillRecord;
    this.#sql.exec("UPDATE kill_log SET requester = NULL WHERE requester = ?", name);
    return null;
  }

  /** The flag's last decision after `seq`. */
  findDecisionAfter(flag: string, seq: number): KillRecord | null {
    const [row] = this.#sql.exec<{ record: string }>(
      "SELECT record FROM kill_log WHERE flag = ? AND seq > ? AND changed = 1 ORDER BY seq DESC LIMIT 1",
      flag,
      seq,
    );
    return row === undefined ? null : (JSON.parse(row.record) as KillRecord);
  }

  // The mirror in D1. It is written in order of `seq`, so that D1 has everything up to its highest one.

  isMirrored(seq: number): boolean {
    return this.#sql.exec("SELECT 1 FROM kill_log WHERE seq = ? AND mirrored = 0", seq).toArray().length === 0;
  }

  /** Oldest first. */
  unmirrored(limit = 50): KillRecord[] {
    return this.#sql
      .exec<{ record: string }>("SELECT record FROM kill_log WHERE mirrored = 0 ORDER BY seq LIMIT ?", limit)
      .toArray()
      .map((row) => JSON.parse(row.record) as KillRecord);
  }

  markMirrored(seq: number): void {
    this.#sql.exec("UPDATE kill_log SET mirrored = 1 WHERE seq = ?", seq);
  }

  /** The last `seq` that is mirrored to D1, 0 for none. */
  lastMirrored(): number {
    return this.#sql
      .exec<{ seq: number }>("SELECT coalesce(max(seq), 0) AS seq FROM kill_log WHERE mirrored = 1 AND changed = 1")
      .one().seq;
  }

  /** Marks the records after `seq` to be mirrored again. */
  mirrorAfter(seq: number): void {
    this.#sql.exec("UPDATE kill_log SET mirrored = 0 WHERE seq > ? AND mirrored = 1 AND changed = 1", seq);
  }

  /** Deletes records that D1 has and that Time Travel can no longer take from it. */
  trim(now: number, keptRecords = KEPT_RECORDS): void {
    this.#sql.exec(
      `DELETE FROM kill_log WHERE mirrored = 1 AND (
         at < ? OR (changed = 0 AND at < ?)
         OR (seq <= (SELECT max(seq) FROM kill_log) - ? AND EXISTS (
           SELECT 1 FROM kill_log newer WHERE newer.flag = kill_log.flag AND newer.seq > kill_log.seq AND newer.changed = 1)))`,
      now - KEPT_MS,
      now - IDEMPOTENCY_MS,
      keptRecords,
    );
  }
}

/** Idempotency-Keys are scoped to the token that sent them; a request without one is never a repetition. */
function requester({ idempotencyKey, origin }: KillRequest): string | null {
  return idempotencyKey === null ? null : `${origin.tokenId} ${idempotencyKey}`;
}
