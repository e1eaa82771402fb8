import { parseInstant } from "./dates.ts";
import { inNetwork, type Network, parseNetwork } from "./networks.ts";
import { MAX_SUBJECT_UNITS, parsePattern, type Tester } from "./pattern.ts";
import type { Operator } from "./ruleset.ts";
import { compareVersion, parseVersion, type Version } from "./semver.ts";
import { isPlain, lowerCase } from "./strings.ts";

/** An operator with its operands prepared: does one value (never an array) match any of them? */
export interface Matcher {
  matches(value: unknown): boolean;
}

/** `undefined` for an unknown operator, a refused pattern or an operand that cannot be parsed: the leaf is false (EV-13). */
export function prepare(operator: unknown, values: unknown, ignoreCase: boolean): Matcher | undefined {
  if (!Array.isArray(values)) return undefined;
  switch (operator as Operator) {
    case "in":
      return new In(values, ignoreCase);
    case "startsWith":
      return every(values, isString, (operands) => new StartsWith(operands, ignoreCase));
    case "endsWith":
      return every(values, isString, (operands) => new EndsWith(operands, ignoreCase));
    case "contains":
      return every(values, isString, (operands) => new Contains(operands, ignoreCase));
    case "matches":
      return every(values, toPattern, (patterns) => new Matches(patterns));
    case "lessThan":
      return every(values, isNumber, (operands) => new Less(operands, false));
    case "lessThanOrEqual":
      return every(values, isNumber, (operands) => new Less(operands, true));
    case "greaterThan":
      return every(values, isNumber, (operands) => new Greater(operands, false));
    case "greaterThanOrEqual":
      return every(values, isNumber, (operands) => new Greater(operands, true));
    case "modulo":
      return every(values, isNumber, ([divisor, remainder, ...rest]) =>
        divisor === undefined || divisor === 0 || remainder === undefined || rest.length > 0
          ? undefined
          : new Modulo(divisor, remainder),
      );
    case "before":
      return every(values, toInstant, (instants) => new Before(instants));
    case "after":
      return every(values, toInstant, (instants) => new After(instants));
    case "semverEqual":
      return every(values, toVersion, (versions) => new Semver(versions, false, true, false));
    case "semverLessThan":
      return every(values, toVersion, (versions) => new Semver(versions, true, false, false));
    case "semverLessThanOrEqual":
      return every(values, toVersion, (versions) => new Semver(versions, true, true, false));
    case "semverGreaterThan":
      return every(values, toVersion, (versions) => new Semver(versions, false, false, true));
    case "semverGreaterThanOrEqual":
      return every(values, toVersion, (versions) => new Semver(versions, false, true, true));
    case "cidr":
      return every(values, toNetwork, (networks) => new Inside(networks));
    default:
      return undefined;
  }
}

function every<T, M>(
  values: readonly unknown[],
  parse: (value: unknown) => T | undefined,
  build: (operands: T[]) => M,
) {
  const operands: T[] = [];
  for (const value of values) {
    const operand = parse(value);
    if (operand === undefined) return undefined;
    operands.push(operand);
  }
  return build(operands);
}

export function isString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function isNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** Epoch milliseconds of an RFC 3339 text or a finite number. */
export function toInstant(value: unknown): number | undefined {
  const instant = typeof value === "string" ? parseInstant(value) : isNumber(value);
  return Number.isNaN(instant) ? undefined : instant;
}

export function toVersion(value: unknown): Version | undefined {
  return typeof value === "string" ? parseVersion(value) : undefined;
}

export function toNetwork(value: unknown): Network | undefined {
  return typeof value === "string" ? parseNetwork(value) : undefined;
}

function toPattern(value: unknown): Tester | undefined {
  if (typeof value !== "string") return undefined;
  const pattern = parsePattern(value);
  return pattern.ok ? pattern.regexp : undefined;
}

class In implements Matcher {
  readonly #members: ReadonlySet<unknown>;
  readonly #ignoreCase: boolean;
  readonly #repair: boolean;
  constructor(values: readonly unknown[], ignoreCase: boolean) {
    this.#ignoreCase = ignoreCase;
    this.#repair = values.some((value) => typeof value === "string" && !isPlain(value));
    this.#members = new Set(values.map((value) => (typeof value === "string" ? this.#fold(value) : value)));
  }
  #fold(text: string): string {
    const repaired = this.#repair ? text.toWellFormed() : text;
    return this.#ignoreCase ? lowerCase(repaired) : repaired;
  }
  matches(value: unknown): boolean {
    if (typeof value === "string")
      return this.#members.has(this.#ignoreCase || this.#repair ? this.#fold(value) : value);
    // A Set takes -0 for 0, and NaN for NaN: JSON has no NaN, so no list holds it. Objects and null equal nothing.
    return (typeof value === "number" || typeof value === "boolean") && this.#members.has(value);
  }
}

