/** What a change carries: from the write that commits it, through the outbox, to the hub. */
import type { Flag, Segment } from "@bunting/core";
import type { MemberChange } from "@bunting/core/wire";
import type * as table from "../schema/index.ts";

/** What the data plane needs of an SDK key. Published by the hub to Workers, never to clients. */
export type KeyGrant = { id: string; kind: table.KeyKind; origins: string[]; expiresAt: number | null };

/** Whole documents by key, keys by hash; null means gone. */
export type Documents = {
  flags: Record<string, Flag | null>;
  segments: Record<string, Segment | null>;
  keys: Record<string, KeyGrant | null>;
  /** Of big segments, after `segments`, whose `big` has empty lists here: the hub keeps them. */
  members?: Record<string, MembersSince>;
};

/** Part of the filter from `generation` on, and said beside it until then. */
export type MembersSince = MemberChange & { generation: number };

export type Change = Documents & { environmentId: string; version: number; id: string; previousId: string };

/** What a write was validated against: the last change of one environment. */
export type Head = { environmentId: string; version: number; changeId: string };

/** `undo`: by document, what it took away. */
export type AuditEntry = Omit<typeof table.audit.$inferInsert, "id"> & { undo?: UndoOf[] };
export type UndoOf = Omit<typeof table.auditUndo.$inferInsert, "auditId">;
export type IdempotencyRecord = typeof table.idempotency.$inferInsert;
