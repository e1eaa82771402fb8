/** The slowest accepted patterns that a search finds (EV-14): random patterns, texts made against them. `npm run bench -- patterns [seconds]` */
import { parsePattern } from "../sdk/core/patterns/pattern.ts";

const SECONDS = Number(process.argv[2] ?? 20);
const ATOMS = ["a", "b", "[ab]", "[^a]", "\\d", ".", "\\w", "[a-c]", "x", "aa", "ab"];
const REPEATS = ["*", "+", "?", "{2,}", "{1,3}", "{0,20}", "{1,100}", "{3}", "{50}", "{0,500}"];
const ENDS = ["", "$", "!", "x$", "\\d$", "[ab]$"];
const UNITS = ["a", "ab", "aab", "b", "1", "a1", "aaab", "abc", "x", "ax", "aaaaaaaaab", `${"a".repeat(50)}b`];
const TEXTS = UNITS.flatMap((unit) =>
  ["", "!", "b", "x", "\n"].map((end) => unit.repeat(1024).slice(0, 1024 - end.length) + end),
);
const KNOWN = ["\\d+x", "^(.+)@(.+)\\.com$", "foo.*bar", "^.*a.*b$", "a.*b.*c", "[a-z]{1,100}!", "(?:a|b|ab)+c"];

let state = 20_261_121;
function below(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}
const pick = (from: readonly string[]) => from[below(from.length)]!;

function generate(depth: number): string {
  const kind = below(20);
  if (depth === 0 || kind < 6) return pick(ATOMS);
  if (kind < 12) return generate(depth - 1) + generate(depth - 1);
  if (kind < 15) return `(?:${generate(depth - 1)}|${generate(depth - 1)})`;
  return `(?:${generate(depth - 1)})${pick(REPEATS)}`;
}

/** Microseconds of the slowest text: the fastest of several goes, so that neither the compiler nor a neighbour is measured. */
function cost(test: (text: string) => boolean, enough: number): number {
  let worst = 0;
  for (const text of TEXTS) {
    let best = Number.POSITIVE_INFINITY;
    for (let go = 0; go < 8 && best > Math.max(worst, enough); go++) {
      const start = performance.now();
      test(text);
      best = Math.min(best, (performance.now() - start) * 1000);
    }
    worst = Math.max(worst, best);
  }
  return worst;
}

const found: { pattern: string; engine: string; micros: number }[] = [];
function measure(pattern: string, enough: number): void {
  const parsed = parsePattern(pattern);
  if (parsed === undefined) return;
  const engine = parsed.tester instanceof RegExp ? "RegExp" : "machine";
  found.push({ pattern, engine, micros: cost((text) => parsed.tester.test(text), enough) });
}

for (const pattern of KNOWN) measure(pattern, 0);
for (const { pattern, engine, micros } of found)
  console.log(`${micros.toFixed(0).padStart(6)} µs  ${engine}  ${pattern}`);
const end = performance.now() + SECONDS * 1000;
while (performance.now() < end) measure((below(3) === 0 ? "^" : "") + generate(4) + pick(ENDS), 200);
console.log(`\n${found.length} accepted patterns, ${TEXTS.length} texts each; the slowest:`);
for (const wanted of ["RegExp", "machine"]) {
  const slowest = found.filter(({ engine }) => engine === wanted).sort((a, b) => b.micros - a.micros);
  for (const { pattern, micros } of slowest.slice(0, 5)) {
    console.log(`${micros.toFixed(0).padStart(6)} µs  ${wanted}  ${pattern}`);
  }
}
