/** Compares D1's history with the one that a hub has published. Pure. */
import type { Change } from "../../workers/store/outbox/change.ts";
import type { Heads } from "../../workers/store/outbox/outbox.ts";

/** The last change of D1 that a hub has applied. */
export type Applied = { version: number; changeId: string };

/** Whether a change directly follows the applied one. */
export const fits = (change: Pick<Change, "version" | "previousId">, { version, changeId }: Applied): boolean =>
  change.version === version + 1 && change.previousId === changeId;

export type LineageVerdict =
  /** `changes` follow the applied one; there may be more where `isAll` is false. */
  | { verdict: "apply"; changes: Change[]; isAll: boolean }
  /** D1 has another change at the applied version: read the whole environment. */
  | { verdict: "reread" }
  /** The hub has applied changes while it read D1: read again. */
  | { verdict: "again" };

/**
 * `rows` are D1's changes from version `from` on, at most `limit`; `applied` is the hub's state after they were read.
 */
export function compareChanges(rows: Change[], from: number, applied: Applied, limit: number): LineageVerdict {
  const anchor = rows.find(({ version }) => version === applied.version);
  if (anchor?.id !== applied.changeId) return { verdict: applied.version === from ? "reread" : "again" };
  const changes: Change[] = [];
  let on: Applied = applied;
  for (const change of rows) {
    if (change.version <= applied.version) continue;
    if (!fits(change, on))
      return changes.length === 0 ? { verdict: "reread" } : { verdict: "apply", changes, isAll: false };
    changes.push(change);
    on = { version: change.version, changeId: change.id };
  }
  return { verdict: "apply", changes, isAll: rows.length < limit };
}

/** What a hub at `applied` has to do, given D1's heads. `mirroredKills` is the last kill that was mirrored to D1. */
export function compareHeads(
  heads: Heads,
  applied: Applied,
  mirroredKills: number,
): { catchUp: boolean; mirrorKills: boolean } {
  return {
    catchUp: heads.version !== applied.version || heads.changeId !== applied.changeId,
    mirrorKills: heads.killSeq < mirroredKills,
  };
}
