import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

// A bound for what hangs, not a measure of speed: machines that run this are shared.
const testTimeout = 30_000;

// Three kinds of test: plain Node for pure code, workerd for the Worker's parts, and whole processes for flows and faults.
export default defineConfig(async () => ({
  test: {
    projects: [
      {
        test: {
          name: "node",
          testTimeout,
          include: [
            "sdk/**/*.test.ts",
            "scripts/**/*.test.ts",
            "bench/**/*.test.ts",
            "test/conformance/**/*.test.ts",
            "test/validate/*.test.ts",
            "test/*.test.ts",
          ],
          exclude: ["test/validate/smoke.test.ts"],
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
          include: ["test/workers/**/*.test.ts", "workers/**/*.test.ts", "durable-objects/**/*.test.ts"],
          setupFiles: ["./test/support/migrate.ts"],
        },
      },
      {
        test: {
          name: "processes",
          globalSetup: "./test/support/temporary-folder.ts",
          include: [
            "test/flows/**/*.test.ts",
            "test/browser/**/*.test.ts",
            "test/faults/**/*.test.ts",
            "test/validate/smoke.test.ts",
          ],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
}));
