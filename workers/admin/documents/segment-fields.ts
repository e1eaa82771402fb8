/** What people decide of a segment; its uploaded members are a matter of their own. */

import type { EnvironmentName } from "../../store/credentials.ts";
import type { SegmentRow } from "../../store/documents.ts";
import type { UndoOf } from "../../store/outbox/change.ts";
import { undoOf, undoOfWhole } from "./undo.ts";

export type SegmentFields = Pick<SegmentRow, "name" | "description" | "included" | "excluded" | "rules">;

export const segmentFields = ({ name, description, included, excluded, rules }: SegmentFields): SegmentFields => ({
  name,
  description,
  included,
  excluded,
  rules,
});

/** Null: it is not there. */
export function segmentUndo(
  { environment }: EnvironmentName,
  key: string,
  before: SegmentFields | null,
  after: SegmentFields | null,
): UndoOf {
  const [from, to] = [before && segmentFields(before), after && segmentFields(after)];
  const undo = from === null || to === null ? undoOfWhole(from, to) : undoOf(from, to);
  return { kind: "segment", key, environment, undo };
}
