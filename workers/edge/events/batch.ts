/**
 * What an SDK may send as events, checked by hand: it runs for every batch of every client, and says where each error is.
 * Documents grow by addition in both directions, so a field or an event kind that this version does not know is left out;
 * a field that it knows must have the right type.
 */
import { MAX_EVENTS, type SummaryEvent, type TelemetryEvent } from "@bunting/core/wire";
import type { ValidationError } from "../../platform/problem.ts";

/** Of the longest; the count goes on. */
export const MAX_ERRORS_LISTED = 100;
/** One event, as JSON in UTF-8: it must fit in a Queue message with its envelope. A larger summary is sent as several. */
export const MAX_ONE_EVENT_BYTES = 98_304;
/** A client's clock may be wrong and a phone may be off for days, but an event must not land in another month's numbers. */
export const OLDEST_MS = 48 * 3_600_000;
export const NEWEST_MS = 10 * 60_000;

/** In characters. They also keep an Analytics Engine point under its 16 KB of blobs. */
const MAX_NAME = 256;
const MAX_REASON = 64;
const MAX_UNIT = 1_024;
const MAX_ATTRIBUTE_DEPTH = 10;

/** `event` is null where one of an unknown kind stood, so that the others keep their index. */
export type SizedEvent = { event: TelemetryEvent | null; bytes: number };

export type ParsedBatch =
  | { ok: true; batchId: string; events: SizedEvent[]; dropped: number; clamped: number }
  | { ok: false; errors: ValidationError[]; total: number };

