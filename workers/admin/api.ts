/** The management plane: every resource, mounted, and what an error answers. */
import type { ErrorHandler, MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { D1_MS, within } from "../platform/deadline.ts";
import { ApiError, notFound, problemResponse, unavailable } from "../platform/problem.ts";
import { isDatabaseFailure } from "../store/database.ts";
import { AlreadyAnswered, LostRace } from "../store/outbox/commit.ts";
import { changeRequestSteps } from "./approvals/change-requests/actions.ts";
import { changeRequests } from "./approvals/change-requests/change-requests.ts";
import { killReviews } from "./approvals/kill-reviews.ts";
import { policies } from "./approvals/policies.ts";
import { audit } from "./audit/audit.ts";
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
import { targetings } from "./flags/targeting.ts";
import { authenticate } from "./http/access.ts";
import { bodyChecked, traced } from "./http/body.ts";
import type { AdminEnv } from "./http/context.ts";
import { BASE_PATH, resource } from "./http/contract.ts";
import { DOCS_HEADERS, docsPage } from "./http/docs-page.ts";
import { answeredMeanwhile, onceOnly } from "./http/idempotency.ts";
import { describe } from "./http/openapi.ts";
import { queryChecked } from "./http/query.ts";
import { ramps } from "./planned/ramps/ramps.ts";
import { schedules } from "./planned/schedules/schedules.ts";
import { members } from "./segments/members.ts";
import { segments } from "./segments/segments.ts";
import { DryRun, dryRunAnswer } from "./write/dry-run.ts";

const resources = [
  projects,
  environments,
  flags,
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
];

/** Mounted at /api/v1 by workers/index.ts. `now` is epoch milliseconds. */
export function adminApi({ now = Date.now }: { now?: () => number } = {}) {
  const app = resource();
  app.onError(answerProblem);
  app.use(traced(now));
  app.get("/openapi.json", (c) => c.json(describe(app, c.var.now())));
  app.get("/docs", (c) => c.html(docsPage(describe(app, c.var.now())), 200, DOCS_HEADERS));
  app.use(authenticate, knownRoute(app), queryChecked, bodyChecked, onceOnly);
  app.use((c, next) => (c.req.method === "GET" ? within(next(), D1_MS, "reading") : next()));
  for (const routes of resources) app.route("/", routes);
  app.openAPIRegistry.register("DryRun", dryRunAnswer);
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
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
  if (!isDatabaseFailure(error)) return error;
  console.error(JSON.stringify({ level: "error", message: "D1 failed", error: messages(error) }));
  return unavailable(
    "The database does not answer. Nothing was changed, or the change is wholly there: repeat the request.",
  );
}

function messages(error: unknown): string {
  const all: string[] = [];
  for (let cause = error; cause instanceof Error; cause = cause.cause) all.push(cause.message);
  return all.join(" ← ").slice(0, 500);
}

/** 405 where the path is one of ours and the method is not, else 404: before looking at what was sent there. */
function knownRoute(app: ReturnType<typeof resource>): MiddlewareHandler<AdminEnv> {
  let known: { method: string; pattern: RegExp; names: number }[] | undefined;
  return async (c, next) => {
    // At the first request: by then all routes are there.
    known ??= app.routes
      .filter(({ method }) => method !== "ALL")
      .map(({ method, path }) => ({
        method,
        pattern: new RegExp(`^${path.replace(/:[^/]+/g, "[^/]+")}$`),
        names: path.split(":").length,
      }));
    const path = c.req.path.slice(c.req.path.indexOf(BASE_PATH) + BASE_PATH.length);
    const there = known.filter(({ pattern }) => pattern.test(path));
    // As OpenAPI has it: what stands there literally comes before what is only a name.
    const fewest = Math.min(...there.map(({ names }) => names));
    const methods = new Set(there.filter(({ names }) => names === fewest).map(({ method }) => method));
    if (methods.size === 0) throw notFound(`${c.req.method} ${c.req.path}`);
    if (methods.has(c.req.method === "HEAD" ? "GET" : c.req.method)) return next();
    const allow = [...methods].sort().join(", ");
    throw new ApiError(405, "method-not-allowed", `Use one of: ${allow}.`, { headers: { allow } });
  };
}

export const admin = adminApi();
