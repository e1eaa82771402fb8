/** Kills and restores: the hub's own decisions, and what D1 is told of them. */

import type { MirroredKill } from "../../../workers/store/kills.ts";
import type { AuditEntry } from "../../../workers/store/outbox/change.ts";
import type { Origin } from "../../origin.ts";

export type KillRequest = {
  action: "kill" | "restore";
  flag: string;
  reason: string;
  idempotencyKey: string | null;
  origin: Origin;
};

/** `seq` orders an environment's kills and restores. */
export type KillState = { by: string; at: number; reason: string; seq: number };

/** What a request became. `changed` is false where the flag already was as asked. */
export type KillRecord = KillRequest & { seq: number; at: number; revision: number; changed: boolean };

/** What is killed, by flag, and which kills and restores D1 has not received yet, oldest first. */
export type KillsNow = { killed: Record<string, KillState>; pending: KillRecord[] };

/**
 * `killed` is how it is now. `mirrored`: D1 has the row and the audit entry. `replayed`: the same request was answered before;
 * `supersededBy` is the last decision since then, where there was one.
 */
export type KillOutcome =
  | {
      outcome: "done";
      revision: number;
      changed: boolean;
      killed: KillState | null;
      mirrored: boolean;
      replayed: boolean;
      supersededBy: KillRecord | null;
    }
  | { outcome: "unknown-flag" }
  | { outcome: "idempotency-key-reused" };

/** An Idempotency-Key stands for one request: sent with another, it is a mistake and not a repetition. */
export const isSameRequest = (one: KillRequest, other: KillRequest): boolean =>
  one.flag === other.flag && one.action === other.action && one.reason === other.reason;

/** What a request would become of a flag that is in this state. */
export function previewOutcome(
  request: KillRequest,
  state: KillState | null,
  revision: number,
  at: number,
): KillOutcome {
  const { action, reason, origin } = request;
  const changed = (state !== null) !== (action === "kill");
  const next = action === "kill" ? { by: origin.actor, at, reason, seq: 0 } : null;
  const nothing = { mirrored: false, replayed: false, supersededBy: null };
  return { outcome: "done", revision, changed, killed: changed ? next : state, ...nothing };
}

/** What D1 knows to be killed, laid over what was known before. */
export function laidOver(known: Record<string, KillState>, rows: MirroredKill[]): Record<string, KillState> {
  const states = new Map(Object.entries(known));
  for (const { flagKey, killed, by, at, reason, seq } of rows) {
    if (killed) states.set(flagKey, { by, at, reason, seq });
    else states.delete(flagKey);
  }
  return Object.fromEntries(states);
}

export function mirrorOf(environmentId: string, record: KillRecord): { kill: MirroredKill; audit: AuditEntry } {
  const { action, flag, origin, seq, at, reason } = record;
  const killed = action === "kill";
  return {
    kill: { environmentId, flagKey: flag, seq, killed, by: origin.actor, at, reason },
    audit: {
      mirrorId: `${environmentId}/${seq}`,
      timestamp: at,
      action: `flag.${action}`,
      resourceType: "flag",
      key: flag,
      changes: { killed: { from: !killed, to: killed } },
      reason: reason === "" ? null : reason,
      ...origin,
    },
  };
}
