/** No test is dropped by a move or run twice: vitest itself is asked which files it would run. */
import { execFileSync } from "node:child_process";
import { globSync } from "node:fs";
import { expect, test } from "vitest";

type Listed = { file: string; projectName: string };

test("every test file belongs to exactly one project of vitest", () => {
  const list = ["node_modules/vitest/vitest.mjs", "list", "--filesOnly", "--json"];
  const listed = JSON.parse(execFileSync(process.execPath, list, { encoding: "utf8" })) as Listed[];
  const root = `${process.cwd()}/`;
  const found = listed.map(({ file }) => file.replace(root, "")).sort();
  // Folders whose names begin with a dot hold what is built and copied.
  const files = globSync("**/*.test.{ts,tsx,mts,js,mjs}", {
    exclude: (name) => name === "node_modules" || name.startsWith("."),
  }).sort();
  expect(files.length).toBeGreaterThan(100);
  expect(found).toEqual(files);
}, 120_000);
