import type { Incoming, Patch, Put } from "../sync/state.ts";

export type Fields = Record<string, unknown>;

export const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
export const isRevision = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** A window that is absent or absurd is an hour at most: nobody may be sent away for ever by one bad number. */
export const windowMs = (value: unknown): number => (Number(value) > 0 ? Math.min(Number(value), 3_600_000) : 0);

/** Undefined for what is not JSON. */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether these are documents by key, null where one may be gone. */
export const areDocuments = (value: unknown, mayDelete: boolean): boolean =>
  isObject(value) && Object.values(value).every((document) => isObject(document) || (mayDelete && document === null));

/**
 * Reads one stream message; `readChange` those that bring something. What cannot be read is `invalid`, or `alive`
 * when only its type is unknown (EV-36).
 */
export function readMessage<P extends Put, D extends Patch>(
  text: string,
  eventName: string | undefined,
  readChange: (body: Fields & { type: string; revision: number }) => P | D | undefined,
): Incoming<P, D> {
  const body = parse(text);
  if (!isObject(body)) return { type: "invalid" };
  const { type = eventName, revision } = body;
  switch (type) {
    case "hello":
    case "resync":
    case "heartbeat":
    case "patch":
    case "put":
      if (!isRevision(revision)) return { type: type === "heartbeat" ? "alive" : "invalid" };
      if (type === "hello") return { type, revision, reconnectWithinMs: windowMs(body.reconnectWithinMs) };
      if (type === "resync") return { type, revision, withinMs: windowMs(body.withinMs) };
      if (type === "heartbeat") return { type, revision };
      return readChange({ ...body, type, revision }) ?? { type: "invalid" };
    case "goodbye":
      return { type, withinMs: windowMs(body.withinMs), reason: String(body.reason ?? "") };
  }
  return { type: typeof type === "string" ? "alive" : "invalid" };
}
