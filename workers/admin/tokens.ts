import { createRoute, z } from "@hono/zod-openapi";
import { KV_READ_MS, within } from "../deadline.ts";
import { notFound, unavailable } from "../problem.ts";
import { mirrorToken, newSecret } from "../store/credentials.ts";
import { newId } from "../store/database.ts";
import { findTokenById, insertToken, listTokens, revokeToken, type TokenRow } from "../store/tokens.ts";
import { needs } from "./access.ts";
import { difference } from "./audit-diff.ts";
import {
  type AdminContext,
  body,
  json,
  key,
  name,
  page,
  pageOf,
  pageQuery,
  problems,
  resource,
  time,
} from "./contract.ts";
import { MAX_SCOPE } from "./limits.ts";
import { requireFuture, write } from "./write.ts";

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
    createdAt: time,
    expiresAt: time.nullable(),
    revokedAt: time.nullable(),
  })
  .openapi("Token");

const shown = ({ hash: _, ...row }: TokenRow): z.infer<typeof token> => row;

const create = createRoute({
  method: "post",
  path: "/tokens",
  tags: ["tokens"],
  summary: "Create an API token; its secret is in this answer and nowhere else",
  middleware: needs("admin"),
  request: body(z.strictObject({ name, role, scope: scope.optional(), expiresAt: time.nullable().optional() })),
  responses: { 201: json(token.extend({ token: z.string().optional() }), "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/tokens",
  tags: ["tokens"],
  summary: "List API tokens",
  middleware: needs("admin"),
  request: { query: pageQuery },
  responses: { 200: json(page(token), "Tokens"), ...problems },
});

const revoke = createRoute({
  method: "delete",
  path: "/tokens/{token}",
  tags: ["tokens"],
  summary: "Revoke an API token",
  middleware: needs("admin"),
  request: { params: z.object({ token: z.string() }) },
  responses: { 204: { description: "Revoked" }, ...problems },
});

export const tokens = resource()
  .openapi(create, async (c) => {
    const { name, role, scope = { projects: [], environments: [] }, expiresAt = null } = c.req.valid("json");
    requireFuture(expiresAt, c.var.now());
    const { secret, hash, shown: abbreviated } = await newSecret("bnt_api");
    const id = newId("tok");
    const row = { id, name, hash, shown: abbreviated, role, scope, createdAt: c.var.now(), expiresAt, revokedAt: null };
    const done = await write(c, async () => ({
      status: 201,
      body: shown(row),
      secret: true,
      write: {
        statements: [insertToken(c.var.db, row)],
        audit: {
          action: "token.create",
          type: "token",
          key: id,
          changes: difference({}, { name, role, scope, expiresAt }),
        },
      },
    }));
    // Without its mirror the token works wherever D1 does.
    await mirror(c, row).catch((error: unknown) => {
      console.error(JSON.stringify({ level: "error", message: "not mirrored", token: id, error: String(error) }));
    });
    return c.json({ ...done.body, token: secret }, 201);
  })
  .openapi(list, async (c) => {
    const { limit, cursor } = c.req.valid("query");
    const rows = await listTokens(c.var.db, { limit: limit + 1, after: cursor });
    return c.json(
      pageOf(rows, limit, (row) => row.id, shown),
      200,
    );
  })
  .openapi(revoke, async (c) => {
    const { token: id } = c.req.valid("param");
    await write(c, async (now) => {
      const row = await findTokenById(c.var.db, id);
      if (row === undefined) throw notFound(`The token ${id}`);
      if (row.revokedAt !== null) return { status: 204, body: null };
      await mirror(c, { ...row, revokedAt: now }).catch(() => {
        throw unavailable("The token cannot be revoked everywhere at the moment.");
      });
      return {
        status: 204,
        body: null,
        write: {
          statements: [revokeToken(c.var.db, id, now)],
          audit: { action: "token.revoke", type: "token", key: id, changes: { revokedAt: { to: now } } },
        },
      };
    });
    return c.body(null, 204);
  });

const mirror = (c: AdminContext, row: TokenRow) => within(mirrorToken(c.env.KV, row), KV_READ_MS, "KV");
