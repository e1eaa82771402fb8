/** A deployment whose migrations have not been applied. The tables of this file's database are put aside one after the other. */
import { createScheduledController } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import worker from "../../../workers/index.ts";
import { readiness } from "../../../workers/readiness.ts";
import { as, newToken } from "../../support/admin.ts";

const admin = await newToken();
const COMMAND = "npx wrangler d1 migrations apply DB --remote";
const ready = async (now: number) => {
  const response = await readiness(env, now);
  const { problems, warnings } = (await response.json()) as { problems: string[]; warnings: string[] };
  return { status: response.status, problems, warnings };
};
let later = Date.now();
const next = () => (later += 60_000);

test("with its tables it is ready, and says that the bootstrap secret is still set (GET /readyz)", async () => {
  const { status, problems, warnings } = await ready(next());
  expect([status, problems]).toEqual([200, []]);
  expect(warnings).toEqual([expect.stringContaining("npx wrangler secret delete BOOTSTRAP_TOKEN")]);
  const served = await exports.default.fetch(new Request("https://bunting.test/readyz"));
  expect([served.status, served.headers.get("cache-control")]).toEqual([200, "no-store"]);
});

test("while D1 does not answer it is not ready, and what works without it is named", async () => {
  const failing = { prepare: () => ({ all: () => Promise.reject(new Error("D1 is down")) }) };
  const response = await readiness({ ...env, DB: failing as unknown as D1Database }, next());
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ problems: [expect.stringMatching(/D1 does not answer.*kills/)] });
});

test("without a table every request that needs it names the table and the command, and is no outage", async () => {
  await env.DB.prepare("ALTER TABLE policies RENAME TO gone").run();
  expect((await ready(next())).problems).toEqual([`D1 has no policies. Apply the migrations: ${COMMAND}`]);
  const { results } = await env.DB.prepare(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%' AND name <> 'd1_migrations'",
  ).all<{ name: string }>();
  for (const { name } of results) await env.DB.prepare(`ALTER TABLE ${name} RENAME TO gone_${name}`).run();
  for (const [method, path, api] of [
    ["GET", "/projects", admin],
    ["POST", "/tokens", as("bootstrap")],
  ] as const) {
    const { status, body } = await api(method, path, method === "POST" ? { name: "me", role: "admin" } : undefined);
    expect([path, status, body.code]).toEqual([path, 503, "not-migrated"]);
    expect(body.detail).toMatch(/has no table \w+/);
    expect(body.detail).toContain(COMMAND);
  }
  const { status, problems } = await ready(next());
  expect(status).toBe(503);
  expect(problems[0]).toMatch(/api_tokens.*projects/);
  const health = await exports.default.fetch(new Request("https://bunting.test/healthz"));
  expect(health.status).toBe(200);
});

test("cron says so once, and not each minute", async () => {
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  for (let minute = 0; minute < 3; minute++) await worker.scheduled(createScheduledController(), env);
  const lines = error.mock.calls.map(([line]) => String(line)).filter((line) => line.includes(COMMAND));
  expect(lines).toHaveLength(1);
});
