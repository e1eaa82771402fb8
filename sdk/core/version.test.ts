import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { VERSION } from "./index.ts";

test("VERSION is the package's", () => {
  expect(JSON.parse(readFileSync("sdk/core/package.json", "utf8"))).toMatchObject({ version: VERSION });
});
