import { MAX_SUBJECT_UNITS, type Pattern, parsePattern } from "../patterns/pattern.ts";
import type { Operator } from "../ruleset.ts";
import { parseInstant } from "./dates.ts";
import { inNetworks, type Network, parseNetwork } from "./networks.ts";
import { compareVersion, parseVersion, type Version } from "./semver.ts";
import { isPlain, lowerCase } from "./strings.ts";

/** An operator with its operands prepared. One that ignores case receives values in lower case. */
export interface Matcher {
  /** What a short element of an array costs, in lookups. */
  readonly weight: number;
  /** Whether one value, never an array, matches any of the operands. */
  matches(value: unknown): boolean;
}

/** What comparing takes, in lookups. */
const COMPARISON = 4;

/** `undefined` for an unknown operator, a refused pattern or an operand that cannot be parsed: the leaf is false (EV-13). */
export function prepare(operator: unknown, values: unknown, ignoreCase: boolean): Matcher | undefined {
  if (!Array.isArray(values)) return undefined;
  switch (operator as Operator) {
    case "in":
      return new In(values, ignoreCase);
    case "startsWith":
      return every(values, isString, (texts) => new StartsWith(texts, ignoreCase));
    case "endsWith":
      return every(values, isString, (texts) => new EndsWith(texts, ignoreCase));
    case "contains":
      return every(values, isString, (texts) => new Contains(texts, ignoreCase));
    case "matches":
      return every(values, toPattern, (patterns) => new Matches(patterns));
    case "lessThan":
      return every(values, isNumber, (numbers) => new Less(numbers, false));
    case "lessThanOrEqual":
      return every(values, isNumber, (numbers) => new Less(numbers, true));
    case "greaterThan":
      return every(values, isNumber, (numbers) => new Greater(numbers, false));
    case "greaterThanOrEqual":
      return every(values, isNumber, (numbers) => new Greater(numbers, true));
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

function ofText<T>(parse: (text: string) => T | undefined): (value: unknown) => T | undefined {
  return (value) => (typeof value === "string" ? parse(value) : undefined);
}

export const toVersion = ofText(parseVersion);
export const toNetwork = ofText(parseNetwork);
const toPattern = ofText(parsePattern);

/** Epoch milliseconds of an RFC 3339 text or a finite number. */
export function toInstant(value: unknown): number | undefined {
  const instant = instantOf(value);
  return Number.isNaN(instant) ? undefined : instant;
}

function operandOf(text: string, ignoreCase: boolean): string {
  const repaired = text.toWellFormed();
  return ignoreCase ? lowerCase(repaired) : repaired;
}

export class In implements Matcher {
  readonly weight = 1;
  /** Compares values as they are: its own can be looked up among those of a context, too. */
  readonly isExact: boolean;
  readonly #repair: boolean;
  readonly #members: ReadonlySet<unknown>;
  constructor(values: readonly unknown[], ignoreCase: boolean) {
    this.#repair = values.some((value) => typeof value === "string" && !isPlain(value));
    this.isExact = !ignoreCase && !this.#repair;
    this.#members = new Set(values.map((value) => (typeof value === "string" ? operandOf(value, ignoreCase) : value)));
  }
  get size(): number {
    return this.#members.size;
  }
  matches(value: unknown): boolean {
    if (typeof value === "string") return this.#members.has(this.#repair ? value.toWellFormed() : value);
    // A Set takes -0 for 0, and NaN for NaN: JSON has no NaN, so no list holds it. Objects and null equal nothing.
    return (typeof value === "number" || typeof value === "boolean") && this.#members.has(value);
  }
  /** As `matches` of any of the elements, where `isExact`. */
  matchesAny(elements: ReadonlySet<unknown>): boolean {
    // Objects and null equal nothing: those of the context are none of the elements.
    for (const member of this.#members) if (elements.has(member)) return true;
    return false;
  }
}

abstract class Text implements Matcher {
  readonly weight: number;
  readonly #operands: readonly string[];
  readonly #repair: boolean;
  constructor(operands: readonly string[], ignoreCase: boolean) {
    this.weight = operands.length * COMPARISON;
    this.#repair = operands.some((operand) => !isPlain(operand));
    this.#operands = operands.map((operand) => operandOf(operand, ignoreCase));
  }
  abstract holds(text: string, operand: string): boolean;
  matches(value: unknown): boolean {
    if (typeof value !== "string") return false;
    const text = this.#repair ? value.toWellFormed() : value;
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
  readonly weight: number;
  readonly #patterns: readonly Pattern[];
  constructor(patterns: readonly Pattern[]) {
    this.weight = patterns.reduce((sum, { steps }) => sum + steps * COMPARISON, 0);
    this.#patterns = patterns;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "string" || value.length > MAX_SUBJECT_UNITS) return false;
    const text = value.toWellFormed();
    for (const { tester } of this.#patterns) if (tester.test(text)) return true;
    return false;
  }
}

// Any of several bounds is the loosest of them.
class Less implements Matcher {
  readonly weight = COMPARISON;
  readonly #bound: number;
  readonly #orEqual: boolean;
  constructor(operands: readonly number[], orEqual: boolean) {
    this.#bound = highest(operands);
    this.#orEqual = orEqual;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "number" || !Number.isFinite(value)) return false;
    return value < this.#bound || (this.#orEqual && value === this.#bound);
  }
}

class Greater implements Matcher {
  readonly weight = COMPARISON;
  readonly #bound: number;
  readonly #orEqual: boolean;
  constructor(operands: readonly number[], orEqual: boolean) {
    this.#bound = lowest(operands);
    this.#orEqual = orEqual;
  }
  matches(value: unknown): boolean {
    if (typeof value !== "number" || !Number.isFinite(value)) return false;
    return value > this.#bound || (this.#orEqual && value === this.#bound);
  }
}

function highest(operands: readonly number[]): number {
  return operands.reduce((most, operand) => Math.max(most, operand), Number.NEGATIVE_INFINITY);
}

function lowest(operands: readonly number[]): number {
  return operands.reduce((least, operand) => Math.min(least, operand), Number.POSITIVE_INFINITY);
}

class Modulo implements Matcher {
  readonly weight = COMPARISON;
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
  readonly weight = COMPARISON;
  readonly #bound: number;
  constructor(instants: readonly number[]) {
    this.#bound = highest(instants);
  }
  matches(value: unknown): boolean {
    return instantOf(value) < this.#bound;
  }
}

class After implements Matcher {
  readonly weight = COMPARISON;
  readonly #bound: number;
  constructor(instants: readonly number[]) {
    this.#bound = lowest(instants);
  }
  matches(value: unknown): boolean {
    return instantOf(value) > this.#bound;
  }
}

class Semver implements Matcher {
  readonly weight: number;
  readonly #versions: readonly Version[];
  readonly #less: boolean;
  readonly #equal: boolean;
  readonly #greater: boolean;
  constructor(versions: readonly Version[], less: boolean, equal: boolean, greater: boolean) {
    this.weight = versions.length * COMPARISON;
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
  readonly weight: number;
  readonly #networks: readonly Network[];
  constructor(networks: readonly Network[]) {
    this.weight = networks.length * COMPARISON;
    this.#networks = networks;
  }
  matches(value: unknown): boolean {
    return typeof value === "string" && inNetworks(value, this.#networks);
  }
}
