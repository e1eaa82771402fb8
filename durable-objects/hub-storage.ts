/** What a hub remembers, in its SQLite. Every method is synchronous, so that a decision and its record are one step. */
import type { Flag, Ruleset, Segment } from "@bunting/core";
import type { Documents, KeyGrant } from "../workers/store/changes.ts";
import type { SnapshotParts } from "../workers/store/snapshot.ts";
import type { Delivery } from "./delivery.ts";
import type { KillRecord, KillRequest, KillState } from "./kill.ts";
import { MemberLists } from "./member-lists.ts";

/** `version` and `changeId` name the last change of D1 that is applied; `revision` is the hub's own count. */
export type Position = {
  environmentId: string;
  revision: number;
  version: number;
  changeId: string;
  killSeq: number;
  /** How far the KV snapshot and the row in D1 have followed. */
  snapshotRevision: number;
  markedVersion: number;
};

type Kind = "flag" | "segment" | "key";

/** Deltas beyond this are dropped, oldest first; who asks for one of them fetches the ruleset. */
const DELTA_LOG_BYTES = 8 * 1024 * 1024;
/** What a relay keeps too: whoever lacks more than this fetches the ruleset, which is no larger than many such runs. */
const MAX_RUN_BYTES = 1024 * 1024;
const IDEMPOTENCY_MS = 24 * 60 * 60 * 1_000;

export class HubStorage {
  readonly #storage: DurableObjectStorage;
  readonly #sql: SqlStorage;
  readonly members: MemberLists;
  #position: Position | null;
  #deltaBytes = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    this.members = new MemberLists(storage.sql);
    this.#position = storage.kv.get<Position>("position") ?? null;
    if (this.#position !== null) this.prepare();
  }

