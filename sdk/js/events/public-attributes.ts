import type { Context } from "@bunting/core";

/** Below the intake's limit; it also ends at a cycle. */
const MAX_LEVELS = 8;

/** The context as it may be sent: without the targeting key, which is the unit's business, and the private attributes. */
export function publicAttributes(context: Context, privateNames: readonly string[]): Record<string, unknown> {
  const kept = Object.entries(context).filter(
    ([name, value]) => name !== "targetingKey" && !privateNames.includes(name) && !isDeeperThan(value, MAX_LEVELS),
  );
  return Object.fromEntries(kept);
}

function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(inner, levels - 1));
}
