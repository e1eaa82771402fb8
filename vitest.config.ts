import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

// A bound for what hangs, not a measure of speed: machines that run this are shared.
const testTimeout = 30_000;

const tests = "{sdk,workers,durable-objects,scripts,bench,examples,test}/**/*.test.{ts,tsx}";
const installed = "**/node_modules/**";

/** Whole processes that are started, stopped and killed. */
const processes = ["test/{flows,browser,faults}/**", "test/validate/smoke.test.ts"];
/** Pure code, and what needs Node. */
const node = ["{sdk,scripts,bench,examples}/**", "test/{conformance,validate}/**", "test/*.test.ts"];

// Everything else runs in workerd, with real bindings. So a new test is in one project wherever it is, and in no two of them.
export default defineConfig(async () => ({
  test: {
    projects: [
      {
        test: {
          name: "node",
          testTimeout,
          include: node.map((place) => (place.endsWith("**") ? `${place}/*.test.{ts,tsx}` : place)),
          exclude: [installed, ...processes],
        },
      },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: "./wrangler.toml" },
            main: "./test/support/worker.ts",
            miniflare: {
              bindings: {
                MIGRATIONS: await readD1Migrations("migrations"),
                BOOTSTRAP_TOKEN: "bootstrap",
                // Narrow trees are deep ones.
                RELAY_FAN_OUT: "2",
              },
            },
          }),
        ],
        test: {
          name: "workerd",
          testTimeout,
          hookTimeout: testTimeout,
          include: [tests],
          exclude: [installed, ...processes, ...node],
          setupFiles: ["./test/support/migrate.ts"],
        },
      },
      {
        test: {
          name: "processes",
          globalSetup: "./test/support/temporary-folder.ts",
          include: processes.map((place) => (place.endsWith("**") ? `${place}/*.test.{ts,tsx}` : place)),
          exclude: [installed],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
}));
