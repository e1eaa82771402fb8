// Why a pattern is refused, in words: for whoever writes one, never in an SDK's bundle.

import { MAX_NESTING, MAX_REPEAT, type Refusal, Refused } from "./parser.ts";
import { MAX_MACHINE_SIZE, MAX_PATTERN_UNITS, preparePattern } from "./pattern.ts";

/** What follows "The pattern …"; undefined for one that is accepted. */
export function refusalOf(source: string): string | undefined {
  try {
    preparePattern(source);
    return undefined;
  } catch (error) {
    if (error instanceof Refused) return WORDS[error.refusal](error.about);
    throw error;
  }
}

const character = (point: string) => `write \`\\${point}\` for the character`;

const WORDS: Readonly<Record<Refusal, (about: string) => string>> = {
  "lone-surrogate": () => "has a lone surrogate: write whole characters",
  "group-end": () => `has a \`)\` without its \`(\`: ${character(")")}`,
  "group-start": () => `has a \`(\` without its \`)\`: ${character("(")}`,
  "group-kind": () =>
    "has a `(?`: look-around, named groups, flags and comments are not supported, groups are `(…)` or `(?:…)`",
  nesting: () => `nests groups more than ${MAX_NESTING} deep: flatten it`,
  "repeats-repetition": () => "repeats a repetition (`a**`, `a++`): put the inner one in a group `(?:…)`",
  "repeats-assertion": (assertion) => `repeats \`${assertion}\`, which takes no room: leave the repetition out`,
  bounds: () => `has a \`{\` that begins no \`{n}\`, \`{n,}\` or \`{n,m}\`: ${character("{")}`,
  "bounds-order": (bounds) => `has \`{${bounds}}\`, whose bounds are the wrong way round`,
  "bounds-large": () => `repeats more than ${MAX_REPEAT} times`,
  "nothing-to-repeat": (point) => `has a \`${point}\` with nothing to repeat: ${character(point)}`,
  hex: () => "has a `\\x` without two hexadecimal digits",
  backslash: () => `ends in a backslash: ${character("\\")}`,
  "back-reference": () => "has a back-reference, which is not supported",
  escape: (point) =>
    `has \`\\${point}\`, which is not read alike everywhere: \`\\d \\w \\s \\b \\t \\n \\r \\f \\v \\xHH\` are`,
  "class-empty": () => `has a class that begins with \`]\`: ${character("]")}`,
  "class-end": () => `has a \`[\` without its \`]\`: ${character("[")}`,
  "class-range": () => `has a \`-\` beside a class like \`\\d\`: ${character("-")}`,
  "class-range-order": () => "has a range whose ends are the wrong way round",
  "class-range-chain": () => `has a \`-\` after a range: ${character("-")}`,
  "class-nothing": () => "has a class that nothing matches",
  "class-nested": () => "has a `[` inside a class, which is not read alike everywhere: write `\\[`",
  "class-operator": (point) =>
    `has \`${point}${point}\` inside a class, which is not read alike everywhere: write \`\\${point}\``,
  "too-long": () => `is longer than ${MAX_PATTERN_UNITS} characters`,
  "too-large": () =>
    `could take a text through more than ${MAX_MACHINE_SIZE} steps a character: shorten it, repeat less, or anchor it with \`^\``,
};
