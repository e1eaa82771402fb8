/** What an environment decides of a flag, and how people set it. Pure. */
import type { Flag, Serve } from "@bunting/core";
import { serveWithWeights } from "./splits.ts";

/** What an environment decides of a flag. */
export function targetingOf({ on, offVariation, prerequisites, targets, rules, fallthrough, trackExposures }: Flag) {
  return { on, offVariation, prerequisites, targets, rules, fallthrough, trackExposures };
}

/** What is served at a place, null where there is no such rule. */
export function serveAt(flag: Pick<Flag, "rules" | "fallthrough">, rule: string | null): Serve | null {
  return rule === null ? flag.fallthrough : (flag.rules.find(({ id }) => id === rule)?.serve ?? null);
}

/** The flag with weights, as people set them, in place of its splits' ranges. */
export const withWeights = (flag: Flag) => ({
  ...flag,
  rules: flag.rules.map((rule) => ({ ...rule, serve: serveWithWeights(rule.serve) })),
  fallthrough: serveWithWeights(flag.fallthrough),
});