export function parseBatch(body: unknown, now: number): ParsedBatch {
  const check = new Check(now);
  if (!isObject(body)) return check.failed("", "wrong-type", "must be an object with batchId and events");
  const batchId = check.text(body, "batchId", "", 36).toLowerCase();
  if (check.total === 0 && !UUID.test(batchId)) check.invalid("/batchId", "not-a-uuid", "must be a UUID");
  const list = body.events;
  if (!Array.isArray(list)) return check.failed("/events", "wrong-type", "must be an array");
  if (list.length > MAX_EVENTS) return check.failed("/events", "too-many", `must have at most ${MAX_EVENTS} items`);

  const events = list.map((item: unknown, index) => parseEvent(check, item, `/events/${index}`));
  if (check.total > 0) return { ok: false, errors: check.errors, total: check.total };
  const dropped = events.filter(({ event }) => event === null).length;
  return { ok: true, batchId, events, dropped, clamped: check.clamped };
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function parseEvent(check: Check, item: unknown, at: string): SizedEvent {
  const errorsBefore = check.total;
  const event = readEvent(check, item, at);
  // A refused event is never queued: no need to measure what may be incomplete.
  if (check.total > errorsBefore) return { event: null, bytes: 0 };
  const bytes = new TextEncoder().encode(JSON.stringify(event)).byteLength;
  if (bytes > MAX_ONE_EVENT_BYTES)
    check.invalid(at, "too-large", `must be at most ${MAX_ONE_EVENT_BYTES} bytes as JSON`);
  return { event, bytes };
}

function readEvent(check: Check, item: unknown, at: string): TelemetryEvent | null {
  if (!isObject(item)) {
    check.invalid(at, "wrong-type", "must be an object");
    return null;
  }
  const kind = check.text(item, "kind", at, MAX_REASON);
  switch (kind) {
    case "exposure":
      return {
        kind,
        at: check.time(item, "at", at),
        ...decision(check, item, at),
        experiment: check.textOrNull(item, "experiment", at, MAX_NAME),
        unit: check.text(item, "unit", at, MAX_UNIT),
        // A share of 0 sends nothing, and readers divide by it.
        sampleRate: check.number(item, "sampleRate", at, Number.MIN_VALUE, 1),
        ...attributes(check, item, at),
      };
    case "metric":
      return {
        kind,
        at: check.time(item, "at", at),
        metric: check.text(item, "metric", at, MAX_NAME),
        unit: check.text(item, "unit", at, MAX_UNIT),
        value: check.number(item, "value", at, -Number.MAX_VALUE, Number.MAX_VALUE),
      };
    case "summary": {
      const from = check.time(item, "from", at);
      // A clock that was set back in between is not an error of the SDK.
      const to = Math.max(from, check.time(item, "to", at));
      return { kind, from, to, counts: counts(check, item.counts, `${at}/counts`) };
    }
    default:
      return null;
  }
}

function counts(check: Check, list: unknown, at: string): SummaryEvent["counts"] {
  if (!Array.isArray(list)) {
    check.invalid(at, "wrong-type", "must be an array");
    return [];
  }
  const read: SummaryEvent["counts"] = [];
  for (const [index, item] of list.entries()) {
    const here = `${at}/${index}`;
    if (!isObject(item)) check.invalid(here, "wrong-type", "must be an object");
    else read.push({ ...decision(check, item, here), count: check.integer(item, "count", here) });
  }
  return read;
}

function decision(check: Check, item: Fields, at: string) {
  return {
    flag: check.text(item, "flag", at, MAX_NAME),
    variation: check.textOrNull(item, "variation", at, MAX_NAME),
    reason: check.text(item, "reason", at, MAX_REASON),
    flagVersion: check.integer(item, "flagVersion", at),
  };
}

function attributes(check: Check, item: Fields, at: string): { attributes?: Record<string, unknown> } {
  const given = item.attributes;
  if (given === undefined) return {};
  if (!isObject(given)) check.invalid(`${at}/attributes`, "wrong-type", "must be an object");
  else if (isDeeperThan(given, MAX_ATTRIBUTE_DEPTH))
    check.invalid(`${at}/attributes`, "too-deep", `must be nested at most ${MAX_ATTRIBUTE_DEPTH} levels`);
  else return { attributes: wellFormed(given) as Record<string, unknown> };
  return {};
}

type Fields = Record<string, unknown>;

/** Reads one field at a time and collects every error; once there is one, what it returns is not used. */
class Check {
  readonly errors: ValidationError[] = [];
  total = 0;
  clamped = 0;
  private readonly now: number;

  constructor(now: number) {
    this.now = now;
  }

  invalid(pointer: string, code: string, message: string): void {
    this.total++;
    if (this.errors.length < MAX_ERRORS_LISTED) this.errors.push({ pointer, code, message });
  }

  failed(pointer: string, code: string, message: string): ParsedBatch {
    this.invalid(pointer, code, message);
    return { ok: false, errors: this.errors, total: this.total };
  }

  /** A lone surrogate becomes U+FFFD, as it does when the same text is bucketed (EV-30). */
  text(fields: Fields, name: string, at: string, maxLength: number): string {
    const value = fields[name];
    if (typeof value === "string" && value.length <= maxLength) return value.toWellFormed();
    if (typeof value === "string")
      this.invalid(`${at}/${name}`, "too-long", `must have at most ${maxLength} characters`);
    else this.missingOr(value, `${at}/${name}`, "must be a string");
    return "";
  }

  textOrNull(fields: Fields, name: string, at: string, maxLength: number): string | null {
    return fields[name] === null ? null : this.text(fields, name, at, maxLength);
  }

  number(fields: Fields, name: string, at: string, min: number, max: number): number {
    const value = fields[name];
    // JSON has no infinity, but 1e999 is read as one.
    if (typeof value === "number" && value >= min && value <= max) return value;
    if (typeof value === "number") this.invalid(`${at}/${name}`, "out-of-range", "is out of range");
    else this.missingOr(value, `${at}/${name}`, "must be a number");
    return min;
  }

  integer(fields: Fields, name: string, at: string): number {
    const before = this.total;
    const value = this.number(fields, name, at, 0, Number.MAX_SAFE_INTEGER);
    if (this.total === before && !Number.isInteger(value))
      this.invalid(`${at}/${name}`, "out-of-range", "must be a whole number");
    return value;
  }

  time(fields: Fields, name: string, at: string): number {
    const value = this.number(fields, name, at, -Number.MAX_VALUE, Number.MAX_VALUE);
    const kept = Math.min(Math.max(value, this.now - OLDEST_MS), this.now + NEWEST_MS);
    if (kept !== value) this.clamped++;
    return kept;
  }

  private missingOr(value: unknown, pointer: string, message: string): void {
    if (value === undefined) this.invalid(pointer, "required", "is required");
    else this.invalid(pointer, "wrong-type", message);
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Stops at the limit, so that hostile nesting costs nothing. */
function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(inner, levels - 1));
}

function wellFormed(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed();
  if (Array.isArray(value)) return value.map(wellFormed);
  if (!isObject(value)) return value;
  // fromEntries defines, where assignment would set a prototype; `__proto__` is left out for those who read it later.
  const entries = Object.entries(value).filter(([name]) => name !== "__proto__");
  return Object.fromEntries(entries.map(([name, inner]) => [name.toWellFormed(), wellFormed(inner)]));
}
