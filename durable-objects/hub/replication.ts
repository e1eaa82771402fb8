/** Replicates a hub's state by alarm: snapshots to KV, the published version to D1, history to R2. */

import type { Env } from "../../workers/env.ts";
import { D1_MS, within } from "../../workers/platform/deadline.ts";
import type { Database } from "../../workers/store/database.ts";
import { SnapshotWriter } from "../../workers/store/kv-snapshot.ts";
import { markPublished } from "../../workers/store/outbox/outbox.ts";
import { archive, archiveDueAt } from "./archive.ts";
import type { HubPosition, HubStorage } from "./storage.ts";

const SNAPSHOT_KEPT_MS = 10 * 60_000;

export class Replication {
  readonly #env: Pick<Env, "KV" | "REVISIONS_BUCKET">;
  readonly #snapshots: SnapshotWriter;
  readonly #db: Database;
  readonly #storage: HubStorage;
  #writing: Promise<void> = Promise.resolve();

  constructor(env: Pick<Env, "KV" | "REVISIONS_BUCKET">, db: Database, storage: HubStorage) {
    this.#env = env;
    this.#snapshots = new SnapshotWriter(env);
    this.#db = db;
    this.#storage = storage;
  }

  get #position(): HubPosition {
    return this.#storage.position as HubPosition;
  }

  /** Starts all replication that is due. */
  due(now: number): (Promise<void> | null)[] {
    const { markedVersion, version } = this.#position;
    const history = this.#historyDueAt(now);
    return [
      markedVersion !== version ? this.markPublished() : null,
      this.writeSnapshot(),
      history !== null && history <= now ? archive(this.#env.REVISIONS_BUCKET, this.#storage, now) : null,
    ];
  }

  /** In how many ms the next replication is due; null: none. KV takes one write a second for each key. */
  nextInMs(now: number, betweenSnapshotsMs: number): number | null {
    if (this.#position.snapshotRevision < this.#position.revision) return betweenSnapshotsMs;
    const history = this.#historyDueAt(now);
    return history === null ? null : Math.max(history - now, betweenSnapshotsMs);
  }

  #historyDueAt(now: number): number | null {
    return archiveDueAt(this.#position, this.#storage.deltas.sizeAfter(this.#position.archivedRevision), now);
  }

  async markPublished(): Promise<void> {
    const { environmentId, version, revision } = this.#position;
    await within(markPublished(this.#db, environmentId, version, revision), D1_MS, "D1");
    this.#storage.move({ markedVersion: version });
  }

  /** Writes what KV lacks. One write at a time, so that a slow one cannot set KV's pointer back after the next. */
  writeSnapshot(): Promise<void> {
    const written = this.#writing.then(() => {
      const { snapshotRevision, revision } = this.#position;
      return snapshotRevision < revision ? this.#writeNewest() : this.#writeRelayCounts();
    });
    this.#writing = written.catch(() => {});
    return written;
  }

  async #writeNewest(): Promise<void> {
    const parts = this.#storage.snapshot();
    const { environmentId } = this.#position;
    const now = Date.now();
    // Recorded before the write, so that a snapshot of an interrupted write is deleted like any other.
    this.#storage.logSnapshot(parts.revision, now);
    await this.#snapshots.write(environmentId, parts);
    this.#storage.move({ snapshotRevision: parts.revision });
    this.#storage.regions.markPublished(parts.relays);
    for (const revision of this.#storage.expiredSnapshots(now - SNAPSHOT_KEPT_MS)) {
      await this.#snapshots.delete(environmentId, revision);
      this.#storage.deleteSnapshot(revision);
    }
  }

  /** Cold Workers read the counts from KV's pointer, which only a new snapshot would write otherwise. */
  async #writeRelayCounts(): Promise<void> {
    const { environmentId, snapshotRevision: revision } = this.#position;
    const { regions } = this.#storage;
    const relays = regions.counts;
    if (!regions.hasUnpublishedCounts) return;
    await this.#snapshots.point(environmentId, { revision, relays });
    regions.markPublished(relays);
  }
}

/** Logs failures. Returns whether there were any. */
export function warnOfFailures(hub: string, results: PromiseSettledResult<unknown>[]): boolean {
  const failed = results.filter(({ status }) => status === "rejected");
  for (const one of failed) console.warn(JSON.stringify({ level: "warn", hub, ...one }, errorText));
  return failed.length > 0;
}

function errorText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
