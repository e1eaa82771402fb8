/** Which history D1 has, against the one that a hub has published. Pure. */
import type { Change } from "../../workers/store/outbox/change.ts";
import type { Heads } from "../../workers/store/outbox/outbox.ts";

/** The last change of D1 that a hub has applied, and how far D1 is known to have its kills. */
export type Applied = { version: number; changeId: string };

/** Whether a change goes right on top of what is applied. */
export const fits = (change: Pick<Change, "version" | "previousId">, { version, changeId }: Applied): boolean =>
  change.version === version + 1 && change.previousId === changeId;

export type Judgement =
  /** These follow; there may be more where `isAll` is false. */
  | { verdict: "apply"; changes: Change[]; isAll: boolean }
  /** Something else stands where the applied change should: read the environment whole. */
  | { verdict: "reread" }
  /** The hub has moved on while D1 was asked: ask again. */
  | { verdict: "again" };

/** `rows` are D1's changes from the version `asked` on, at most `limit`; `applied` is where the hub is by now. */
export function judge(rows: Change[], asked: number, applied: Applied, limit: number): Judgement {
  const anchor = rows.find(({ version }) => version === applied.version);
  if (anchor?.id !== applied.changeId) return { verdict: applied.version === asked ? "reread" : "again" };
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

/** What D1's heads, read while the hub stood at `applied`, ask it to do. `toldKills` is the last kill that D1 was told of. */
export function compareHeads(
  heads: Heads,
  applied: Applied,
  toldKills: number,
): { catchUp: boolean; tellKills: boolean } {
  return {
    catchUp: heads.version !== applied.version || heads.changeId !== applied.changeId,
    tellKills: heads.killSeq < toldKills,
  };
}
