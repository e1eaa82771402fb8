/** Kills and restores: the hub's own decisions, and their mirror rows in D1. */

import type { MirroredKill } from "../../../workers/store/kills.ts";
import type { AuditEntry } from "../../../workers/store/outbox/change.ts";
import type { RequestOrigin } from "../../origin.ts";

export type KillRequest = {
  action: "kill" | "restore";
  flag: string;
  reason: string;
  idempotencyKey: string | null;
  origin: RequestOrigin;
};

/** `seq` orders an environment's kills and restores. */
export type KillState = { by: string; at: number; reason: string; seq: number };

/** A decided request. `changed` is false where the flag already was in the requested state. */
export type KillRecord = KillRequest & { seq: number; at: number; revision: number; changed: boolean };

/** The killed flags, and the kills and restores that D1 does not have yet, oldest first. */
export type KillsNow = { killed: Record<string, KillState>; pending: KillRecord[] };

/**
 * `killed` is the flag's current state. `mirrored`: D1 has the row and the audit entry. `replayed`: the request repeats
 * an earlier one, and `supersededBy` is the flag's last decision since, if any.
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

/** An Idempotency-Key belongs to one request: a different one with the same key is an error. */
export const isSameRequest = (one: KillRequest, other: KillRequest): boolean =>
  one.flag === other.flag && one.action === other.action && one.reason === other.reason;

/** What a request would result in for a flag in this state. */
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

/** Applies D1's rows to the known kills. */
export function overlayKills(known: Record<string, KillState>, rows: MirroredKill[]): Record<string, KillState> {
  const states = new Map(Object.entries(known));
  for (const { flagKey, killed, by, at, reason, seq } of rows) {
    if (killed) states.set(flagKey, { by, at, reason, seq });
    else states.delete(flagKey);
  }
  return Object.fromEntries(states);
}

export function toMirror(environmentId: string, record: KillRecord): { kill: MirroredKill; audit: AuditEntry } {
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
