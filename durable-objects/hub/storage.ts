/** A hub's SQLite. Every method is synchronous, so that a decision and its record are one step. */
import type { Flag, Ruleset, Segment } from "@bunting/core";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { Documents, KeyGrant } from "../../workers/store/outbox/change.ts";
import type { KeyExpiries, Patch } from "../fan-out/delivery.ts";
import { DeltaLog } from "./delta-log.ts";
import { KillLog } from "./kills/log.ts";
import { MemberLists } from "./member-lists.ts";
import { Regions } from "./relays-per-region.ts";

/** `version` and `changeId` name the last change of D1 that is applied; `revision` is the hub's own count. */
export type HubPosition = {
  environmentId: string;
  revision: number;
  version: number;
  changeId: string;
  killSeq: number;
  /**
   * After a cold start without D1, until D1 has responded: D1 may have kills after this one that the hub lacks. Else
   * null.
   */
  unreadKillsAfter: number | null;
  /** The revision of the snapshot in KV, and the version that D1 has marked as published. */
  snapshotRevision: number;
  markedVersion: number;
  /** The revision of the initial state, the last one archived in R2, and that of the newest base there. */
  initialRevision: number;
  archivedRevision: number;
  baseRevision: number;
  /** The number and size of the runs since that base, and the size of the base. */
  runs: number;
  runBytes: number;
  baseBytes: number;
};

type DocumentKind = "flag" | "segment" | "key";

export class HubStorage {
  readonly #storage: DurableObjectStorage;
  readonly #sql: SqlStorage;
  readonly members: MemberLists;
  readonly kills: KillLog;
  readonly deltas: DeltaLog;
  readonly regions: Regions;
  #position: HubPosition | null;
  /** The encoded ruleset, cached for concurrent reads. */
  #encoded: { revision: number; text: string } | null = null;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    this.members = new MemberLists(storage.sql);
    this.kills = new KillLog(storage.sql);
    this.deltas = new DeltaLog(storage.sql);
    this.regions = new Regions(storage.kv);
    this.#position = storage.kv.get<HubPosition>("position") ?? null;
    if (this.#position !== null) this.prepare();
  }

  /**
   * Only once there is something to store: an invented environment id wakes an object, which must leave nothing behind.
   */
  prepare(): void {
    this.members.prepare();
    this.kills.prepare();
    this.deltas.prepare();
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS documents (kind TEXT, key TEXT, json TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS snapshots (revision INTEGER PRIMARY KEY, at INTEGER NOT NULL);
    `);
  }

  get position(): HubPosition | null {
    return this.#position;
  }

  move(changes: Partial<HubPosition>): void {
    const position = { ...this.#position, ...changes } as HubPosition;
    this.#storage.kv.put("position", position);
    this.#position = position;
  }

  /** Runs a step in a transaction, and restores the memory's state if it throws. */
  atomically<T>(step: () => T): T {
    const before = this.#position;
    try {
      return this.#storage.transactionSync(step);
    } catch (error) {
      this.#position = before;
      this.#encoded = null;
      if (before !== null) this.deltas.recount();
      throw error;
    }
  }

  // Documents as in D1, without kills.

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

  /** Documents as clients receive them: flags with kills, big segments with their lists. */
  forClients({ flags, segments, members = {} }: Documents): Pick<Patch, "flags" | "segments" | "members"> {
    const overlaid = Object.entries(flags).map(([key, flag]) => {
      const killed = flag !== null && this.kills.state(key) !== null;
      return [key, killed ? { ...flag, killed } : flag] as const;
    });
    const listed = Object.entries(segments).map(([key, segment]) => {
      return [key, segment === null ? null : this.members.join(segment)] as const;
    });
    const changed = Object.entries(members).map(([key, { added, removed }]) => [key, { added, removed }] as const);
    return {
      flags: Object.fromEntries(overlaid),
      segments: Object.fromEntries(listed),
      ...(changed.length > 0 && { members: Object.fromEntries(changed) }),
    };
  }

  flag(key: string): Flag | null {
    const [row] = this.#sql.exec<{ json: string }>("SELECT json FROM documents WHERE kind = 'flag' AND key = ?", key);
    return row === undefined ? null : (JSON.parse(row.json) as Flag);
  }

  /** The changes that turn the stored documents into the given ones: null for those that are gone. */
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

  /** The encoded ruleset is cached until `clearText`. */
  snapshot(): SnapshotParts {
    const position = this.#position as HubPosition;
    const { revision } = position;
    if (this.#encoded?.revision !== revision) this.#encoded = { revision, text: this.#encodeRuleset(position) };
    return {
      revision,
      version: position.version,
      changeId: position.changeId,
      killSeq: position.killSeq,
      unreadKillsAfter: position.unreadKillsAfter,
      keys: this.#keys(),
      kills: this.kills.states(),
      ruleset: this.#encoded.text,
      relays: this.regions.counts,
    };
  }

  clearText(): void {
    this.#encoded = null;
  }

  /** The ruleset as clients receive it, joined from the stored texts: only killed flags and big segments are parsed. */
  #encodeRuleset({ environmentId, revision }: HubPosition): string {
    const killed = new Set(Object.keys(this.kills.states()));
    const flags = this.#rows("flag").map(({ key, json }) =>
      killed.has(key) ? { key, json: JSON.stringify({ ...(JSON.parse(json) as Flag), killed: true }) } : { key, json },
    );
    const listed = this.members.segments();
    const segments = this.#rows("segment").map(({ key, json }) =>
      listed.has(key) ? { key, json: JSON.stringify(this.members.join(JSON.parse(json) as Segment)) } : { key, json },
    );
    const events = JSON.stringify({ exposureSampleRate: 1, summarySeconds: 30 });
    const head = `{"schema":1,"environment":${JSON.stringify(environmentId)},"revision":${revision},"events":${events}`;
    return `${head},"flags":${joined(flags)},"segments":${joined(segments)}}`;
  }

  keyExpiries(): KeyExpiries {
    return Object.fromEntries(Object.entries(this.#keys()).map(([hash, { expiresAt }]) => [hash, expiresAt]));
  }

  #keys(): Record<string, KeyGrant> {
    return Object.fromEntries(this.#rows("key").map(({ key, json }) => [key, JSON.parse(json) as KeyGrant]));
  }

  #rows(kind: DocumentKind): { key: string; json: string }[] {
    return this.#sql
      .exec<{ key: string; json: string }>("SELECT key, json FROM documents WHERE kind = ? ORDER BY key", kind)
      .toArray();
  }

  // Snapshots in KV: the newest two stay; older ones are deleted once no reader can still have their pointer.

  logSnapshot(revision: number, at: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", revision, at);
  }

  expiredSnapshots(before: number): number[] {
    return this.#sql
      .exec<{ revision: number }>(
        `SELECT revision FROM snapshots
         WHERE at < ? AND revision NOT IN (SELECT revision FROM snapshots ORDER BY revision DESC LIMIT 2)`,
        before,
      )
      .toArray()
      .map((row) => row.revision);
  }

  /** To be called after it was deleted from KV. */
  deleteSnapshot(revision: number): void {
    this.#sql.exec("DELETE FROM snapshots WHERE revision = ?", revision);
  }
}

function parts({ flags, segments, keys }: Documents): [DocumentKind, Record<string, unknown>][] {
  return [
    ["flag", flags],
    ["segment", segments],
    ["key", keys],
  ];
}

function joined(rows: { key: string; json: string }[]): string {
  return `{${rows.map(({ key, json }) => `${JSON.stringify(key)}:${json}`).join(",")}}`;
}
