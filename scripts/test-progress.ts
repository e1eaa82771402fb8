/** A reporter of vitest that sends each test that has ended to `npm test`, which counts them should it be interrupted. */
import type { Reporter } from "vitest/node";

export type TestEnd = { state: "passed" | "failed" | "skipped" };

export default class TestProgress implements Reporter {
  onTestCaseResult(test: Parameters<NonNullable<Reporter["onTestCaseResult"]>>[0]): void {
    const { state } = test.result();
    if (state !== "pending") process.send?.({ state } satisfies TestEnd);
  }
}
