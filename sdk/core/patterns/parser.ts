// The part of RE2's syntax that JavaScript, Go and Python read alike, or that can be put to each of them (EV-14).
// Whatever they read differently is refused, with the remedy. github.com/google/re2/wiki/Syntax

/** Inclusive ranges of code points, ascending and apart: [first, last, first, last, …]. */
export type CharSet = readonly number[];

export type Syntax =
  | { readonly kind: "set"; readonly set: CharSet }
  | { readonly kind: "assertion"; readonly text: "^" | "$" | "\\b" | "\\B" }
  | { readonly kind: "sequence"; readonly parts: readonly Syntax[] }
  | { readonly kind: "choice"; readonly branches: readonly Syntax[] }
  | { readonly kind: "repeat"; readonly body: Syntax; readonly min: number; readonly max: number };

/** Why a pattern is refused: refusals.ts has the words. */
export type Refusal =
  | "lone-surrogate"
  | "group-end"
  | "group-start"
  | "group-kind"
  | "nesting"
  | "repeats-repetition"
  | "repeats-assertion"
  | "bounds"
  | "bounds-order"
  | "bounds-large"
  | "nothing-to-repeat"
  | "hex"
  | "backslash"
  | "back-reference"
  | "escape"
  | "class-empty"
  | "class-end"
  | "class-range"
  | "class-range-order"
  | "class-range-chain"
  | "class-nothing"
  | "class-nested"
  | "class-operator"
  | "too-long"
  | "too-large";

/** Thrown by `parse`. */
export class Refused extends Error {
  readonly refusal: Refusal;
  /** What in the pattern. */
  readonly about: string;
  constructor(refusal: Refusal, about = "") {
    super(refusal);
    this.refusal = refusal;
    this.about = about;
  }
}

/** RE2 repeats nothing more often. */
export const MAX_REPEAT = 1000;
export const MAX_NESTING = 50;
const LAST_POINT = 0x10ffff;

