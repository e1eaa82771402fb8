/** What schedules and ramps have in common: who planned them, for which environment, and why one was not done. */

import type { Env } from "../../env.ts";
import { ApiError, forbidden, notFound } from "../../platform/problem.ts";
import { isAtLeast } from "../../store/approvals/policy.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { type Database, isDatabaseFailure, openDatabase } from "../../store/database.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import { findProject, type ProjectRow } from "../../store/projects.ts";
import type { PlanFailure } from "../../store/schema/index.ts";
import { findTokenById, type TokenRow } from "../../store/tokens.ts";
import { isInScope, requireScope, visibleEnvironments } from "../http/access.ts";
import { validationError } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { environmentOf } from "../write/lookup.ts";
import type { Requested } from "../write/request.ts";
import type { Author } from "../write/write.ts";
import type { WritePlace } from "../write/write-line-client.ts";

/** Whose token planned it. */
export const author = z.object({ actor: z.string(), token: z.string().nullable() }).openapi("PlanAuthor");

export const failure = z
  .object({ code: z.string(), detail: z.string(), errors: z.array(validationError).optional() })
  .openapi("PlanFailure", { description: "The problem that a request would have been answered with" });

/** How often D1 may refuse one without saying why, and for how long at the least, before it is given up. */
const MAX_ATTEMPTS = 10;
const GIVEN_UP_AFTER_MS = 10 * 60_000;

type Planned = { actor: string; tokenId: string | null; attempts: number };

/** For reading, before it is known whose it is. */
export const NOBODY: Planned = { actor: "", tokenId: null, attempts: 0 };

/** Whoever planned it also does it: as they were when they planned it. */
export const plannedBy = (
  env: Env,
  now: () => number,
  { actor, tokenId }: Planned,
  place: WritePlace | null = null,
): Author => ({
  env,
  db: openDatabase(env.DB),
  now,
  origin: { actor, tokenId, sourceIp: null, userAgent: null, correlationId: crypto.randomUUID() },
  place,
});

/** When its time has come: whoever has lost the right to do it has lost what they planned, too. @throws ApiError 403 */
export async function requireAuthor(
  db: Database,
  tokenId: string | null,
  { project, environment }: EnvironmentName,
  now: number,
) {
  const { scope } = await authorThere(db, tokenId, now);
  if (!isInScope(scope, project, environment)) throw mayNoLonger();
}

/** Whoever asked for something, if they may still write: an expired token is like a revoked one. @throws ApiError 403 */
export async function authorThere(db: Database, tokenId: string | null, now: number): Promise<TokenRow> {
  const author = tokenId === null ? undefined : await findTokenById(db, tokenId);
  if (author === undefined || author.revokedAt !== null || !isAtLeast(author.role, "editor")) throw mayNoLonger();
  if (author.expiresAt !== null && author.expiresAt <= now) throw mayNoLonger();
  return author;
}

const mayNoLonger = () => forbidden("Its author may no longer change this: somebody else has to go on with it.");

/** Why it cannot be done, to be kept beside it; null where it may be possible a minute later. */
export function failureOf(error: unknown, { attempts }: Planned, lateMs: number): PlanFailure | null {
  // A line that is too long becomes shorter.
  if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
    const { code, message, extra } = error;
    return { code, detail: message, ...(extra.errors && { errors: extra.errors }) };
  }
  if (attempts + 1 >= MAX_ATTEMPTS && lateMs >= GIVEN_UP_AFTER_MS)
    return { code: "gave-up", detail: `It failed ${attempts + 1} times.` };
  if (error instanceof ApiError || error instanceof LostRace || isDatabaseFailure(error)) return null;
  return { code: "internal", detail: "It failed inside; the log says more." };
}

/** The environment that a body names, within the caller's scope. */
export async function environmentInBody({
  env,
  db,
  scope,
  path,
  body,
}: Requested<{ project: string }, { environment: string }>): Promise<EnvironmentName> {
  const { project } = path;
  requireScope(scope, project, body.environment, false);
  return environmentOf({ env, db, path: { project, environment: body.environment } });
}

export async function projectThere({
  db,
  path,
}: Pick<Requested<{ project: string }>, "db" | "path">): Promise<ProjectRow> {
  const project = await findProject(db, path.project);
  if (project === undefined) throw notFound(`The project ${path.project}`);
  return project;
}

/** What is outside the caller's scope is not there. @throws ApiError 404 */
export async function plannedThere<Found extends { environment: EnvironmentName }>(
  { db, scope, path }: Pick<Requested<{ project: string }>, "db" | "scope" | "path">,
  what: "schedule" | "ramp",
  id: string,
  find: (db: Database, id: string) => Promise<Found | undefined>,
): Promise<Found> {
  const found = await find(db, id);
  const visible = visibleEnvironments(scope, path.project);
  const { environment } = found ?? {};
  if (found === undefined || environment?.project !== path.project) throw notFound(`The ${what} ${id}`);
  if (visible !== null && !visible.includes(environment.environment)) throw notFound(`The ${what} ${id}`);
  return found;
}
