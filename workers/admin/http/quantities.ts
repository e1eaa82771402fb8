/** Shares, times and durations as requests may write them. They are stored and answered as numbers. */
import { z } from "./zod.ts";

const PERCENT = /^(\d{1,3})(?:\.(\d{1,3}))?%$/;
const INSTANT = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)?$/;
const DURATION = /^(?=\d)(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,10})m)?(?:(\d{1,12})s)?$/;
const UNIT_MS = [86_400_000, 3_600_000, 60_000, 1_000];

/** Thousandths of a percent from a text like "12.5%", exactly: digits are read, nothing is divided. Null: it is not one. */
export function parsePercent(text: string): number | null {
  const [, whole, decimals = ""] = PERCENT.exec(text) ?? [];
  return whole === undefined ? null : Number(whole) * 1_000 + Number(decimals.padEnd(3, "0"));
}

/** Epoch milliseconds from ISO 8601 with an offset, or what is wrong with it. */
export function parseInstant(text: string): number | { message: string } {
  const [, year, month, day, offset] = INSTANT.exec(text) ?? [];
  const example = 'Send epoch milliseconds, or ISO 8601 with an offset: "2026-12-24T18:00:00+01:00".';
  if (year === undefined) return { message: example };
  if (offset === undefined) {
    return { message: 'The time has no offset: end it with "Z" or with one like "+01:00".' };
  }
  const time = Date.parse(text);
  // Date.parse takes 30 February for 2 March.
  const isDay = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() === Number(day);
  return Number.isNaN(time) || !isDay ? { message: `There is no such time. ${example}` } : time;
}

/** Milliseconds from a text like "2h30m". Null: it is not one. */
export function parseDuration(text: string): number | null {
  const parts = DURATION.exec(text);
  if (parts === null) return null;
  return UNIT_MS.reduce((sum, unit, index) => sum + unit * Number(parts[index + 1] ?? 0), 0);
}

/** Hands numbers on as they are and reads texts: what is neither meets the number's own check. */
const numberOr = (parse: (text: string) => number | { message: string }, schema: z.ZodNumber) =>
  z.preprocess((given, ctx) => {
    if (typeof given !== "string") return given;
    const parsed = parse(given);
    if (typeof parsed === "number") return parsed;
    ctx.addIssue({ code: "custom", message: parsed.message });
    return z.NEVER;
  }, schema);

/** A weight or a share: thousandths of a percent, or a text that ends in "%". */
export const share = (min = 0) =>
  numberOr(
    (text) =>
      parsePercent(text) ?? {
        message: 'Send thousandths of a percent (12500), or a percentage with at most three decimals ("12.5%").',
      },
    z.number().int().min(min).max(100_000),
  ).openapi({
    type: ["integer", "string"],
    pattern: PERCENT.source,
    description: 'Thousandths of a percent, or a percentage with at most three decimals: "12.5%"',
    example: 12_500,
  });

/** A moment that a request names. */
export const instant = numberOr(parseInstant, z.number().int()).openapi({
  type: ["integer", "string"],
  description: "Epoch milliseconds, or ISO 8601 with an offset",
  example: 1_800_000_000_000,
});

/** A moment in a query, which has only text. */
export const instantInQuery = z
  .preprocess((given) => (typeof given === "string" && /^\d{1,15}$/.test(given) ? Number(given) : given), instant)
  .openapi({ type: ["integer", "string"], description: "Epoch milliseconds, or ISO 8601 with an offset" });

/** A length of time that a request names. Milliseconds. */
export const duration = (min: number, max: number) =>
  numberOr(
    (text) => parseDuration(text) ?? { message: 'Send milliseconds, or a duration like "1d", "2h30m" or "90s".' },
    z.number().int().min(min).max(max),
  ).openapi({
    type: ["integer", "string"],
    description: 'Milliseconds, or a duration like "1d", "2h30m" or "90s"',
    example: 86_400_000,
  });
