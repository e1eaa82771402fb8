import type { Flag, Ruleset, Segment } from "@bunting/core";
import type { MemberChange, PatchMessage, ServerMessage } from "@bunting/core/wire";

/** What a transport can deliver. `heard` proves that the other side lives and says nothing else. */
export type Incoming =
  | ServerMessage
  | { type: "ruleset"; ruleset: Ruleset }
  | { type: "unchanged" }
  | { type: "heard" }
  | { type: "garbage" };

type Fields = Record<string, unknown>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isRevision = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** A window that is absent or absurd is an hour at most: nobody may be sent away for ever by one bad number. */
const windowMs = (value: unknown): number => (typeof value === "number" && value > 0 ? Math.min(value, 3_600_000) : 0);

function documents<T>(value: unknown, mayDelete: boolean): Record<string, T> | null {
  if (value === undefined) return {};
  if (!isObject(value)) return null;
  for (const key of Object.keys(value)) if (!isObject(value[key]) && !(mayDelete && value[key] === null)) return null;
  return value as Record<string, T>;
}

/**
 * Reads one stream message. Over SSE the type is the event's name, over WebSocket a field.
 * What is not understood is `garbage`, or `heard` when only its type is unknown (EV-36).
 */
export function readMessage(text: string, eventName?: string): Incoming {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { type: "garbage" };
  }
  if (!isObject(body)) return { type: "garbage" };
  const type = typeof body.type === "string" ? body.type : eventName;
  switch (type) {
    case "hello":
      if (!isRevision(body.revision)) return { type: "garbage" };
      return { type, revision: body.revision, reconnectWithinMs: windowMs(body.reconnectWithinMs) };
    case "patch":
      return readPatch(body) ?? { type: "garbage" };
    case "resync":
      if (!isRevision(body.revision)) return { type: "garbage" };
      return { type, revision: body.revision, withinMs: windowMs(body.withinMs) };
    case "heartbeat":
      return isRevision(body.revision) ? { type, revision: body.revision } : { type: "heard" };
    case "goodbye":
      return { type, withinMs: windowMs(body.withinMs), reason: String(body.reason ?? "") };
    default:
      return type !== undefined ? { type: "heard" } : { type: "garbage" };
  }
}

function readPatch(body: Fields): PatchMessage | null {
  const flags = documents<Flag | null>(body.flags, true);
  const segments = documents<Segment | null>(body.segments, true);
  const members = memberChanges(body.members);
  if (!isRevision(body.revision) || !isRevision(body.previous)) return null;
  if (flags === null || segments === null || members === null) return null;
  return {
    type: "patch",
    revision: body.revision,
    previous: body.previous,
    publishedAt: typeof body.publishedAt === "number" ? body.publishedAt : 0,
    ackWithinMs: windowMs(body.ackWithinMs),
    flags,
    segments,
    ...(members !== undefined && { members }),
  };
}

function memberChanges(value: unknown): Record<string, MemberChange> | undefined | null {
  if (value === undefined) return undefined;
  const changes = documents<Fields>(value, false);
  const areTexts = (list: unknown) => Array.isArray(list) && list.every((member) => typeof member === "string");
  if (changes === null || !Object.values(changes).every(({ added, removed }) => areTexts(added) && areTexts(removed)))
    return null;
  return changes as Record<string, unknown> as Record<string, MemberChange>;
}

/** A whole ruleset, or why it is none. A document inside it that is malformed is the evaluator's matter (EV-8). */
export function readRuleset(text: string): { ruleset: Ruleset } | { mistake: string } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { mistake: "the ruleset was cut off or is not JSON" };
  }
  if (!isObject(body) || !isRevision(body.revision)) return { mistake: "the answer is not a ruleset" };
  if (body.schema !== 1)
    return { mistake: `the ruleset has schema ${String(body.schema)}: this SDK reads 1; update it` };
  const flags = documents<Flag>(body.flags, false);
  const segments = documents<Segment>(body.segments, false);
  if (flags === null || segments === null) return { mistake: "the ruleset's flags or segments are not objects" };
  const events = isObject(body.events) ? body.events : {};
  const rate = events.exposureSampleRate;
  return {
    ruleset: {
      schema: 1,
      environment: String(body.environment ?? ""),
      revision: body.revision,
      events: {
        exposureSampleRate: typeof rate === "number" && rate >= 0 && rate <= 1 ? rate : 1,
        summarySeconds: typeof events.summarySeconds === "number" ? events.summarySeconds : 30,
      },
      flags,
      segments,
    },
  };
}
