/** One word per thing: names that were replaced may not come back. Reads identifiers and file names, not comments or strings. */
import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** A word that no name may contain, and the word to use. At most 25: each has to be known by heart. */
const banned: Record<string, string> = {
  above: "parent, upstream or ancestor",
  affirmed: "positive",
  beginning: "initial state, cold start or start",
  birth: "initial state or cold start",
  born: "initial state or cold start",
  crowd: "admission, eviction or occupancy",
  denied: "negative",
  dialect: "protocol",
  follower: "replication",
  garbage: "invalid response",
  good: "valid",
  hear: "receive",
  heard: "received",
  holding: "current ruleset",
  laid: "overlay",
  meaning: "validity or semantic validation",
  mistake: "validation error",
  nudged: "refreshed or notified",
  standing: "occupancy",
  stranger: "false positive or unauthenticated",
  tallies: "delivery statistics or totals",
  tally: "delivery statistics or total",
  tell: "report or acknowledge",
  told: "sent, reported or shown",
  unheard: "unread",
};

const parts = (name: string) =>
  name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .split(/[^a-z]+/);

const bannedIn = (name: string) =>
  parts(name)
    .map((part) => [part, part.replace(/s$/, "")].find((word) => Object.hasOwn(banned, word)))
    .filter((word) => word !== undefined);

/** Source without comments and without the text of strings; what a template interpolates is code. */
function codeOf(source: string): string {
  return source.replace(
    /\/\*[\s\S]*?\*\/|\/\/.*$|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/gm,
    (text) => (text.startsWith("`") ? [...text.matchAll(/\$\{([^}]*)\}/g)].map(([, inner]) => inner).join(" ") : " "),
  );
}

const namesIn = (source: string) => [...new Set(codeOf(source).match(/[A-Za-z_$][\w$]*/g) ?? [])];

const files = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*.{ts,tsx,mjs}").filter(
  (file) => !file.includes("node_modules") && file !== "test/words.test.ts",
);

test("no file and no identifier has a name that was replaced", () => {
  const found = files.flatMap((file) => [
    ...bannedIn(file).map((word) => `${file}: a file's name has "${word}", say ${banned[word]}`),
    ...namesIn(readFileSync(file, "utf8")).flatMap((name) =>
      bannedIn(name).map((word) => `${file}: ${name}, say ${banned[word]}`),
    ),
  ]);
  expect(files.length).toBeGreaterThan(300);
  expect(found).toEqual([]);
});

test("at most 25 words are banned", () => {
  expect(Object.keys(banned).length).toBeLessThanOrEqual(25);
});

test("names are read in code, and not in comments or strings", () => {
  const source = ["// a stranger", 'const first = "a stranger"; /* garbage */', "const isStranger = first;"].join("\n");
  expect(namesIn(source).flatMap(bannedIn)).toEqual(["stranger"]);
  expect(namesIn(`\`text stranger $${"{tallyOf(one)}"}\``).flatMap(bannedIn)).toEqual(["tally"]);
  expect(["D1_BIRTH_MS", "relayTallies", "durable-objects/relay/crowd.ts"].flatMap(bannedIn)).toEqual([
    "birth",
    "tallies",
    "crowd",
  ]);
});
