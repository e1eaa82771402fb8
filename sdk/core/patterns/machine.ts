// A pattern run as a machine that is in all its states at once (Thompson 1968, Pike's loop): linear whatever the text, where a
// backtracking engine would be quadratic. It costs more for an ordinary text, so only such patterns run on it (pattern.ts).

import type { CharSet, Syntax } from "./parser.ts";

const SET = 0;
const SPLIT = 1;
const JUMP = 2;
const ASSERT = 3;
const MATCH = 4;
const ASSERTIONS = ["^", "$", "\\b", "\\B"];
const ASCII = Array.from({ length: 128 }, (_, point) => point);

/** Only whether a text matches, unanchored. Each step visits an instruction at most once. */
export class Machine {
  readonly #code: number[] = [];
  /** SET: which set. SPLIT: where else to go. JUMP: where to go. ASSERT: which assertion. */
  readonly #operand: number[] = [];
  readonly #sets: CharSet[] = [];
  /** For each set, whether it holds each ASCII character. */
  readonly #ascii: Uint8Array;
  readonly #seen: Int32Array;
  #states: Int32Array;
  #next: Int32Array;
  readonly #open: Int32Array;
  #step = 0;

  constructor(syntax: Syntax) {
    this.#add(syntax);
    this.#emit(MATCH, 0);
    this.#ascii = Uint8Array.from(this.#sets.flatMap((set) => ASCII.map((point) => Number(contains(set, point)))));
    // An instruction waits at most once for either of the two that lead to it.
    [this.#states, this.#next, this.#seen] = [this.#list(), this.#list(), this.#list()];
    this.#open = new Int32Array(this.size * 2 + 2);
  }

  /** Instructions: a step costs at most so much. */
  get size(): number {
    return this.#code.length;
  }

  test(text: string): boolean {
    let count = 0;
    let before = -1;
    for (let at = 0; ; ) {
      const point = at < text.length ? text.codePointAt(at)! : -1;
      // Unanchored: a match may begin anywhere. One that must begin at the start asserts it.
      this.#states[count++] = 0;
      count = this.#advance(count, before, point);
      if (count < 0) return true;
      if (point < 0) return false;
      before = point;
      at += point > 0xffff ? 2 : 1;
    }
  }

  /** From the states between two characters to those after the second; -1 for a match. */
  #advance(count: number, before: number, point: number): number {
    const step = ++this.#step;
    const seen = this.#seen;
    const open = this.#open;
    const states = this.#states;
    const next = this.#next;
    const code = this.#code;
    const operands = this.#operand;
    const sets = this.#sets;
    const ascii = this.#ascii;
    const isAscii = point >= 0 && point < 128;
    let reached = 0;
    for (let i = 0; i < count; i++) {
      let top = 0;
      for (let at = states[i]!; ; at = open[--top]!) {
        // Straight on as long as there is somewhere to go that this step has not been.
        while (seen[at] !== step) {
          seen[at] = step;
          const operand = operands[at]!;
          const kind = code[at];
          if (kind === SET) {
            if (isAscii ? ascii[operand * 128 + point] === 1 : contains(sets[operand]!, point))
              next[reached++] = at + 1;
            break;
          }
          if (kind === MATCH) return -1;
          if (kind === JUMP) {
            at = operand;
          } else if (kind === SPLIT) {
            open[top++] = operand;
            at++;
          } else if (holds(operand, before, point)) {
            at++;
          } else {
            break;
          }
        }
        if (top === 0) break;
      }
    }
    this.#states = next;
    this.#next = states;
    return reached;
  }

  #add(syntax: Syntax): void {
    switch (syntax.kind) {
      case "set":
        // What is repeated is one set, however often.
        if (!this.#sets.includes(syntax.set)) this.#sets.push(syntax.set);
        this.#emit(SET, this.#sets.indexOf(syntax.set));
        break;
      case "assertion":
        this.#emit(ASSERT, ASSERTIONS.indexOf(syntax.text));
        break;
      case "sequence":
        for (const part of syntax.parts) this.#add(part);
        break;
      case "choice": {
        const jumps: number[] = [];
        for (const [index, branch] of syntax.branches.entries()) {
          const isLast = index === syntax.branches.length - 1;
          const split = isLast ? -1 : this.#emit(SPLIT, 0);
          this.#add(branch);
          if (!isLast) {
            jumps.push(this.#emit(JUMP, 0));
            this.#operand[split] = this.size;
          }
        }
        for (const jump of jumps) this.#operand[jump] = this.size;
        break;
      }
      case "repeat":
        this.#repeat(syntax.body, syntax.min, syntax.max);
    }
  }

  #repeat(body: Syntax, min: number, max: number): void {
    for (let copy = 0; copy < min; copy++) this.#add(body);
    if (max === Number.POSITIVE_INFINITY) {
      const split = this.#emit(SPLIT, 0);
      this.#add(body);
      this.#emit(JUMP, split);
      this.#operand[split] = this.size;
      return;
    }
    const splits: number[] = [];
    for (let copy = min; copy < max; copy++) {
      splits.push(this.#emit(SPLIT, 0));
      this.#add(body);
    }
    for (const split of splits) this.#operand[split] = this.size;
  }

  #emit(code: number, operand: number): number {
    this.#operand.push(operand);
    return this.#code.push(code) - 1;
  }

  #list(): Int32Array {
    return new Int32Array(this.size + 2);
  }
}

function contains(set: CharSet, point: number): boolean {
  for (let i = 0; i < set.length && point >= set[i]!; i += 2) if (point <= set[i + 1]!) return true;
  return false;
}

/** Between two code points, -1 being the end of the text. */
function holds(assertion: number, before: number, after: number): boolean {
  if (assertion === 0) return before < 0;
  if (assertion === 1) return after < 0;
  return (isWord(before) !== isWord(after)) === (assertion === 2);
}

function isWord(point: number): boolean {
  return (point >= 48 && point <= 57) || (point >= 65 && point <= 90) || point === 95 || (point >= 97 && point <= 122);
}
