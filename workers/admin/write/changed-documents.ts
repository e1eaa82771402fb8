/** The documents that a write changes, each as it is and as it would be, whatever the write is. */
import type { Flag, Segment } from "@bunting/core";
import type { Database } from "../../store/database.ts";
import { documentsThere } from "../../store/documents.ts";
import { areHeads } from "../../store/environments.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import type { Base, DocumentKind } from "../../store/schema/tables.ts";
import { movedBetween } from "../documents/impact.ts";
import { shownServe } from "../documents/splits.ts";
import { targetingOf } from "../flags/targeting-edit.ts";
import type { Audited, Plan } from "./write.ts";

type Fields = Record<string, unknown>;
export type Document = Flag | Segment | Fields | null;

/** `environment` is empty for what all of them have in common of a flag: there only the fields that change. Null: not there. */
export type Touched = { environment: string; kind: DocumentKind; key: string; before: Document; after: Document };

/** @throws LostRace where they are no longer what the plan was made on. */
export async function touchedBy(db: Database, { write }: Plan<unknown>): Promise<Touched[]> {
  if (write === undefined) return [];
  const edits = write.comesTo ?? write.edits ?? [];
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
  const heads = edits.map(({ head }) => head);
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

/** What is kept of it beside what was asked for. Of what would go, its version is enough. */
export function baseOf({ environment, kind, key, before, after }: Touched): Base {
  const version = (before as { version?: number } | null)?.version ?? null;
  const isGoing = version !== null && after === null;
  return { environment, kind, key, version, ...(!isGoing && { document: before as Base["document"] & object }) };
}

export const movedIn = ({ before, after }: Touched) =>
  isFlag(before) && isFlag(after) ? movedBetween(before, after) : [];

export const isFlag = (document: Document): document is Flag => document !== null && "fallthrough" in document;
export const isSegment = (document: Document): document is Segment => document !== null && "included" in document;

/** As answers show it: weights beside ranges. */
export function shownDocument(document: Document): Fields | null {
  if (!isFlag(document)) return document && { ...document };
  const { variations, clientSide, version } = document;
  const { rules, fallthrough, ...targeting } = targetingOf(document);
  const shownRules = rules.map((rule) => ({ ...rule, serve: shownServe(rule.serve) }));
  return { version, variations, clientSide, ...targeting, rules: shownRules, fallthrough: shownServe(fallthrough) };
}