  /** Not before there is something to keep: a made-up environment's id wakes an object, which must leave nothing behind. */
  prepare(): void {
    this.members.prepare();
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS documents (kind TEXT, key TEXT, json TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS kills (flag TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS kill_log
        (seq INTEGER PRIMARY KEY, record TEXT NOT NULL, requester TEXT UNIQUE, at INTEGER NOT NULL, mirrored INTEGER NOT NULL);
      CREATE INDEX IF NOT EXISTS kill_log_unmirrored ON kill_log (seq) WHERE mirrored = 0;
      CREATE TABLE IF NOT EXISTS deltas (revision INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, delivery TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS snapshots (revision INTEGER PRIMARY KEY, at INTEGER NOT NULL);
    `);
    this.#deltaBytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM deltas").one().bytes;
  }

  get position(): Position | null {
    return this.#position;
  }

  move(changes: Partial<Position>): void {
    const position = { ...this.#position, ...changes } as Position;
    this.#storage.kv.put("position", position);
    this.#position = position;
  }

  atomically<T>(step: () => T): T {
    return this.#storage.transactionSync(step);
  }

  // Documents: D1's, without kills.

  write(documents: Documents): void {
    for (const [kind, entries] of parts(documents)) {
      for (const [key, document] of Object.entries(entries)) {
        if (document === null) this.#sql.exec("DELETE FROM documents WHERE kind = ? AND key = ?", kind, key);
        else {
          this.#sql.exec("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", kind, key, JSON.stringify(document));
        }
      }
    }
    this.members.write(documents);
  }

  flag(key: string): Flag | null {
    const [row] = this.#sql.exec<{ json: string }>("SELECT json FROM documents WHERE kind = 'flag' AND key = ?", key);
    return row === undefined ? null : (JSON.parse(row.json) as Flag);
  }

  /** What turns the documents held into those given: null for what is no longer there. */
  difference(ruleset: Ruleset, keys: Record<string, KeyGrant>): Documents {
    const result: Documents = { flags: {}, segments: {}, keys: {} };
    const wanted = parts({ flags: ruleset.flags, segments: ruleset.segments, keys });
    const target = parts(result);
    for (const [index, [kind, entries]] of wanted.entries()) {
      const held = new Map(this.#rows(kind).map((row) => [row.key, row.json]));
      const changed = target[index]![1] as Record<string, unknown>;
      for (const [key, document] of Object.entries(entries)) {
        if (held.get(key) !== JSON.stringify(document)) changed[key] = document;
        held.delete(key);
      }
      for (const key of held.keys()) changed[key] = null;
    }
    return result;
  }

  /** The ruleset as clients get it, kills laid over it, joined from the stored texts without parsing them. */
  snapshot(): SnapshotParts {
    const position = this.#position as Position;
    const killed = new Set(Object.keys(this.kills()));
    const flags = this.#rows("flag").map(({ key, json }) =>
      killed.has(key) ? { key, json: JSON.stringify({ ...(JSON.parse(json) as Flag), killed: true }) } : { key, json },
    );
    const listed = this.members.segments();
    const segments = this.#rows("segment").map(({ key, json }) =>
      listed.has(key) ? { key, json: JSON.stringify(this.members.join(JSON.parse(json) as Segment)) } : { key, json },
    );
    const events = JSON.stringify({ exposureSampleRate: 1, summarySeconds: 30 });
    const head = `{"schema":1,"environment":${JSON.stringify(position.environmentId)},"revision":${position.revision},"events":${events}`;
    const ruleset = `${head},"flags":${joined(flags)},"segments":${joined(segments)}}`;
    return {
      revision: position.revision,
      version: position.version,
      changeId: position.changeId,
      killSeq: position.killSeq,
      keys: Object.fromEntries(this.#rows("key").map(({ key, json }) => [key, JSON.parse(json) as KeyGrant])),
      kills: this.kills(),
      ruleset,
    };
  }

  keyHashes(): string[] {
    return this.#rows("key").map(({ key }) => key);
  }

  #rows(kind: Kind): { key: string; json: string }[] {
    return this.#sql
      .exec<{ key: string; json: string }>("SELECT key, json FROM documents WHERE kind = ? ORDER BY key", kind)
      .toArray();
  }

  // Kills: the hub's own.

  kill(flag: string): KillState | null {
    const [row] = this.#sql.exec<{ state: string }>("SELECT state FROM kills WHERE flag = ?", flag);
    return row === undefined ? null : (JSON.parse(row.state) as KillState);
  }

  kills(): Record<string, KillState> {
    const rows = this.#sql.exec<{ flag: string; state: string }>("SELECT flag, state FROM kills").toArray();
    return Object.fromEntries(rows.map((row) => [row.flag, JSON.parse(row.state) as KillState]));
  }

  setKill(flag: string, state: KillState | null): void {
    if (state === null) this.#sql.exec("DELETE FROM kills WHERE flag = ?", flag);
    else this.#sql.exec("INSERT OR REPLACE INTO kills VALUES (?, ?)", flag, JSON.stringify(state));
  }

  logKill(record: KillRecord, now: number): void {
    this.#sql.exec("DELETE FROM kill_log WHERE mirrored = 1 AND at < ?", now - IDEMPOTENCY_MS);
    const mirrored = record.changed ? 0 : 1;
    const { seq, at } = record;
    this.#sql.exec(
      "INSERT INTO kill_log VALUES (?, ?, ?, ?, ?)",
      seq,
      JSON.stringify(record),
      requester(record),
      at,
      mirrored,
    );
  }

  /** What the request that came with the same Idempotency-Key became. */
  answered(request: KillRequest): KillRecord | null {
    const [row] = this.#sql.exec<{ record: string }>(
      "SELECT record FROM kill_log WHERE requester = ?",
      requester(request),
    );
    return row === undefined ? null : (JSON.parse(row.record) as KillRecord);
  }

  isMirrored(seq: number): boolean {
    return this.#sql.exec("SELECT 1 FROM kill_log WHERE seq = ? AND mirrored = 0", seq).toArray().length === 0;
  }

  unmirrored(limit = 50): KillRecord[] {
    return this.#sql
      .exec<{ record: string }>("SELECT record FROM kill_log WHERE mirrored = 0 ORDER BY seq LIMIT ?", limit)
      .toArray()
      .map((row) => JSON.parse(row.record) as KillRecord);
  }

  markMirrored(seq: number): void {
    this.#sql.exec("UPDATE kill_log SET mirrored = 1 WHERE seq = ?", seq);
  }

  /** D1 has gone back in time: what it knew of the kills of the last day may be gone. Twice changes nothing there. */
  mirrorAgain(): void {
    this.#sql.exec("UPDATE kill_log SET mirrored = 0 WHERE json_extract(record, '$.changed')");
  }

  // Deltas.

  logDelivery(delivery: Delivery): void {
    const text = JSON.stringify(delivery);
    this.#sql.exec("INSERT INTO deltas VALUES (?, ?, ?)", delivery.revision, text.length, text);
    this.#deltaBytes += text.length;
    while (this.#deltaBytes > DELTA_LOG_BYTES) {
      const [oldest] = this.#sql.exec<{ bytes: number }>(
        "DELETE FROM deltas WHERE revision = (SELECT min(revision) FROM deltas) RETURNING bytes",
      );
      if (oldest === undefined) break;
      this.#deltaBytes -= oldest.bytes;
    }
  }

  delivery(revision: number): Delivery | null {
    const [row] = this.#sql.exec<{ delivery: string }>("SELECT delivery FROM deltas WHERE revision = ?", revision);
    return row === undefined ? null : (JSON.parse(row.delivery) as Delivery);
  }

  /** All that came after `revision`. Null where the log does not reach back so far, or where it is too much to send. */
  deliveriesAfter(revision: number): Delivery[] | null {
    if (revision === this.#position?.revision) return [];
    const { first, bytes } = this.#sql
      .exec<{ first: number | null; bytes: number }>(
        "SELECT min(revision) AS first, total(bytes) AS bytes FROM deltas WHERE revision > ?",
        revision,
      )
      .one();
    if (first !== revision + 1 || bytes > MAX_RUN_BYTES) return null;
    return this.#sql
      .exec<{ delivery: string }>("SELECT delivery FROM deltas WHERE revision > ? ORDER BY revision", revision)
      .toArray()
      .map((row) => JSON.parse(row.delivery) as Delivery);
  }

  // Snapshots in KV: the newest two stay, others once readers can no longer be on their way to them.

  logSnapshot(revision: number, at: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", revision, at);
  }

  takeExpiredSnapshots(before: number): number[] {
    return this.#sql
      .exec<{ revision: number }>(
        `DELETE FROM snapshots WHERE at < ? AND revision NOT IN (SELECT revision FROM snapshots ORDER BY revision DESC LIMIT 2)
         RETURNING revision`,
        before,
      )
      .toArray()
      .map((row) => row.revision);
  }
}

function parts({ flags, segments, keys }: Documents): [Kind, Record<string, unknown>][] {
  return [
    ["flag", flags],
    ["segment", segments],
    ["key", keys],
  ];
}

function joined(rows: { key: string; json: string }[]): string {
  return `{${rows.map(({ key, json }) => `${JSON.stringify(key)}:${json}`).join(",")}}`;
}

/** An Idempotency-Key belongs to the token that sent it; without one every request is its own. */
function requester({ idempotencyKey, origin }: KillRequest): string | null {
  return idempotencyKey === null ? null : `${origin.tokenId} ${idempotencyKey}`;
}
