/** The page of deadlines is generated from the code's table. `npm test -- -u test/deadlines.test.ts` writes it. */
import { expect, test } from "vitest";
import { deadlines, within } from "../workers/platform/deadline.ts";

const duration = (ms: number) => (ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`);

function page(): string {
  const rows = Object.values(deadlines).map((row) => {
    const { failures, openMs, maxOpenMs } = "breaking" in row ? row.breaking : { failures: 0, openMs: 0, maxOpenMs: 0 };
    const breaker = failures === 0 ? "" : `after ${failures} in a row, ${duration(openMs)} to ${duration(maxOpenMs)}`;
    return `| ${row.call} | ${duration(row.ms)} | ${row.otherwise} | ${breaker} |`;
  });
  const head = ["| call | within | otherwise | breaker opens |", "|---|---|---|---|"];
  return `# Deadlines

Every call between parts, how long its caller waits, and what happens then. Where calls keep failing, a breaker saves the wait: it lets one
through after a while, and waits twice as long if that fails too. The table is \`workers/platform/deadline.ts\`; a test keeps this page like it.

${[...head, ...rows].join("\n")}
`;
}

test("the page of deadlines is the table that the code uses", async () => {
  await expect(page()).toMatchFileSnapshot("../docs/deadlines.md");
});

test("a call fails after its deadline, with an error that names the part", async () => {
  await expect(within(new Promise(() => {}), 5, "a part")).rejects.toThrow("a part took longer than 5 ms");
  expect(await within(Promise.resolve("in time"), deadlines.TIMER_MS.ms, "a part")).toBe("in time");
});
