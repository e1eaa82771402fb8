/** A write before it is made: the rows, documents and audit entries that it comes to, and the answer. Types only. */
import type { Approver } from "../../store/approvals/policy.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Statement } from "../../store/database.ts";
import type { Documents, Head, UndoOf } from "../../store/outbox/change.ts";
import type { FieldChange } from "../../store/schema/index.ts";
import type { Source } from "../documents/changed-document.ts";

export type Edit = { name: EnvironmentName; head: Head; documents: Partial<Documents> };

export type Audited = {
  action: string;
  type:
    | "project"
    | "environment"
    | "flag"
    | "segment"
    | "key"
    | "token"
    | "repository"
    | "policy"
    | "change-request"
    | "kill-review"
    | "schedule"
    | "ramp";
  project?: string;
  environment?: string;
  key: string;
  changes: Record<string, FieldChange>;
  /** What it takes away, for who wants it back. Left out: it cannot be put back. */
  undo?: UndoOf[];
  /** The entry that it puts back. */
  reverts?: number;
  changeRequest?: string;
  /** Where somebody else than who writes has asked for it. */
  by?: Partial<Origin>;
  /** The ids of what it is a part of. */
  schedule?: string;
  ramp?: string;
};

export type Plan<Body> = {
  status: 200 | 201 | 204;
  /** The answer, as far as it is known before the hub has spoken, without secrets: a repeated request is given it. */
  body: Body;
  etag?: string;
  /** Absent where the request changes nothing: then nothing is written. */
  write?: {
    statements: Statement[];
    edits?: Edit[];
    /** The project as read, where the write depends on its set of environments or flags. */
    project?: { id: string; version: number };
    audit: Audited;
    /** Where one write changes many things, or is the end of another: an entry for each of the others. */
    alsoAudited?: Audited[];
    /** Who has approved of it, where a change request is what is written. */
    approvedBy?: Approver[];
    /** What it will come to by itself: approval is asked for that, as nobody in particular. */
    finalEdits?: Edit[];
    /** A way back to what was there before: no policy holds it up. */
    isRollback?: boolean;
  };
  /** What is answered once only cannot be kept for a repetition. */
  secret?: boolean;
  /** What else it was made of, which is not written: what it makes of others. */
  sources?: Source[];
  /** When something of it is due. */
  wakeAt?: number | null;
  /** What has to be so elsewhere before it is committed. */
  prepare?: () => Promise<void>;
};

/** Who did it and from where, as the audit log keeps it. */
export type Origin = {
  actor: string;
  tokenId: string | null;
  sourceIp: string | null;
  userAgent: string | null;
  correlationId: string;
};
