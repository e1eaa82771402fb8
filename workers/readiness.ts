/** Whether this deployment can be worked with, and what a person has to do about it. */
import type { Env } from "./env.ts";
import { D1_MS, within } from "./platform/deadline.ts";
import { errorText } from "./platform/error-text.ts";
import { openDatabase } from "./store/database.ts";
import { MIGRATE, missingIn, missingTables } from "./store/migrations.ts";
import { hasAdministrator } from "./store/tokens.ts";

type Answer = { status: "ready" | "not-ready"; problems: string[]; warnings: string[] };

/** Anybody may ask, and each look costs D1 two reads. */
const KEPT_MS = 5_000;
let kept: { answer: Promise<Answer>; until: number } | null = null;

/** `GET /readyz`: 200, or 503 with what is wrong and the command that mends it. */
export async function readiness(env: Env, now = Date.now()): Promise<Response> {
  if (kept === null || kept.until <= now) kept = { answer: look(env, now), until: now + KEPT_MS };
  const answer = await kept.answer;
  const headers = { "cache-control": "no-store" };
  return Response.json(answer, { status: answer.status === "ready" ? 200 : 503, headers });
}

async function look(env: Env, now: number): Promise<Answer> {
  const problems: string[] = [];
  const warnings: string[] = [];
  try {
    const missing = await within(missingTables(env.DB), D1_MS, "D1");
    if (missing.length > 0) problems.push(`D1 has no ${missing.join(", ")}. Apply the migrations: ${MIGRATE}`);
    else if (env.BOOTSTRAP_TOKEN && (await within(hasAdministrator(openDatabase(env.DB), now), D1_MS, "D1")))
      warnings.push("BOOTSTRAP_TOKEN is still set and no longer of use: npx wrangler secret delete BOOTSTRAP_TOKEN");
  } catch (error) {
    console.error(JSON.stringify({ level: "error", message: "D1 cannot be looked at", error: errorText(error) }));
    problems.push("D1 does not answer. Evaluation, streams and kills go on without it.");
  }
  return { status: problems.length === 0 ? "ready" : "not-ready", problems, warnings };
}

let reported = false;

/** Cron runs each minute from the first upload on, perhaps before the migrations: that is said once, and is no crash. */
export async function unlessUnmigrated(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    const missing = missingIn(error);
    if (missing === null) throw error;
    if (!reported) console.error(JSON.stringify({ level: "error", message: `D1 has no ${missing}`, remedy: MIGRATE }));
    reported = true;
  });
}
