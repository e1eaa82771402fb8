/** `npm run check`: format and lint, types, dead code, architecture, side by side. Prints only what fails. */
import { spawn } from "node:child_process";

const checks: Record<string, string[]> = {
  "format and lint": ["node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."],
  // One thread: each of several would infer the whole management plane for itself.
  types: ["node_modules/typescript/bin/tsc", "--noEmit", "--singleThreaded"],
  "types of pages": ["node_modules/typescript/bin/tsc", "--noEmit", "-p", "examples"],
  "dead code": ["node_modules/knip/bin/knip.js"],
  architecture: ["node_modules/vitest/vitest.mjs", "run", "--project", "node", "test/architecture.test.ts"],
};

const results = await Promise.all(
  Object.entries(checks).map(async ([name, args]) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk) => output.push(chunk));
    child.stderr.on("data", (chunk) => output.push(chunk));
    const code = await new Promise<number | null>((resolve) => child.on("exit", resolve));
    if (code !== 0) console.error(`\n── ${name} ──\n${Buffer.concat(output).toString()}`);
    console.log(`${code === 0 ? "✓" : "✗"} ${name}`);
    return code === 0;
  }),
);
process.exit(results.every(Boolean) ? 0 : 1);
