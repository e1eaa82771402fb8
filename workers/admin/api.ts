/** The management plane: every operation, mounted, and what an error answers. */
import { type ErrorHandler, Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { errorText } from "../platform/error-text.ts";
import { ApiError, problemResponse, unavailable } from "../platform/problem.ts";
import { isDatabaseFailure } from "../store/database.ts";
import { missingIn } from "../store/migrations.ts";
import { AlreadyAnswered, LostRace } from "../store/outbox/commit.ts";
import { changeRequestSteps } from "./approvals/change-requests/actions.ts";
import { changeRequests } from "./approvals/change-requests/change-requests.ts";
import { killReviews } from "./approvals/kill-reviews.ts";
import { policies } from "./approvals/policies.ts";
import { audit } from "./audit/audit.ts";
import { me } from "./credentials/me.ts";
import { sdkKeys } from "./credentials/sdk-keys.ts";
import { tokens } from "./credentials/tokens.ts";
import { comparisons } from "./environments/compare.ts";
import { dependents } from "./environments/dependents.ts";
import { environments } from "./environments/environments.ts";
import { projects } from "./environments/projects.ts";
import { promotions } from "./environments/promote.ts";
import { flagArchive } from "./flags/archive.ts";
import { flagBulk } from "./flags/bulk.ts";
import { codeReferences } from "./flags/code-references.ts";
import { flags } from "./flags/flags.ts";
import { killSwitch } from "./flags/kill-switch.ts";
import { staleFlags } from "./flags/stale.ts";
import { flagSummaries } from "./flags/summary.ts";
import { targetings } from "./flags/targeting.ts";
import { traced } from "./http/body.ts";
import type { AdminEnv } from "./http/context.ts";
import { Documentation } from "./http/documentation.ts";
import { answeredMeanwhile } from "./http/idempotency.ts";
import { notMigrated } from "./http/not-migrated.ts";
import { describe } from "./http/openapi.ts";
import { route } from "./http/router.ts";
import { ramps } from "./planned/ramps/ramps.ts";
import { schedules } from "./planned/schedules/schedules.ts";
import { members } from "./segments/members.ts";
import { segments } from "./segments/segments.ts";
import { DryRun, preview } from "./write/preview.ts";

/** In the order of the OpenAPI document. */
const operations = [
  projects,
  environments,
  flags,
  flagSummaries,
  flagBulk,
  flagArchive,
  targetings,
  killSwitch,
  killReviews,
  segments,
  members,
  dependents,
  codeReferences,
  staleFlags,
  comparisons,
  promotions,
  sdkKeys,
  tokens,
  policies,
  changeRequests,
  changeRequestSteps,
  schedules,
  ramps,
  audit,
  me,
].flat();

/** Mounted at /api/v1 by workers/index.ts. `now` is epoch milliseconds. */
export function adminApi({ now = Date.now }: { now?: () => number } = {}) {
  const app = new Hono<AdminEnv>({ strict: false });
  const documentation = new Documentation(() => describe(operations, preview, now()));
  app.onError(answerProblem);
  app.use(traced(now));
  app.get("/openapi.json", (c) => documentation.json(c));
  app.get("/docs", (c) => documentation.page(c));
  route(app, operations);
  return app;
}

const answerProblem: ErrorHandler<AdminEnv> = async (error, c) => {
  if (error instanceof DryRun) return c.json(error.answer, 200);
  if (error instanceof AlreadyAnswered) {
    try {
      return await answeredMeanwhile(c);
    } catch (cause) {
      return problemResponse(asProblem(cause), c.var.correlationId);
    }
  }
  return problemResponse(asProblem(error), c.var.correlationId);
};

function asProblem(error: unknown): unknown {
  if (error instanceof LostRace) return unavailable("Too many others are changing this. Nothing was changed.", 1);
  if (error instanceof HTTPException) return new ApiError(error.status, "invalid-request", error.message);
  const missing = missingIn(error);
  if (missing !== null) return notMigrated(missing);
  if (!isDatabaseFailure(error)) return error;
  console.error(JSON.stringify({ level: "error", message: "D1 failed", error: errorText(error) }));
  return unavailable(
    "The database does not answer. Nothing was changed, or the change is wholly there: repeat the request.",
  );
}

export const admin = adminApi();
