/** Who asks, how often, and what they may touch. The role that an operation needs stands in its declaration. 403 comes before looking anything up: it never tells what exists. */

import { AddressLimit, addressOf, UNAUTHENTICATED } from "../../platform/address-limit.ts";
import { errorText } from "../../platform/error-text.ts";
import { forbidden, tooMany, unauthenticated, unavailable } from "../../platform/problem.ts";
import { takeTokens } from "../../platform/rate-limit.ts";
import { sha256 } from "../../platform/sha256.ts";
import { findToken } from "../../store/credentials.ts";
import { missingIn } from "../../store/migrations.ts";
import { ROLES, type Role, type Scope } from "../../store/schema/index.ts";
import type { AdminContext, Caller } from "./context.ts";
import { notMigrated } from "./not-migrated.ts";

const BOOTSTRAP: Caller = {
  id: "bootstrap",
  name: "bootstrap",
  role: "admin",
  scope: { projects: [], environments: [] },
  groups: [],
  bootstrap: true,
};

/** What an operation says of who may do it. */
export type Reach = "path" | "own" | "part";
type Access = { role: Role; reach: Reach; bootstrap?: boolean; withoutDatabase?: boolean };

/** `operation`: null where the path is none of ours. @throws ApiError 401, 403, 429. A kill is delayed by no limit. */
export async function authenticate(c: AdminContext, operation: Access | null): Promise<void> {
  const secret = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  if (secret === undefined) throw unauthenticated("Send an API token: Authorization: Bearer bnt_api_…");
  const isBootstrap = await isBootstrapSecret(c, secret);
  if (isBootstrap && operation?.bootstrap !== true) {
    throw forbidden("The bootstrap secret may create API tokens and nothing else.");
  }
  const caller = isBootstrap ? BOOTSTRAP : await tokenCaller(c, secret, operation?.withoutDatabase === true);
  c.set("caller", caller);
  if (operation?.withoutDatabase !== true) await limitRate(c, caller);
}

async function isBootstrapSecret(c: AdminContext, secret: string): Promise<boolean> {
  const expected = c.env.BOOTSTRAP_TOKEN;
  if (expected === undefined || expected === "") return false;
  const bytes = new TextEncoder();
  // Hashed first: equal lengths are what the comparison in constant time asks for.
  const [given, wanted] = await Promise.all([sha256(secret), sha256(expected)]);
  return crypto.subtle.timingSafeEqual(bytes.encode(given), bytes.encode(wanted));
}

/** Of this isolate: hashes of tokens that were valid lately, whose requests no guesses from their address hold up. */
const valid = new Set<string>();
const MAX_VALID = 10_000;
const guesses = new AddressLimit(UNAUTHENTICATED);

async function tokenCaller(c: AdminContext, secret: string, isKill: boolean): Promise<Caller> {
  if (!secret.startsWith("bnt_api_")) throw unauthenticated(notAToken(secret));
  const hash = await sha256(secret);
  const address = addressOf(c.req.raw);
  if (!isKill && !valid.has(hash)) refuseGuesses(address);
  const token = await findToken(c.var.db, c.env.KV, hash).catch((error: unknown) => {
    console.error(JSON.stringify({ level: "error", message: "credentials cannot be read", error: errorText(error) }));
    const missing = missingIn(error);
    throw missing === null ? unavailable("Credentials cannot be checked at the moment.") : notMigrated(missing);
  });
  const isExpired = token !== null && token.expiresAt !== null && token.expiresAt <= c.var.now();
  if (token === null || token.revokedAt !== null || isExpired) {
    valid.delete(hash);
    guesses.count(address);
    throw unauthenticated(isExpired ? "The API token has expired." : "The API token is unknown or revoked.");
  }
  if (valid.size >= MAX_VALID) valid.clear();
  valid.add(hash);
  const { id, name, role, scope, groups } = token;
  return { id, name, role, scope, groups, bootstrap: false };
}

