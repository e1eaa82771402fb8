/** Moves a hub's history to R2, behind its alarm: runs of patches, and whole rulesets between them. */
import { trimRevisions, writeBase, writeRun } from "../../workers/store/r2-history.ts";
import type { HubPosition, HubStorage } from "./storage.ts";

/** A run is written once this much has to be archived, or once its first patch is this old. */
const RUN_BYTES = 256 * 1024;
const RUN_WAITS_MS = 10 * 60_000;
const MAX_RUN_BYTES = 4 * 1024 * 1024;
/**
 * Readers start at the newest base: a new one is written once the patches since are as large as it, or in too many
 * runs.
 */
const BASE_AFTER_BYTES = 1024 * 1024;
const BASE_AFTER_RUNS = 50;
/** Every revision this old or newer can be rebuilt. */
const KEPT_MS = 90 * 24 * 60 * 60_000;

type Unarchived = { bytes: number; since: number | null };

/** When history is next to be written; null while there is nothing. */
export function archiveDueAt(position: HubPosition, { bytes, since }: Unarchived, now: number): number | null {
  if (position.archivedRevision < position.initialRevision || bytes >= RUN_BYTES) return now;
  return since === null ? null : since + RUN_WAITS_MS;
}

export const needsBase = ({ runs, runBytes, baseBytes }: HubPosition): boolean =>
  runs >= BASE_AFTER_RUNS || runBytes >= Math.max(BASE_AFTER_BYTES, baseBytes);

/** Archives everything up to now. A crash may make a run be written twice; readers skip the second. */
export async function archive(bucket: R2Bucket, storage: HubStorage, now: number): Promise<void> {
  const { environmentId, initialRevision } = storage.position as HubPosition;
  const at = () => storage.position as HubPosition;

  if (at().archivedRevision < initialRevision) {
    const first = storage.deltas.large(initialRevision);
    // If the log had no room for it, history begins with the next base.
    if (first !== null) await writeBase(bucket, environmentId, initialRevision, first);
    storage.atomically(() => {
      storage.deltas.deleteLarge(initialRevision);
      storage.move({ archivedRevision: initialRevision, baseRevision: initialRevision, runs: 0, runBytes: 0 });
      storage.move({ baseBytes: first?.length ?? 0 });
    });
  }

  for (;;) {
    const patches = storage.deltas.patches(at().archivedRevision, MAX_RUN_BYTES);
    const last = patches.at(-1)?.revision;
    if (last === undefined) break;
    const texts = patches.map(({ text }) => text);
    await writeRun(bucket, environmentId, last, texts);
    storage.atomically(() => {
      const { runs, runBytes } = at();
      const bytes = texts.reduce((sum, text) => sum + text.length, 0);
      storage.move({ archivedRevision: last, runs: runs + 1, runBytes: runBytes + bytes });
      storage.deltas.trim(last);
    });
  }

  if (!needsBase(at())) return;
  const { revision, ruleset } = storage.snapshot();
  await writeBase(bucket, environmentId, revision, ruleset);
  storage.move({ baseRevision: revision, baseBytes: ruleset.length, runs: 0, runBytes: 0 });
  await trimRevisions(bucket, environmentId, now - KEPT_MS);
}
