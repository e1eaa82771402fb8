import { bucket, type Context, type Decision, type Flag, type Split } from "@bunting/core";

/** What an evaluation leaves behind, decided purely. */

/** Whose exposure it is: the value that the split hashed, else the targeting key; null when there is neither. */
export function unitOf(flag: Flag, decision: Decision, context: Context): string | null {
  const split = splitOf(flag, decision);
  const value = split === null ? context.targetingKey : read(context, split.by);
  if (typeof value === "string" && value !== "") return value;
  return Number.isSafeInteger(value) ? String(value) : null;
}

function splitOf(flag: Flag, decision: Decision): Split | null {
  if (decision.bucket === undefined) return null;
  const serve = decision.ruleIndex === undefined ? flag.fallthrough : flag.rules[decision.ruleIndex]?.serve;
  return serve !== undefined && "split" in serve ? serve.split : null;
}

/** EV-10: a name, or a path that begins with a slash; own properties only. */
function read(context: Context, name: string): unknown {
  if (name === "key" || name === "targetingKey") return context.targetingKey;
  const steps = name.startsWith("/") ? name.slice(1).split("/").map(unescapeStep) : [name];
  let value: unknown = context;
  for (const step of steps) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

const unescapeStep = (step: string): string => step.replaceAll("~1", "/").replaceAll("~0", "~");

/** By hash and never at random, so that a unit is in or out for all its events, in every SDK. */
export function isSampled(unit: string, rate: number): boolean {
  return rate >= 1 || bucket("exposure", unit) < rate * 100_000;
}

/** The context as it may be sent: without the targeting key, which is the unit's business, and the private attributes. */
export function publicAttributes(context: Context, privateNames: ReadonlySet<string>): Record<string, unknown> {
  const kept = Object.entries(context).filter(
    ([name, value]) => name !== "targetingKey" && !privateNames.has(name) && !isDeeperThan(value, MAX_LEVELS),
  );
  return Object.fromEntries(kept);
}

/** Below the intake's limit; it also ends at a cycle. */
const MAX_LEVELS = 8;

function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(inner, levels - 1));
}
