/** Keys of projects, environments, flags, variations and segments. */
export const KEY_PATTERN: RegExp = /^(?!(?:\.\.?|__proto__|constructor|prototype)$)[A-Za-z0-9._~-]{1,128}$/;

export function isKey(value: unknown): value is string {
  return typeof value === "string" && KEY_PATTERN.test(value);
}
