/** A number that a test or a comment cites is defined in docs/requirements.md (R, Q, X) or docs/evaluation.md (EV). */
import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const files = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*.{ts,tsx}").filter(
  (file) => !file.includes("node_modules"),
);

const defined = new Set([
  ...[...readFileSync("docs/requirements.md", "utf8").matchAll(/^\| ([RQX]\d+) \|/gm)].map(([, id]) => id!),
  ...[...readFileSync("docs/evaluation.md", "utf8").matchAll(/^- \*\*(EV-\d+)\*\*/gm)].map(([, id]) => id!),
]);

/** "R9–R12" cites all four. "R2" without brackets is usually Cloudflare's storage, which is defined here too and does no harm. */
function citedIn(text: string): string[] {
  const single = [...text.matchAll(/(?<![\w-])(EV-\d+|[RQX]\d{1,2})(?![\w-])/g)].map(([id]) => id);
  const ranges = text.matchAll(/(?<![\w-])(EV-|[RQX])(\d+)(?:–| to )\1(\d+)(?![\w-])/g);
  const between = [...ranges].flatMap(([, kind, from, to]) =>
    Array.from({ length: Number(to) - Number(from) + 1 }, (_, index) => `${kind}${Number(from) + index}`),
  );
  return [...new Set([...single, ...between])];
}

/** Comments, and the titles of tests: the first string of `test(…)`, `describe(…)` or `it(…)`. */
function proseOf(text: string): string {
  const comments = text.match(/\/\*[\s\S]*?\*\/|\/\/.*$/gm) ?? [];
  const titles = text.matchAll(
    /\b(?:test|describe|it)(?:\.\w+)*(?:\([^"'`]{0,80}\))?\(\s*(["'`])((?:\\.|(?!\1)[\s\S])*)\1/g,
  );
  const table = text.matchAll(/^\s*\]\)\(\s*"([^"]*)"/gm);
  return [...comments, ...[...titles].map(([, , title]) => title), ...[...table].map(([, title]) => title)].join("\n");
}

test("every requirement and every rule of evaluation that a test or a comment cites is defined", () => {
  const cited = files.flatMap((file) => citedIn(proseOf(readFileSync(file, "utf8"))).map((id) => ({ file, id })));
  expect(new Set(cited.map(({ id }) => id)).size).toBeGreaterThan(40);
  expect(cited.filter(({ id }) => !defined.has(id))).toEqual([]);
});

test("what is cited is found in titles, in comments and in ranges", () => {
  const source = ["/** Why (Q8). */", 'test("a kill (R7)", () => {});', 'const code = "R99";'].join("\n");
  expect(citedIn(proseOf(source))).toEqual(["Q8", "R7"]);
  expect(citedIn("R9–R12, X3 and EV-7")).toEqual(expect.arrayContaining(["R9", "R10", "R11", "R12", "X3", "EV-7"]));
});