const DIGIT: CharSet = [0x30, 0x39];
const WORD: CharSet = [0x30, 0x39, 0x41, 0x5a, 0x5f, 0x5f, 0x61, 0x7a];
// RE2's: without the vertical tab, which the other two count as a space.
const SPACE: CharSet = [0x09, 0x0a, 0x0c, 0x0d, 0x20, 0x20];
const CLASSES: Readonly<Record<string, CharSet>> = {
  d: DIGIT,
  D: complement(DIGIT),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { t: 0x09, n: 0x0a, v: 0x0b, f: 0x0c, r: 0x0d };
const NOT_NEWLINE = complement([0x0a, 0x0a]);
export const EMPTY: Syntax = { kind: "sequence", parts: [] };

/** Throws Refused. */
export function parse(source: string): Syntax {
  if (!source.isWellFormed()) throw new Refused("lone-surrogate");
  const parser = new Parser(source);
  const syntax = parser.choice(0);
  if (!parser.done) throw new Refused("group-end");
  return syntax;
}

class Parser {
  readonly #points: readonly string[];
  #at = 0;

  constructor(source: string) {
    this.#points = Array.from(source);
  }

  get done(): boolean {
    return this.#at >= this.#points.length;
  }

  choice(nesting: number): Syntax {
    if (nesting > MAX_NESTING) throw new Refused("nesting");
    const branches = [this.#sequence(nesting)];
    while (this.#take("|")) branches.push(this.#sequence(nesting));
    return branches.length === 1 ? branches[0]! : { kind: "choice", branches };
  }

  #sequence(nesting: number): Syntax {
    const parts: Syntax[] = [];
    while (!this.done && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#quantified(nesting));
    return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
  }

  #quantified(nesting: number): Syntax {
    const body = this.#atom(nesting);
    const bounds = this.#quantifier();
    if (bounds === undefined) return body;
    // Lazy or greedy, the same texts match.
    this.#take("?");
    if (this.#quantifier() !== undefined) throw new Refused("repeats-repetition");
    if (body.kind === "assertion") throw new Refused("repeats-assertion", body.text);
    return { kind: "repeat", body, ...bounds };
  }

  #quantifier(): { min: number; max: number } | undefined {
    if (this.#take("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take("?")) return { min: 0, max: 1 };
    if (!this.#take("{")) return undefined;
    let text = "";
    while (!this.done && this.#peek() !== "}") text += this.#next();
    const match = /^(0|[1-9]\d{0,3})(,(0|[1-9]\d{0,3})?)?$/.exec(text);
    if (match === null || !this.#take("}")) throw new Refused("bounds");
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === undefined ? Number.POSITIVE_INFINITY : Number(match[3]);
    if (max < min) throw new Refused("bounds-order", text);
    if (min > MAX_REPEAT || (max > MAX_REPEAT && max !== Number.POSITIVE_INFINITY)) {
      throw new Refused("bounds-large");
    }
    return { min, max };
  }

  #atom(nesting: number): Syntax {
    const point = this.#next();
    switch (point) {
      case ".":
        return { kind: "set", set: NOT_NEWLINE };
      case "^":
      case "$":
        return { kind: "assertion", text: point };
      case "(":
        return this.#group(nesting);
      case "[":
        return { kind: "set", set: this.#class() };
      case "\\":
        return this.#escape();
      case "*":
      case "+":
      case "?":
      case "{":
        throw new Refused("nothing-to-repeat", point);
      default:
        return { kind: "set", set: single(point) };
    }
  }

  #group(nesting: number): Syntax {
    if (this.#take("?") && !this.#take(":")) throw new Refused("group-kind");
    const body = this.choice(nesting + 1);
    if (!this.#take(")")) throw new Refused("group-start");
    return body;
  }

  #escape(): Syntax {
    const set = this.#escapedSet();
    if (set !== undefined) return { kind: "set", set };
    if (this.#take("b")) return { kind: "assertion", text: "\\b" };
    if (this.#take("B")) return { kind: "assertion", text: "\\B" };
    return this.#refuseEscape();
  }

  /** After a backslash: a class, a control character, `\xHH`, or an ASCII character that is no letter or digit. */
  #escapedSet(): CharSet | undefined {
    const point = this.#peek();
    if (point === undefined) return undefined;
    if (Object.hasOwn(CLASSES, point)) {
      this.#at++;
      return CLASSES[point]!;
    }
    if (Object.hasOwn(CONTROLS, point)) {
      this.#at++;
      return [CONTROLS[point]!, CONTROLS[point]!];
    }
    if (point === "x") {
      const hex = this.#points.slice(this.#at + 1, this.#at + 3).join("");
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) throw new Refused("hex");
      this.#at += 3;
      return [Number.parseInt(hex, 16), Number.parseInt(hex, 16)];
    }
    if (point <= "\x7f" && !/[A-Za-z0-9]/.test(point)) {
      this.#at++;
      return single(point);
    }
    return undefined;
  }

  #refuseEscape(): never {
    const point = this.#peek();
    if (point === undefined) throw new Refused("backslash");
    if (/[1-9]/.test(point)) throw new Refused("back-reference");
    throw new Refused("escape", point);
  }

  /** After `[`. */
  #class(): CharSet {
    const negated = this.#take("^");
    const ranges: [number, number][] = [];
    if (this.#peek() === "]") throw new Refused("class-empty");
    while (!this.#take("]")) {
      if (this.done) throw new Refused("class-end");
      const first = this.#classMember();
      const isRange = this.#peek() === "-" && this.#points[this.#at + 1] !== "]" && this.#at + 1 < this.#points.length;
      if (!isRange) {
        for (let i = 0; i < first.length; i += 2) ranges.push([first[i]!, first[i + 1]!]);
        continue;
      }
      this.#at++;
      const last = this.#classMember();
      if (!isSingle(first) || !isSingle(last)) throw new Refused("class-range");
      if (first[0]! > last[0]!) throw new Refused("class-range-order");
      ranges.push([first[0]!, last[0]!]);
      if (this.#peek() === "-" && this.#points[this.#at + 1] !== "]") throw new Refused("class-range-chain");
    }
    const set = union(ranges);
    if (negated && set.length === 2 && set[0] === 0 && set[1] === LAST_POINT) throw new Refused("class-nothing");
    return negated ? complement(set) : set;
  }

  #classMember(): CharSet {
    const point = this.#next();
    if (point === undefined) throw new Refused("class-end");
    if (point === "\\") return this.#escapedSet() ?? this.#refuseEscape();
    if (point === "[") throw new Refused("class-nested");
    if ("&-~|".includes(point) && this.#peek() === point) throw new Refused("class-operator", point);
    return single(point);
  }

  #peek(): string | undefined {
    return this.#points[this.#at];
  }

  #next(): string {
    return this.#points[this.#at++]!;
  }

  #take(point: string): boolean {
    if (this.#points[this.#at] !== point) return false;
    this.#at++;
    return true;
  }
}

function single(point: string): CharSet {
  const code = point.codePointAt(0)!;
  return [code, code];
}

function isSingle(set: CharSet): boolean {
  return set.length === 2 && set[0] === set[1];
}

function union(ranges: [number, number][]): CharSet {
  const set: number[] = [];
  for (const [first, last] of ranges.sort((a, b) => a[0] - b[0])) {
    const end = set.at(-1);
    if (end !== undefined && first <= end + 1) set[set.length - 1] = Math.max(end, last);
    else set.push(first, last);
  }
  return set;
}

function complement(set: CharSet): CharSet {
  const rest: number[] = [];
  let from = 0;
  for (let i = 0; i < set.length; i += 2) {
    if (set[i]! > from) rest.push(from, set[i]! - 1);
    from = set[i + 1]! + 1;
  }
  if (from <= LAST_POINT) rest.push(from, LAST_POINT);
  return rest;
}
