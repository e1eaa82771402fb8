// RFC 3339 date-times (EV-16), parsed here because a host's own parser accepts far more, and differently in each language.

const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Epoch milliseconds of `2017-12-06T00:00:00.000-07:00`; NaN for anything that is no RFC 3339 date-time with an offset. */
export function parseInstant(text: string): number {
  const year = digits(text, 0, 4);
  const month = digits(text, 5, 7);
  const day = digits(text, 8, 10);
  const hour = digits(text, 11, 13);
  const minute = digits(text, 14, 16);
  const second = digits(text, 17, 19);
  if (text[4] !== "-" || text[7] !== "-" || text[13] !== ":" || text[16] !== ":") return Number.NaN;
  if (text[10] !== "T" && text[10] !== "t") return Number.NaN;
  // NaN fails every comparison, so each of these also requires digits.
  if (!(month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month))) return Number.NaN;
  if (!(hour <= 23 && minute <= 59 && second <= 59)) return Number.NaN;

  let at = 19;
  let fraction = 0;
  if (text[at] === ".") {
    const start = ++at;
    while (isDigit(text.charCodeAt(at))) at++;
    if (at === start) return Number.NaN;
    fraction = at - start <= 3 ? digits(text, start, at) * 10 ** (3 - at + start) : fineFraction(text.slice(start, at));
  }

  let offset = 0;
  if (text[at] === "Z" || text[at] === "z") {
    at++;
  } else {
    const sign = text[at] === "+" ? 1 : text[at] === "-" ? -1 : 0;
    const hours = digits(text, at + 1, at + 3);
    const minutes = digits(text, at + 4, at + 6);
    if (sign === 0 || text[at + 3] !== ":" || !(hours <= 23 && minutes <= 59)) return Number.NaN;
    offset = sign * (hours * 60 + minutes);
    at += 6;
  }
  if (at !== text.length) return Number.NaN;
  const days = daysSinceEpoch(year, month, day);
  return ((days * 24 + hour) * 60 + minute - offset) * 60_000 + second * 1000 + fraction;
}

/** Milliseconds of more than three digits, kept as far as a double holds them: 0.25 µs at today's dates. */
function fineFraction(fraction: string): number {
  return Number(`${fraction.slice(0, 3)}.${fraction.slice(3)}`);
}

function isDigit(unit: number): boolean {
  return unit >= 48 && unit <= 57;
}

function digits(text: string, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < end; at++) {
    const unit = text.charCodeAt(at);
    if (!isDigit(unit)) return Number.NaN;
    value = value * 10 + unit - 48;
  }
  return value;
}

function daysIn(year: number, month: number): number {
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && leap ? 29 : DAYS[month - 1]!;
}

/** The proleptic Gregorian calendar counted from 1 March of year 0, so that a leap day ends its year. */
function daysSinceEpoch(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1;
  const m = month > 2 ? month - 3 : month + 9;
  return (
    y * 365 +
    Math.floor(y / 4) -
    Math.floor(y / 100) +
    Math.floor(y / 400) +
    Math.floor((m * 153 + 2) / 5) +
    day -
    719_469
  );
}
