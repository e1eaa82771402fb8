/** `npm test`: everything, then one plain line that says how it went. Arguments go to vitest. */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import type { TestEnd } from "./test-progress.ts";

type Report = { numPassedTests: number; numFailedTests: number; numPendingTests: number; numFailedTestSuites: number };

const report = ".bunting/test-report.json";
mkdirSync(".bunting", { recursive: true });
rmSync(report, { force: true });

const args = [
  "node_modules/vitest/vitest.mjs",
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${report}`,
  "--reporter=./scripts/test-progress.ts",
];
const stdio = ["inherit", "inherit", "inherit", "ipc"] as const;
const vitest = spawn(process.execPath, [...args, ...process.argv.slice(2)], { stdio: [...stdio] });

/** What has ended so far: the report is written only when everything has. */
const done = { passed: 0, failed: 0 };
vitest.on("message", ({ state }: TestEnd) => {
  done[state === "passed" ? "passed" : "failed"] += 1;
});
let interrupted: "SIGINT" | "SIGTERM" | null = null;
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    interrupted ??= signal;
    vitest.kill(signal);
  });

vitest.on("exit", (code) => {
  if (interrupted !== null) {
    console.log(
      `\nInterrupted by ${interrupted}: ${done.passed} passed, ${done.failed} failed until then. The other tests did not run to their end.`,
    );
    process.exit(interrupted === "SIGINT" ? 130 : 143);
  }
  let passed = 0;
  let failed = 0;
  try {
    const result = JSON.parse(readFileSync(report, "utf8")) as Report;
    passed = result.numPassedTests;
    // A skipped test proves nothing, and a file that does not load has no failed tests to count.
    failed = result.numFailedTests + result.numPendingTests;
    if (failed === 0) failed = result.numFailedTestSuites;
  } catch {
    console.error("vitest wrote no report: it did not get as far as running the tests.");
  }
  const broken = code !== 0 || passed === 0;
  console.log(`\n${passed} passed, ${broken ? Math.max(failed, 1) : failed} failed`);
  process.exit(broken || failed > 0 ? 1 : 0);
});
