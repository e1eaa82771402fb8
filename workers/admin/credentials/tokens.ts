import type { Env } from "../../env.ts";
import { KV_READ_MS, within } from "../../platform/deadline.ts";
import { errorText } from "../../platform/error-text.ts";
import { ApiError, badRequest, conflict, forbidden, notFound, unavailable } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import { mirrorToken } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import type { Role, Scope } from "../../store/schema/index.ts";
import {
  findTokenById,
  hasAdministrator,
  insertToken,
  listTokens,
  type TokenRow,
  updateToken,
} from "../../store/tokens.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import type { AdminContext } from "../http/context.ts";
import { key, name, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { issuedQuery, listing } from "../http/pagination.ts";
import { instantOrNull } from "../http/quantities.ts";
import { z } from "../http/zod.ts";
import { MAX_SCOPE } from "../limits.ts";
import { operation } from "../operation.ts";
import { secretFor } from "../write/preview.ts";
import { requireFuture, write } from "../write/write.ts";

const role = z.enum(["viewer", "editor", "approver", "admin"]);
const environmentName = z
  .string()
  .regex(/^[A-Za-z0-9._~-]{1,128}\/[A-Za-z0-9._~-]{1,128}$/)
  .openapi({ example: "demo/production" });

const scope = z
  .strictObject({
    projects: z.array(key).max(MAX_SCOPE).default([]),
    environments: z.array(environmentName).max(MAX_SCOPE).default([]),
  })
  .openapi("Scope", { description: "Empty lists mean everything; an environment is `project/environment`." });

const token = z
  .object({
    id: z.string(),
    name,
    shown: z.string(),
    role,
    scope: z.object({ projects: z.array(z.string()), environments: z.array(z.string()) }),
    version: z.number().int(),
    groups: z.array(z.string()),
    createdAt: time,
    updatedAt: time,
    expiresAt: time.nullable(),
    revokedAt: time.nullable(),
  })
  .openapi("Token");

const groups = z
  .array(key)
  .max(MAX_SCOPE)
  .openapi({ description: "Whom policies name as approvers", example: ["payments"] });

const shown = ({ hash: _, ...row }: TokenRow): z.infer<typeof token> => row;

const create = operation({
  id: "createToken",
  method: "post",
  path: "/tokens",
  tag: "tokens",
  summary: "Create an API token; its secret is in this answer and nowhere else",
  role: "admin",
  bootstrap: true,
  body: z.strictObject({
    name,
    role,
    scope: scope.optional(),
    groups: groups.optional(),
    expiresAt: instantOrNull.optional(),
  }),
  status: 201,
  answer: token.extend({ token: z.string().optional() }),
  returns: "Created",
  example: { name: "CI", role: "editor", scope: { projects: ["demo"] } },
  problems: { 403: ["bootstrap-used"] },
  handle: async ({ env, db, body }, c) => {
    const isFirst = c.var.caller.bootstrap;
    if (isFirst) await requireNobody(c, body);
    const { name, role, scope = { projects: [], environments: [] }, groups = [], expiresAt = null } = body;
    requireFuture(expiresAt, c.var.now());
    const { secret, hash, shown: abbreviated } = await secretFor(c, "bnt_api");
    const id = newId("tok");
    const now = c.var.now();
    const times = { createdAt: now, updatedAt: now, expiresAt, revokedAt: null };
    const row = { id, name, hash, shown: abbreviated, role, scope, groups, version: 1, ...times };
    const done = await write(c, async () => ({
      status: 201,
      body: shown(row),
      etag: etagOf(1),
      secret: true,
      write: {
        statements: [insertToken(db, row, isFirst ? { now } : null)],
        audit: {
          action: "token.create",
          type: "token",
          key: id,
          changes: difference({}, { name, role, scope, groups, expiresAt }),
        },
      },
    }));
    await mirror(env, row).catch(notMirrored(id));
    return { ...done.body, token: secret };
  },
});

const list = operation({
  id: "listTokens",
  method: "get",
  path: "/tokens",
  tag: "tokens",
  summary: "List API tokens",
  role: "admin",
  query: issuedQuery.extend({ role: role.optional() }),
  answer: page(token),
  returns: "Tokens",
  handle: async ({ db, query }, c) => {
    const { role, q, state, ...order } = query;
    const { page, answerOf } = await listing(c, order, "id");
    const rows = await listTokens(db, { role, q, state, now: c.var.now() }, page);
    return answerOf(rows, shown);
  },
});

const PATH = "/tokens/{token}";

const read = operation({
  id: "readToken",
  method: "get",
  path: PATH,
  tag: "tokens",
  summary: "Read an API token, without its secret",
  role: "admin",
  answer: token,
  returns: "The token",
  handle: async ({ db, path }, c) => {
    const row = await tokenThere(db, path.token);
    c.header("etag", etagOf(row.version));
    return shown(row);
  },
});

const patch = operation({
  id: "updateToken",
  method: "patch",
  path: PATH,
  tag: "tokens",
  summary: "Rename a token, narrow its scope, set its groups or move its end; nobody prolongs their own",
  role: "admin",
  body: z.strictObject({ name, scope, groups, expiresAt: instantOrNull }).partial(),
  answer: token,
  returns: "The token",
  example: { name: "CI of the shop" },
  problems: { 409: ["revoked", "last-administrator"] },
  handle: async (requested, c) => {
    const { env, db, path, body } = requested;
    let after: TokenRow | undefined;
    const done = await write(c, async (now) => {
      const row = await tokenThere(db, path.token);
      requireIfMatch(requested, etagOf(row.version));
      if (row.revokedAt !== null)
        throw conflict("revoked", "The token is revoked and cannot be used again: create another.");
      const next = { ...row, ...body };
      const changes = difference(shown(row), shown(next));
      if (isEmpty(changes)) return { status: 200, body: shown(row), etag: etagOf(row.version) };
      if (changes.expiresAt !== undefined) requireFuture(next.expiresAt, now);
      requireNarrower(row, next);
      const leaves = isAdministrator(row, now) && !isAdministrator(next, now);
      if (leaves) await requireAnother(db, row.id, now);
      const prolonged = endOf(next) > endOf(row);
      if (prolonged && row.id === c.var.caller.id)
        throw forbidden("A token cannot extend its own expiry: use another token.");
      next.version = row.version + 1;
      next.updatedAt = now;
      after = prolonged ? next : undefined;
      return {
        status: 200,
        body: shown(next),
        etag: etagOf(next.version),
        // What is taken away goes from the mirror first, what is given comes last: it never allows more than D1.
        prepare: () =>
          mirror(env, { ...next, expiresAt: prolonged ? row.expiresAt : next.expiresAt }).catch(() => {
            throw unavailable(
              "The token was not changed: its copy in KV cannot be written at the moment. Repeat the request.",
            );
          }),
        write: {
          statements: [updateToken(db, row, next, leaves ? { now } : null)],
          audit: { action: "token.update", type: "token", key: row.id, changes },
        },
      };
    });
    if (after !== undefined) await mirror(env, after).catch(notMirrored(after.id));
    return done.body;
  },
});

const revoke = operation({
  id: "deleteToken",
  method: "delete",
  path: PATH,
  tag: "tokens",
  summary: "Revoke an API token",
  role: "admin",
  status: 204,
  returns: "Revoked",
  problems: { 409: ["last-administrator"] },
  plan: async (requested, now) => {
    const { env, db, path } = requested;
    const row = await tokenThere(db, path.token);
    requireIfMatch(requested, etagOf(row.version));
    if (row.revokedAt !== null) return { status: 204, body: null };
    const leaves = isAdministrator(row, now);
    if (leaves) await requireAnother(db, row.id, now);
    const next = { ...row, revokedAt: now, updatedAt: now, version: row.version + 1 };
    return {
      status: 204,
      body: null,
      prepare: () =>
        mirror(env, next).catch(() => {
          throw unavailable(
            "The token was not revoked: its copy in KV cannot be written at the moment. Repeat the request.",
          );
        }),
      write: {
        statements: [updateToken(db, row, next, leaves ? { now } : null)],
        audit: {
          action: "token.revoke",
          type: "token",
          key: row.id,
          changes: { revokedAt: { from: null, to: now } },
        },
      },
    };
  },
  respond: () => null,
});

/** Whether it may do everything now. */
const isAdministrator = ({ role, scope, revokedAt, expiresAt }: TokenRow, now: number): boolean =>
  role === "admin" &&
  revokedAt === null &&
  (expiresAt === null || expiresAt > now) &&
  scope.projects.length + scope.environments.length === 0;

/** @throws ApiError 409 where nobody could undo it. */
async function requireAnother(db: Database, id: string, now: number): Promise<void> {
  if (await hasAdministrator(db, now, id)) return;
  throw conflict(
    "last-administrator",
    "This is the last token that may do everything: create another administrator's token first.",
  );
}

/**
 * The bootstrap secret makes the first administrator's token, and another first one where none is valid any more. Whoever
 * sends it later is recorded: nobody has a reason to. @throws ApiError 400, 403
 */
async function requireNobody(c: AdminContext, body: { role: Role; scope?: Scope | undefined }): Promise<void> {
  const { db } = c.var;
  if (await hasAdministrator(db, c.var.now())) {
    const audit = { action: "bootstrap.refused", type: "token" as const, key: "bootstrap", changes: {} };
    // The refusal is no answer to keep: what is written is the record of it alone.
    c.set("idempotency", undefined);
    if (!c.var.dryRun) await write(c, async () => ({ status: 204, body: null, write: { statements: [], audit } }));
    throw new ApiError(
      403,
      "bootstrap-used",
      "BOOTSTRAP_TOKEN has made the first token, and makes no other: create tokens with an administrator's. Delete the secret: npx wrangler secret delete BOOTSTRAP_TOKEN.",
    );
  }
  const isLimited = body.scope !== undefined && body.scope.projects.length + body.scope.environments.length > 0;
  if (body.role === "admin" && !isLimited) return;
  throw badRequest("The first token is an administrator's, without a scope: the others are created with it.");
}

export const tokens = [create, list, read, patch, revoke];

async function tokenThere(db: Database, id: string): Promise<TokenRow> {
  const row = await findTokenById(db, id);
  if (row === undefined) throw notFound(`The token ${id}`);
  return row;
}

const endOf = ({ expiresAt }: TokenRow) => expiresAt ?? Number.POSITIVE_INFINITY;

/** Whoever holds a token must not come to hold more by it; an empty list means everything. */
function requireNarrower(before: TokenRow, next: TokenRow): void {
  const wider = (["projects", "environments"] as const).filter((list) => {
    const [was, will] = [before.scope[list], next.scope[list]];
    return was.length > 0 && (will.length === 0 || will.some((one) => !was.includes(one)));
  });
  if (wider.length === 0) return;
  const message = "A scope is only ever narrowed. Create a token for more, and revoke this one.";
  throw badRequest(
    message,
    wider.map((list) => ({ pointer: `/scope/${list}`, code: "wider-scope", message })),
  );
}

const mirror = (env: Env, row: TokenRow) => within(mirrorToken(env.KV, row), KV_READ_MS, "KV");

/** It works wherever D1 does, and the sweep mirrors it again. */
const notMirrored = (token: string) => (error: unknown) => {
  console.error(JSON.stringify({ level: "error", message: "not mirrored", token, error: errorText(error) }));
};
