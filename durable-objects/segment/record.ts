/** A big segment's storage: its state, its members, and audit entries until D1 has them. */

import { newId } from "../../workers/platform/random-id.ts";
import type { SegmentPlace } from "../../workers/store/big-segments.ts";
import type { AuditEntry } from "../../workers/store/outbox/change.ts";
import type { RequestOrigin } from "../origin.ts";
import { SegmentMembers } from "./members.ts";
import { newState, type SegmentState } from "./state.ts";

/** The caller and the reason, for the audit entry. */
export type OriginAndReason = RequestOrigin & { reason: string | null };

export class SegmentRecord {
  readonly place: SegmentPlace;
  readonly members: SegmentMembers;
  readonly #storage: DurableObjectStorage;
  #state: SegmentState | null;

  constructor(storage: DurableObjectStorage, name: string) {
    const [environmentId = "", key = ""] = name.split("/");
    this.place = { environmentId, key };
    this.members = new SegmentMembers(storage.sql);
    this.#storage = storage;
    this.#state = storage.kv.get<SegmentState>("state") ?? null;
    if (this.#state !== null) this.members.prepare();
  }

  /** Null until the first write: an invented name wakes an object, which must leave nothing behind. */
  get stateOrNull(): SegmentState | null {
    return this.#state;
  }

  get state(): SegmentState {
    if (this.#state === null) throw new Error("This segment has no state yet: call `prepare` first");
    return this.#state;
  }

  /** To be called before the first write. */
  prepare(createdAt: number): void {
    this.members.prepare();
    this.move(newState(createdAt, 1));
  }

  /** Empties the segment, which was deleted or created again. Generations continue, since filters are immutable. */
  begin(createdAt: number, now: number): void {
    this.atomically(() => {
      this.members.clear();
      this.members.useFilter(null, now);
      this.move(newState(createdAt, this.state.next));
    });
  }

  move(changes: Partial<SegmentState>): void {
    const state = { ...this.#state, ...changes } as SegmentState;
    this.#storage.kv.put("state", state);
    this.#state = state;
  }

  atomically<T>(step: () => T): T {
    return this.#storage.transactionSync(step);
  }

  addAudit(action: string, origin: OriginAndReason, changes: AuditEntry["changes"]): void {
    const { key } = this.place;
    const what = { action, resourceType: "segment", key, changes };
    this.members.addAudit({ mirrorId: newId("seg"), timestamp: Date.now(), ...origin, ...what } satisfies AuditEntry);
  }
}
