/** The documents that a write changes, each as it is and as it would be, whatever the write is. */
import type { Database } from "../../store/database.ts";
import { documentsThere } from "../../store/documents.ts";
import { areHeads } from "../../store/environments.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import type { DocumentKind } from "../../store/schema/index.ts";
import type { Document, Fields, Touched } from "../documents/changed-document.ts";
import type { Audited, Plan } from "./plan.ts";

/** @throws LostRace where they are no longer what the plan was made on. */
export async function touchedBy(db: Database, { write }: Pick<Plan<unknown>, "write">): Promise<Touched[]> {
  if (write === undefined) return [];
  const edits = write.finalEdits ?? write.edits ?? [];
  const environments = await Promise.all(
    edits.map(async ({ name, documents: { flags = {}, segments = {} } }) => {
      const keys = { flags: Object.keys(flags), segments: Object.keys(segments) };
      const there = await documentsThere(db, name.id, keys);
      const touched = (kind: DocumentKind, before: Record<string, Document>, after: Record<string, Document>) =>
        Object.entries(after).map(([key, next]): Touched => {
          const was = Object.hasOwn(before, key) ? before[key]! : null;
          return { environment: name.environment, kind, key, before: was, after: next };
        });
      return [...touched("flag", there.flags, flags), ...touched("segment", there.segments, segments)];
    }),
  );
  // An environment that is made or goes as a whole has no documents here, and one that is new no head yet.
  const heads = edits.filter(({ documents }) => Object.keys(documents).length > 0).map(({ head }) => head);
  if (!(await areHeads(db, heads))) throw new LostRace();
  return [...[write.audit, ...(write.alsoAudited ?? [])].flatMap(common), ...environments.flat()];
}

/** In each environment's document as well. */
const IN_DOCUMENTS = /^(variations|clientSide|archivedAt|key)\b/;

function common({ type, environment, key, changes }: Audited): Touched[] {
  const fields = Object.entries(changes).filter(([path]) => !IN_DOCUMENTS.test(path));
  if (type !== "flag" || environment !== undefined || fields.length === 0) return [];
  const side = (from: "from" | "to"): Fields =>
    Object.fromEntries(fields.flatMap(([path, change]) => (change[from] === undefined ? [] : [[path, change[from]]])));
  return [{ environment: "", kind: "flag", key, before: side("from"), after: side("to") }];
}
