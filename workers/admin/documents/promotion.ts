/** A document of one environment as another would take it over: its weights, with the other's seeds and ranges. Pure. */
import type { Flag, Serve } from "@bunting/core";
import type { SegmentRow } from "../../store/documents.ts";
import { same } from "./diff.ts";
import type { ServeInput } from "./schema.ts";
import { type SegmentFields, segmentFields } from "./segment-fields.ts";
import { rulesOf, segmentRulesOf, serveOf, serveWithWeights } from "./splits.ts";
import { withWeights } from "./targeting.ts";

/** What can be promoted of a flag, each by itself. A kill cannot: it is of no document. */
export const PARTS = [
  "on",
  "offVariation",
  "prerequisites",
  "targets",
  "rules",
  "fallthrough",
  "trackExposures",
] as const;
export type Part = (typeof PARTS)[number];

/** The target with some parts of the source: users move as little as the weights make them. */
export function promotedFlag(source: Flag, target: Flag, parts: readonly Part[]): Flag {
  const taken = {
    on: source.on,
    offVariation: source.offVariation,
    prerequisites: source.prerequisites,
    targets: source.targets,
    rules: rulesOf(
      source.rules.map((rule) => ({ ...rule, serve: weighted(rule.serve) })),
      target,
    ),
    fallthrough: serveOf(weighted(source.fallthrough), target.fallthrough, target),
    trackExposures: source.trackExposures,
  };
  return { ...target, ...Object.fromEntries(parts.map((part) => [part, taken[part]])) };
}

function weighted(serve: Serve): ServeInput {
  const plain = serveWithWeights(serve);
  return "variation" in plain ? plain : { split: { weights: plain.split.weights, by: plain.split.by } };
}

/** Which parts a promotion of all would change. */
export function differingParts(source: Flag, target: Flag): Part[] {
  const [was, is] = [withWeights(target), withWeights(promotedFlag(source, target, PARTS))];
  return PARTS.filter((part) => !same(was[part], is[part]));
}

/** Without members that were uploaded. */
export function promotedSegment(source: SegmentRow, target: SegmentRow | null): SegmentFields {
  const rules = source.rules.map(({ sample, ...rule }) => ({
    ...rule,
    ...(sample && { sample: { by: sample.by, buckets: sample.buckets } }),
  }));
  return { ...segmentFields(source), rules: segmentRulesOf(rules, target?.rules ?? [], source.key) };
}
