/** A document that a write changes, as it is and as it would be. Pure. */
import type { Flag, Segment } from "@bunting/core";
import type { Base, DocumentKind } from "../../store/schema/index.ts";
import { shownServe } from "./splits.ts";
import { targetingOf } from "./targeting.ts";

export type Fields = Record<string, unknown>;
export type Document = Flag | Segment | Fields | null;

/** `environment` is empty for what all of them have in common of a flag: there only the fields that change. Null: not there. */
export type Touched = { environment: string; kind: DocumentKind; key: string; before: Document; after: Document };

/** What is kept of it beside what was asked for. Of what would go, its version is enough. */
export function baseOf({ environment, kind, key, before, after }: Touched): Base {
  const version = (before as { version?: number } | null)?.version ?? null;
  const isGoing = version !== null && after === null;
  return { environment, kind, key, version, ...(!isGoing && { document: before as Base["document"] & object }) };
}

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

/** A document of an environment, by the environment's key. */
export type Source = { environment: string; kind: "flag" | "segment"; key: string; version: number };
