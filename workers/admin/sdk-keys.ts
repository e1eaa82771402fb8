import { createRoute, z } from "@hono/zod-openapi";
import { badRequest, notFound } from "../problem.ts";
import { newSecret } from "../store/credentials.ts";
import { newId } from "../store/database.ts";
import { keyGrant, type SdkKeyRow } from "../store/documents.ts";
import { findSdkKey, insertSdkKey, listSdkKeys, revokeSdkKey } from "../store/sdk-keys.ts";
import { needs } from "./access.ts";
import { difference } from "./audit-diff.ts";
import { body, environmentPath, json, name, page, pageOf, pageQuery, problems, resource, time } from "./contract.ts";
import { environmentOf, headIn } from "./environments.ts";
import { delivery } from "./hubs.ts";
import { MAX_ORIGINS } from "./limits.ts";
import { requireFuture, write } from "./write.ts";

const kind = z.enum(["server", "client"]);
const origin = z
  .string()
  .max(256)
  .regex(/^https?:\/\/[^/?#\s]+$/, "A scheme and a host, as browsers send it: https://app.example.com")
  .openapi({ example: "https://app.example.com" });

const sdkKey = z
  .object({
    id: z.string(),
    kind,
    name,
    shown: z.string().openapi({ description: "A client key as it is; of a server key what tells it from others" }),
    origins: z.array(z.string()),
    createdAt: time,
    expiresAt: time.nullable(),
    revokedAt: time.nullable(),
  })
  .openapi("SdkKey");

const shown = ({ hash: _, environmentId: __, ...row }: SdkKeyRow): z.infer<typeof sdkKey> => row;

const create = createRoute({
  method: "post",
  path: "/projects/{project}/environments/{environment}/keys",
  tags: ["keys"],
  summary: "Create an SDK key; a server key is in this answer and nowhere else",
  middleware: needs("admin"),
  request: {
    params: environmentPath,
    ...body(
      z.strictObject({
        kind,
        name: name.optional(),
        origins: z.array(origin).max(MAX_ORIGINS).optional(),
        expiresAt: time.nullable().optional(),
      }),
    ),
  },
  responses: { 201: json(sdkKey.extend({ key: z.string() }).extend(delivery.shape), "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/projects/{project}/environments/{environment}/keys",
  tags: ["keys"],
  summary: "List SDK keys, revoked ones too",
  middleware: needs("viewer"),
  request: { params: environmentPath, query: pageQuery },
  responses: { 200: json(page(sdkKey), "Keys"), ...problems },
});

const revoke = createRoute({
  method: "delete",
  path: "/projects/{project}/environments/{environment}/keys/{key}",
  tags: ["keys"],
  summary: "Revoke an SDK key, on open streams too",
  middleware: needs("admin"),
  request: { params: environmentPath.extend({ key: z.string() }) },
  responses: { 204: { description: "Revoked" }, ...problems },
});

export const sdkKeys = resource()
  .openapi(create, async (c) => {
    const { kind, name = `${kind} key`, origins = [], expiresAt = null } = c.req.valid("json");
    if (kind === "server" && origins.length > 0) {
      throw badRequest("A server key has no origins.", [
        { pointer: "/origins", code: "not-for-servers", message: "Only browsers send an origin." },
      ]);
    }
    requireFuture(expiresAt, c.var.now());
    const environment = await environmentOf(c);
    const prefix = `bnt_${kind === "server" ? "srv" : "cli"}_${environment.id.replace(/^env_/, "")}`;
    const { secret, hash, shown: abbreviated } = await newSecret(prefix);
    const done = await write(c, async (now) => {
      const row: SdkKeyRow = {
        id: newId("key"),
        environmentId: environment.id,
        kind,
        name,
        hash,
        shown: kind === "client" ? secret : abbreviated,
        origins,
        createdAt: now,
        expiresAt,
        revokedAt: null,
      };
      return {
        status: 201,
        body: { ...shown(row), key: row.shown },
        secret: kind === "server",
        write: {
          statements: [insertSdkKey(c.var.db, row)],
          edits: [
            { name: environment, head: await headIn(c, environment), documents: { keys: { [hash]: keyGrant(row) } } },
          ],
          audit: {
            action: "key.create",
            type: "key",
            project: environment.project,
            environment: environment.environment,
            key: row.id,
            changes: difference({}, { kind, name, origins, expiresAt }),
          },
        },
      };
    });
    return c.json({ ...done.body, ...done.deliveries[environment.environment], key: secret }, 201);
  })
  .openapi(list, async (c) => {
    const { limit, cursor } = c.req.valid("query");
    const { id } = await environmentOf(c);
    const rows = await listSdkKeys(c.var.db, id, { limit: limit + 1, after: cursor });
    return c.json(
      pageOf(rows, limit, (row) => row.id, shown),
      200,
    );
  })
  .openapi(revoke, async (c) => {
    const { key: id } = c.req.valid("param");
    const environment = await environmentOf(c);
    await write(c, async (now) => {
      const head = await headIn(c, environment);
      const row = await findSdkKey(c.var.db, environment.id, id);
      if (row === undefined) throw notFound(`The key ${id}`);
      if (row.revokedAt !== null) return { status: 204, body: null };
      return {
        status: 204,
        body: null,
        write: {
          statements: [revokeSdkKey(c.var.db, id, now)],
          edits: [{ name: environment, head, documents: { keys: { [row.hash]: null } } }],
          audit: {
            action: "key.revoke",
            type: "key",
            project: environment.project,
            environment: environment.environment,
            key: id,
            changes: { revokedAt: { to: now } },
          },
        },
      };
    });
    return c.body(null, 204);
  });
