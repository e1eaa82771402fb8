/** Shares, times and durations as requests may write them. They are stored and answered as numbers. */
import { z } from "./zod.ts";

const PERCENT = /^(\d{1,3})(?:\.(\d{1,3}))?%$/;
const INSTANT = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):\d\d(?::\d\d(?:\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)?$/;
const DURATION = /^(?=\d)(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,10})m)?(?:(\d{1,12})s)?$/;
const UNIT_MS = [86_400_000, 3_600_000, 60_000, 1_000];

/** Thousandths of a percent from a text like "12.5%", exactly: digits are read, nothing is divided. Null: it is not one. */
export function parsePercent(text: string): number | null {
  const [, whole, decimals = ""] = PERCENT.exec(text) ?? [];
  return whole === undefined ? null : Number(whole) * 1_000 + Number(decimals.padEnd(3, "0"));
}

const SEND_INSTANT = 'Send epoch milliseconds, or ISO 8601 with an offset: "2026-12-24T18:00:00+01:00".';

/** Epoch milliseconds from ISO 8601 with an offset, or what is wrong with it. */
export function parseInstant(text: string): number | { message: string } {
  const [, year, month, day, hour, offset] = INSTANT.exec(text) ?? [];
  if (year === undefined) return { message: `That is not a time. ${SEND_INSTANT}` };
  if (offset === undefined) {
    return { message: 'The time has no offset: end it with "Z" or with one like "+01:00".' };
  }
  const time = Date.parse(text);
  // Date.parse takes 30 February for 2 March, and 24:00 for the next day.
  const isDay = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() === Number(day);
  const exists = isDay && hour !== "24" && !Number.isNaN(time);
  return exists ? time : { message: `There is no such time. ${SEND_INSTANT}` };
}

/** Milliseconds from a text like "2h30m". Null: it is not one. */
export function parseDuration(text: string): number | null {
  const parts = DURATION.exec(text);
  if (parts === null) return null;
  return UNIT_MS.reduce((sum, unit, index) => sum + unit * Number(parts[index + 1] ?? 0), 0);
}

/** A number is taken as it is, and a text is read. `message` is for all that is neither, or out of bounds. */
const numberOr = (
  parse: (text: string) => number | { message: string } | null,
  { min = Number.MIN_SAFE_INTEGER, max, message }: { min?: number; max: number; message: string },
) =>
  z.preprocess(
    (given, ctx) => {
      if (typeof given !== "string") return given;
      const parsed = parse(given);
      if (typeof parsed === "number") return parsed;
      ctx.addIssue({ code: "custom", message: parsed?.message ?? message });
      return z.NEVER;
    },
    z.number(message).int({ error: message, abort: true }).min(min, message).max(max, message),
  );

/** A query has only text. */
const numberInQuery = (given: unknown) =>
  typeof given === "string" && /^\d{1,16}$/.test(given) ? Number(given) : given;

/** A weight or a share: thousandths of a percent, or a text that ends in "%". */
export const share = (min: 0 | 1 = 0) =>
  numberOr(parsePercent, {
    min,
    max: 100_000,
    message:
      `That is not a share from ${min === 0 ? "0%" : "0.001%"} to 100%. ` +
      'Send thousandths of a percent (12500), or a percentage with at most three decimals ("12.5%").',
  }).openapi({
    type: ["integer", "string"],
    minimum: min,
    maximum: 100_000,
    pattern: PERCENT.source,
    description: 'Thousandths of a percent, or a percentage with at most three decimals: "12.5%"',
    example: 12_500,
  });

/** A moment that a request names; a Date holds none after the last. */
export const instant = numberOr(parseInstant, {
  max: 8_640_000_000_000_000,
  message: `That is not a time. ${SEND_INSTANT}`,
}).openapi({
  type: ["integer", "string"],
  description: "Epoch milliseconds, or ISO 8601 with an offset",
  example: 1_800_000_000_000,
});

/** `.nullable()` alone would not be in the OpenAPI document, whose type is said above. */
export const instantOrNull = instant.nullable().openapi({ type: ["integer", "string", "null"] });

/** The `+` of an offset is a space in a query, unless it was sent as %2B. No time has a space there. */
export const instantInQuery = z
  .preprocess(
    (given) => numberInQuery(typeof given === "string" ? given.replace(/ (?=\d\d:\d\d$)/, "+") : given),
    instant,
  )
  .openapi({ type: ["integer", "string"], description: "Epoch milliseconds, or ISO 8601 with an offset" });

/** A length of time that a request names. Milliseconds. */
export const duration = (min: number, max: number) =>
  numberOr(parseDuration, {
    min,
    max,
    message:
      `That is not a duration from ${shownDuration(min)} to ${shownDuration(max)}. ` +
      'Send milliseconds, or a duration like "1d", "2h30m" or "90s".',
  }).openapi({
    type: ["integer", "string"],
    minimum: min,
    maximum: max,
    description: 'Milliseconds, or a duration like "1d", "2h30m" or "90s"',
    example: max < 86_400_000 ? min : 86_400_000,
  });

export const durationInQuery = (min: number, max: number) =>
  z.preprocess(numberInQuery, duration(min, max)).openapi({
    type: ["integer", "string"],
    minimum: min,
    maximum: max,
    description: 'Milliseconds, or a duration like "1d", "2h30m" or "90s"',
  });

/** In the largest unit that divides it. */
function shownDuration(ms: number): string {
  const unit = UNIT_MS.findIndex((unit) => ms >= unit && ms % unit === 0);
  return unit < 0 ? String(ms) : `${ms / UNIT_MS[unit]!}${"dhms"[unit]}`;
}