/** @throws ApiError 429 before anything is looked up. */
function refuseGuesses(address: string): void {
  const waitMs = guesses.waitMs(address);
  if (waitMs > 0)
    throw tooMany(Math.ceil(waitMs / 1_000), "Too many API tokens that are not valid came from this address.");
}

function notAToken(secret: string): string {
  const takes = "the management API takes API tokens (bnt_api_…).";
  if (secret.startsWith("bnt_srv_")) return `This is a server key; ${takes}`;
  if (secret.startsWith("bnt_cli_")) return `This is a client key; ${takes}`;
  return `This is not an API token; ${takes}`;
}

async function limitRate(c: AdminContext, caller: Caller): Promise<void> {
  const limit = { perSecond: Number(c.env.MANAGEMENT_PER_SECOND), burst: Number(c.env.MANAGEMENT_BURST) };
  const taken = await takeTokens(c.env, `management:${caller.id}`, limit);
  if (!taken.allowed) {
    throw tooMany(taken.retryAfterSeconds, `More than ${limit.perSecond} requests a second with this token.`);
  }
}

/**
 * What an operation reaches is read from its path: an environment, a project as a whole, or, where it names no project,
 * everything there is. `"own"` is for an operation whose answer is itself limited to the scope, `"part"` for one of a project
 * that looks at the environment itself.
 * @throws ApiError 403
 */
export function authorize(c: AdminContext, { role, reach }: Access): void {
  const { caller } = c.var;
  if (ROLES.indexOf(caller.role) < ROLES.indexOf(role)) {
    throw forbidden(`This needs the role ${role}; the token has the role ${caller.role}.`);
  }
  const { project, environment } = c.req.param() as { project?: string; environment?: string };
  if (reach !== "own") requireScope(caller.scope, project, environment, reach === "part" || role === "viewer");
}

/** For what only the request's body or a row names. @throws ApiError 403 */
export function requireScope(
  scope: Scope,
  project: string | undefined,
  environment: string | undefined,
  reading: boolean,
): void {
  if (scope.projects.length === 0 && scope.environments.length === 0) return;
  if (project === undefined) throw forbidden("This needs a token whose scope is not limited.");
  if (scope.projects.length > 0 && !scope.projects.includes(project)) {
    throw forbidden(`This needs the project ${project} in the token's scope.`);
  }
  if (scope.environments.length === 0) return;
  if (environment === undefined) {
    // What belongs to a project shows in each of its environments, and changes them all.
    if (reading && scope.environments.some((name) => name.startsWith(`${project}/`))) return;
    throw forbidden(
      `This needs the whole project ${project}, and the token's scope holds only some of its environments.`,
    );
  }
  if (!scope.environments.includes(`${project}/${environment}`)) {
    throw forbidden(`This needs the environment ${project}/${environment} in the token's scope.`);
  }
}

/** Whether a scope, anybody's, holds one environment. */
export const isInScope = ({ projects, environments }: Scope, project: string, environment: string): boolean =>
  (projects.length === 0 || projects.includes(project)) &&
  (environments.length === 0 || environments.includes(`${project}/${environment}`));

/** The projects that a caller may list, null for all. */
export function visibleProjects(scope: Scope): string[] | null {
  const ofEnvironments = scope.environments.map((name) => name.slice(0, name.indexOf("/")));
  if (scope.projects.length === 0) return scope.environments.length === 0 ? null : ofEnvironments;
  return scope.environments.length === 0
    ? scope.projects
    : scope.projects.filter((project) => ofEnvironments.includes(project));
}

/** The environments of a project that a caller may list, null for all. */
export const visibleEnvironments = ({ environments }: Scope, project: string): string[] | null =>
  environments.length === 0
    ? null
    : environments.filter((name) => name.startsWith(`${project}/`)).map((name) => name.slice(project.length + 1));
