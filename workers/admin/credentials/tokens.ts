import { createRoute, z } from "@hono/zod-openapi";
import { KV_READ_MS, within } from "../../platform/deadline.ts";
import { badRequest, conflict, forbidden, notFound, unavailable } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import { mirrorToken } from "../../store/credentials.ts";
import { findTokenById, insertToken, listTokens, type TokenRow, updateToken } from "../../store/tokens.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, json, key, name, page, problems, resource, time } from "../http/contract.ts";
import { issuedQuery, listing } from "../http/pagination.ts";
import { instant } from "../http/quantities.ts";
import { MAX_SCOPE } from "../limits.ts";
import { secretFor } from "../write/dry-run.ts";
import { etagOf, requireFuture, requireMatch, write } from "../write/write.ts";

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

const create = createRoute({
  method: "post",
  path: "/tokens",
  tags: ["tokens"],
  summary: "Create an API token; its secret is in this answer and nowhere else",
  middleware: needs("admin"),
  request: body(
    z.strictObject({
      name,
      role,
      scope: scope.optional(),
      groups: groups.optional(),
      expiresAt: instant.nullable().optional(),
    }),
  ),
  responses: { 201: json(token.extend({ token: z.string().optional() }), "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/tokens",
  tags: ["tokens"],
  summary: "List API tokens",
  middleware: needs("admin"),
  request: { query: issuedQuery.extend({ role: role.optional() }) },
  responses: { 200: json(page(token), "Tokens"), ...problems },
});

const tokenPath = z.object({ token: z.string() });

const read = createRoute({
  method: "get",
  path: "/tokens/{token}",
  tags: ["tokens"],
  summary: "Read an API token, without its secret",
  middleware: needs("admin"),
  request: { params: tokenPath },
  responses: { 200: json(token, "The token"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path: "/tokens/{token}",
  tags: ["tokens"],
  summary: "Rename a token, narrow its scope, set its groups or move its end; nobody prolongs their own",
  middleware: needs("admin"),
  request: {
    params: tokenPath,
    ...body(z.strictObject({ name, scope, groups, expiresAt: instant.nullable() }).partial()),
  },
  responses: { 200: json(token, "The token"), ...problems },
});

const revoke = createRoute({
  method: "delete",
  path: "/tokens/{token}",
  tags: ["tokens"],
  summary: "Revoke an API token",
  middleware: needs("admin"),
  request: { params: tokenPath },
  responses: { 204: { description: "Revoked" }, ...problems },
});

export const tokens = resource()
  .openapi(create, async (c) => {
    const {
      name,
      role,
      scope = { projects: [], environments: [] },
      groups = [],
      expiresAt = null,
    } = c.req.valid("json");
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
        statements: [insertToken(c.var.db, row)],
        audit: {
          action: "token.create",
          type: "token",
          key: id,
          changes: difference({}, { name, role, scope, groups, expiresAt }),
        },
      },
    }));
    await mirror(c, row).catch(notMirrored(id));
    return c.json({ ...done.body, token: secret }, 201);
  })
  .openapi(list, async (c) => {
    const { role, q, state, ...query } = c.req.valid("query");
    const { page, told } = await listing(c, query, "id");
    const rows = await listTokens(c.var.db, { role, q, state, now: c.var.now() }, page);
    return c.json(told(rows, shown), 200);
  })
  .openapi(read, async (c) => {
    const row = await tokenThere(c);
    c.header("etag", etagOf(row.version));
    return c.json(shown(row), 200);
  })
  .openapi(patch, async (c) => {
    const fields = c.req.valid("json");
    let after: TokenRow | undefined;
    const done = await write(c, async (now) => {
      const row = await tokenThere(c);
      requireMatch(c, etagOf(row.version));
      if (row.revokedAt !== null) throw conflict("revoked", "The token is revoked, for good: create another.");
      const next = { ...row, ...fields };
      const changes = difference(shown(row), shown(next));
      if (isEmpty(changes)) return { status: 200, body: shown(row), etag: etagOf(row.version) };
      if (changes.expiresAt !== undefined) requireFuture(next.expiresAt, now);
      requireNarrower(row, next);
      const prolonged = endOf(next) > endOf(row);
      if (prolonged && row.id === c.var.caller.id) throw forbidden("Another token has to prolong this one.");
      next.version = row.version + 1;
      next.updatedAt = now;
      after = prolonged ? next : undefined;
      return {
        status: 200,
        body: shown(next),
        etag: etagOf(next.version),
        // What is taken away goes from the mirror first, what is given comes last: it never allows more than D1.
        prepare: () =>
          mirror(c, { ...next, expiresAt: prolonged ? row.expiresAt : next.expiresAt }).catch(() => {
            throw unavailable("The token cannot be changed everywhere at the moment.");
          }),
        write: {
          statements: [updateToken(c.var.db, row, next)],
          audit: { action: "token.update", type: "token", key: row.id, changes },
        },
      };
    });
    if (after !== undefined) await mirror(c, after).catch(notMirrored(after.id));
    return c.json(done.body, 200);
  })
  .openapi(revoke, async (c) => {
    await write(c, async (now) => {
      const row = await tokenThere(c);
      requireMatch(c, etagOf(row.version));
      if (row.revokedAt !== null) return { status: 204, body: null };
      const next = { ...row, revokedAt: now, updatedAt: now, version: row.version + 1 };
      return {
        status: 204,
        body: null,
        prepare: () =>
          mirror(c, next).catch(() => {
            throw unavailable("The token cannot be revoked everywhere at the moment.");
          }),
        write: {
          statements: [updateToken(c.var.db, row, next)],
          audit: {
            action: "token.revoke",
            type: "token",
            key: row.id,
            changes: { revokedAt: { from: null, to: now } },
          },
        },
      };
    });
    return c.body(null, 204);
  });

async function tokenThere(c: AdminContext): Promise<TokenRow> {
  const { token: id = "" } = c.req.param() as { token?: string };
  const row = await findTokenById(c.var.db, id);
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

const mirror = (c: AdminContext, row: TokenRow) => within(mirrorToken(c.env.KV, row), KV_READ_MS, "KV");

/** It works wherever D1 does, and the sweep mirrors it again. */
const notMirrored = (token: string) => (error: unknown) => {
  console.error(JSON.stringify({ level: "error", message: "not mirrored", token, error: String(error) }));
};
