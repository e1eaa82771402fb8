/** Moves a hub's history to R2, behind its alarm: runs of patches, and whole rulesets between them. */
import { trimRevisions, writeBase, writeRun } from "../../workers/store/r2-history.ts";
import type { HubStorage, Position } from "./storage.ts";

/** A run is written once so much waits for it, or once its first patch has waited so long. */
const RUN_BYTES = 256 * 1024;
const RUN_WAITS_MS = 10 * 60_000;
const MAX_RUN_BYTES = 4 * 1024 * 1024;
/** A base spares readers what is older: written once the patches since weigh as much as it, or are in too many runs. */
const BASE_AFTER_BYTES = 1024 * 1024;
const BASE_AFTER_RUNS = 50;
/** Any revision of this time can be rebuilt. */
const KEPT_MS = 90 * 24 * 60 * 60_000;

type Waiting = { bytes: number; since: number | null };

/** When history is next to be written; null while there is nothing. */
export function archiveDueAt(position: Position, { bytes, since }: Waiting, now: number): number | null {
  if (position.archivedRevision < position.initialRevision || bytes >= RUN_BYTES) return now;
  return since === null ? null : since + RUN_WAITS_MS;
}

export const needsBase = ({ runs, runBytes, baseBytes }: Position): boolean =>
  runs >= BASE_AFTER_RUNS || runBytes >= Math.max(BASE_AFTER_BYTES, baseBytes);

/** Everything there is by now. What was written twice, because a crash came between, is read once. */
export async function archive(bucket: R2Bucket, storage: HubStorage, now: number): Promise<void> {
  const { environmentId, initialRevision } = storage.position as Position;
  const at = () => storage.position as Position;

  if (at().archivedRevision < initialRevision) {
    const first = storage.deltas.large(initialRevision);
    // Without it, as when the log had no room, history begins with the next base.
    if (first !== null) await writeBase(bucket, environmentId, initialRevision, first);
    storage.atomically(() => {
      storage.deltas.forgetLarge(initialRevision);
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
