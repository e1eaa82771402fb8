/** What can be done with a change request, and what becomes of it. Pure. */
import type { ChangeRequestEventKind, ChangeRequestStatus } from "../../store/schema/index.ts";

type Kind = Exclude<ChangeRequestEventKind, "open">;

/** What is left out cannot be done there. */
const transitions: Record<ChangeRequestStatus, Partial<Record<Kind, ChangeRequestStatus>>> = {
  draft: { submit: "open", edit: "draft", rebase: "draft", comment: "draft", withdraw: "withdrawn" },
  open: {
    edit: "open",
    rebase: "open",
    comment: "open",
    approve: "open",
    "request-changes": "open",
    withdraw: "withdrawn",
    publish: "published",
    fail: "failed",
  },
  // It could not be published at its time. Whoever edits it opens it again; whoever approves it can still publish it.
  failed: {
    edit: "open",
    rebase: "open",
    comment: "failed",
    approve: "failed",
    "request-changes": "failed",
    withdraw: "withdrawn",
    publish: "published",
  },
  published: { comment: "published" },
  withdrawn: { comment: "withdrawn" },
};

/** null: not in that state. */
export const statusAfter = (status: ChangeRequestStatus, kind: Kind): ChangeRequestStatus | null =>
  transitions[status][kind] ?? null;

type Event = { kind: ChangeRequestEventKind; revision: number; actorId: string };

/** The last word of each reviewer on a revision. */
export function verdicts<Said extends Event>(events: Said[], revision: number) {
  const said = events.filter((one) => one.revision === revision);
  const last = new Map<string, Said>();
  for (const event of said) {
    if (event.kind === "approve" || event.kind === "request-changes") last.set(event.actorId, event);
  }
  const all = [...last.values()];
  return {
    approvals: all.filter(({ kind }) => kind === "approve"),
    objections: all.filter(({ kind }) => kind === "request-changes"),
  };
}
