// How strings compare: as Unicode scalar values, a lone surrogate being U+FFFD as it is in UTF-8 (EV-13, EV-14, EV-30).

const REPLACEMENT = "\ufffd";

/** Whether the text is without a lone surrogate or the character that stands for one. */
export function isPlain(text: string): boolean {
  return text.isWellFormed() && !text.includes(REPLACEMENT);
}

/**
 * Simple Unicode lower-casing: every code point by itself. JavaScript's own differs in two characters only: a final
 * sigma depends on its neighbours, and a dotted capital I becomes two code points.
 */
export function lowerCase(text: string): string {
  return text.replaceAll("\u0130", "i").replaceAll("\u03a3", "\u03c3").toLowerCase();
}

/** A list of strings, prepared for lookup. */
export class StringList {
  readonly #members: ReadonlySet<string>;
  // Only a member with U+FFFD can equal a text with a lone surrogate: no other list pays for the question.
  readonly #repair: boolean;

  constructor(values: readonly unknown[]) {
    const members = new Set<string>();
    let repair = false;
    for (const value of values) {
      if (typeof value !== "string") continue;
      if (!isPlain(value)) repair = true;
      members.add(value.toWellFormed());
    }
    this.#members = members;
    this.#repair = repair;
  }

  has(value: string): boolean {
    return this.#members.has(this.#repair ? value.toWellFormed() : value);
  }
}
