// Semantic Versioning 2.0.0 precedence (EV-17), on the text itself: nothing is allocated for the version compared.

/** A version that is compared with, taken apart once. Numeric identifiers stay digits: they may be of any length. */
export type Version = { readonly core: readonly [string, string, string]; readonly pre: readonly string[] };

const ZERO: Version = { core: ["0", "0", "0"], pre: [] };

/** `undefined` where the text is no version: a leading `v`, a fourth part, leading zeros, empty identifiers. */
export function parseVersion(text: string): Version | undefined {
  if (Number.isNaN(compareVersion(text, ZERO))) return undefined;
  const plus = text.indexOf("+");
  const precedence = plus < 0 ? text : text.slice(0, plus);
  const dash = precedence.indexOf("-");
  const [major = "0", minor = "0", patch = "0"] = (dash < 0 ? precedence : precedence.slice(0, dash)).split(".");
  return { core: [major, minor, patch], pre: dash < 0 ? [] : precedence.slice(dash + 1).split(".") };
}

/** Negative, 0 or positive as `text` precedes, equals or follows `version`; NaN where `text` is no version. */
export function compareVersion(text: string, version: Version): number {
  let order = 0;
  let at = 0;
  for (let part = 0; part < 3; part++) {
    const end = identifierEnd(text, at);
    if (!isNumeric(text, at, end)) return Number.NaN;
    if (order === 0) order = compareNumeric(text, at, end, version.core[part]!);
    at = end;
    if (part < 2) {
      if (text.charCodeAt(at) === DOT) {
        at++;
      } else {
        for (let missing = part + 1; missing < 3; missing++) {
          if (order === 0 && version.core[missing] !== "0") order = -1;
        }
        break;
      }
    }
  }
  let count = 0;
  if (text.charCodeAt(at) === DASH) {
    do {
      const start = at + 1;
      at = identifierEnd(text, start, true);
      const other = version.pre[count++];
      const numeric = isDigits(text, start, at);
      if (at === start || (numeric && !isNumeric(text, start, at))) return Number.NaN;
      if (order === 0 && count <= version.pre.length) order = compareIdentifier(text, start, at, numeric, other!);
    } while (text.charCodeAt(at) === DOT);
  }
  if (order === 0) {
    // Rule 11.3 and 11.4.4: a pre-release comes before its release; of two, the one with more identifiers is later.
    if (count === 0 || version.pre.length === 0) order = Math.sign(version.pre.length - count);
    else order = count - version.pre.length;
  }
  if (text.charCodeAt(at) === PLUS) {
    do {
      const start = at + 1;
      at = identifierEnd(text, start, true);
      if (at === start) return Number.NaN;
    } while (text.charCodeAt(at) === DOT);
  }
  return at === text.length ? order : Number.NaN;
}

const DOT = 46;
const DASH = 45;
const PLUS = 43;

function isDigit(unit: number): boolean {
  return unit >= 48 && unit <= 57;
}

function identifierEnd(text: string, start: number, letters = false): number {
  let end = start;
  for (; end < text.length; end++) {
    const unit = text.charCodeAt(end);
    if (isDigit(unit)) continue;
    if (!letters) break;
    const lower = unit | 0x20;
    if (unit !== DASH && !(lower >= 97 && lower <= 122)) break;
  }
  return end;
}

function isDigits(text: string, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (!isDigit(text.charCodeAt(at))) return false;
  return end > start;
}

function isNumeric(text: string, start: number, end: number): boolean {
  return isDigits(text, start, end) && (end - start === 1 || text.charCodeAt(start) !== 48);
}

function compareNumeric(text: string, start: number, end: number, other: string): number {
  return end - start - other.length || compareUnits(text, start, end, other);
}

function compareUnits(text: string, start: number, end: number, other: string): number {
  const length = Math.min(end - start, other.length);
  for (let i = 0; i < length; i++) {
    const difference = text.charCodeAt(start + i) - other.charCodeAt(i);
    if (difference !== 0) return difference;
  }
  return end - start - other.length;
}

/** Rule 11.4: numbers as integers and before everything else, the rest by ASCII. */
function compareIdentifier(text: string, start: number, end: number, numeric: boolean, other: string): number {
  if (numeric !== isDigits(other, 0, other.length)) return numeric ? -1 : 1;
  return numeric ? compareNumeric(text, start, end, other) : compareUnits(text, start, end, other);
}