abstract class Text implements Matcher {
  readonly #operands: readonly string[];
  readonly #ignoreCase: boolean;
  readonly #repair: boolean;
  constructor(operands: readonly string[], ignoreCase: boolean) {
    this.#ignoreCase = ignoreCase;
    this.#repair = operands.some((operand) => !isPlain(operand));
    this.#operands = operands.map((operand) => {
      const repaired = operand.toWellFormed();
      return ignoreCase ? lowerCase(repaired) : repaired;
    });
  }
  abstract holds(text: string, operand: string): boolean;
  matches(value: unknown): boolean {
    if (typeof value !== "string") return false;
    let text = this.#repair ? value.toWellFormed() : value;
    if (this.#ignoreCase) text = lowerCase(text);
    for (const operand of this.#operands) if (this.holds(text, operand)) return true;
    return false;
  }
}

class StartsWith extends Text {
  override holds(text: string, operand: string): boolean {
    return text.startsWith(operand);
  }
}

class EndsWith extends Text {
  override holds(text: string, operand: string): boolean {
    return text.endsWith(operand);
  }
}

class Contains extends Text {
  override holds(text: string, operand: string): boolean {
    return text.includes(operand);
  }
}

class Matches implements Matcher {
  readonly #patterns: readonly Tester[];
  constructor(patterns: readonly Tester[]) {
    this.#patterns = patterns;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "string" || value.length > MAX_SUBJECT_UNITS) return false;
    const text = value.toWellFormed();
    for (const pattern of this.#patterns) if (pattern.test(text)) return true;
    return false;
  }
}

// Any of several bounds is the loosest of them.
class Less implements Matcher {
  readonly #bound: number;
  readonly #orEqual: boolean;
  constructor(operands: readonly number[], orEqual: boolean) {
    this.#bound = operands.reduce((most, operand) => Math.max(most, operand), Number.NEGATIVE_INFINITY);
    this.#orEqual = orEqual;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "number" || !Number.isFinite(value)) return false;
    return value < this.#bound || (this.#orEqual && value === this.#bound);
  }
}

class Greater implements Matcher {
  readonly #bound: number;
  readonly #orEqual: boolean;
  constructor(operands: readonly number[], orEqual: boolean) {
    this.#bound = operands.reduce((least, operand) => Math.min(least, operand), Number.POSITIVE_INFINITY);
    this.#orEqual = orEqual;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "number" || !Number.isFinite(value)) return false;
    return value > this.#bound || (this.#orEqual && value === this.#bound);
  }
}

class Modulo implements Matcher {
  readonly #divisor: number;
  readonly #remainder: number;
  constructor(divisor: number, remainder: number) {
    this.#divisor = divisor;
    this.#remainder = remainder;
  }
  matches(value: unknown): boolean {
    return typeof value === "number" && value % this.#divisor === this.#remainder;
  }
}

function instantOf(value: unknown): number {
  if (typeof value === "number") return Number.isFinite(value) ? value : Number.NaN;
  return typeof value === "string" ? parseInstant(value) : Number.NaN;
}

class Before implements Matcher {
  readonly #bound: number;
  constructor(instants: readonly number[]) {
    this.#bound = instants.reduce((most, instant) => Math.max(most, instant), Number.NEGATIVE_INFINITY);
  }
  matches(value: unknown): boolean {
    return instantOf(value) < this.#bound;
  }
}

class After implements Matcher {
  readonly #bound: number;
  constructor(instants: readonly number[]) {
    this.#bound = instants.reduce((least, instant) => Math.min(least, instant), Number.POSITIVE_INFINITY);
  }
  matches(value: unknown): boolean {
    return instantOf(value) > this.#bound;
  }
}

class Semver implements Matcher {
  readonly #versions: readonly Version[];
  readonly #less: boolean;
  readonly #equal: boolean;
  readonly #greater: boolean;
  constructor(versions: readonly Version[], less: boolean, equal: boolean, greater: boolean) {
    this.#versions = versions;
    this.#less = less;
    this.#equal = equal;
    this.#greater = greater;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "string") return false;
    for (const version of this.#versions) {
      const order = compareVersion(value, version);
      if ((order < 0 && this.#less) || (order === 0 && this.#equal) || (order > 0 && this.#greater)) return true;
    }
    return false;
  }
}

class Inside implements Matcher {
  readonly #networks: readonly Network[];
  constructor(networks: readonly Network[]) {
    this.#networks = networks;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "string") return false;
    for (const network of this.#networks) if (inNetwork(value, network)) return true;
    return false;
  }
}
