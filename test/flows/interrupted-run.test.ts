/** `npm test` that somebody stops. */
import { expect, test } from "vitest";
import { Watched } from "../support/watcher.ts";

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)(
  "a run that is ended by %s says so, with how many tests had passed, and exits with %i",
  async (signal, code) => {
    const run = new Watched(["scripts/test.ts", "--project", "node", "sdk/core", "test/conformance"], {
      cwd: process.cwd(),
    });
    await run.line(/✓.*\d+ tests/);
    expect(await run.end(signal)).toBe(code);
    expect(run.output).toMatch(new RegExp(`Interrupted by ${signal}: [1-9]\\d* passed, 0 failed`));
    expect(run.output).not.toMatch(/wrote no report/);
  },
);
