/** What callers pass and flags hold, checked: JavaScript callers may pass anything. */
import type { Context, Decision, Json } from "@bunting/core";

export const contextOf = (given: unknown): Context =>
  typeof given === "object" && given !== null ? (given as Context) : {};

export function targetingKeyOf(context: Context): string | null {
  try {
    const { targetingKey } = context;
    return typeof targetingKey === "string" && targetingKey !== "" ? targetingKey : null;
  } catch {
    return null;
  }
}

export const isBoolean = (value: Json): boolean => typeof value === "boolean";
export const isString = (value: Json): boolean => typeof value === "string";
export const isNumber = (value: Json): boolean => typeof value === "number";
export const isAny = (): boolean => true;

export function checkFor(defaultValue: Json): (value: Json) => boolean {
  if (typeof defaultValue === "boolean") return isBoolean;
  if (typeof defaultValue === "string") return isString;
  return typeof defaultValue === "number" ? isNumber : isAny;
}

export const unknownFlag = (value: Json): Decision => ({
  value,
  variation: null,
  reason: "ERROR",
  errorCode: "FLAG_NOT_FOUND",
  flagVersion: 0,
});
