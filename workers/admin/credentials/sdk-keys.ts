import { createRoute, z } from "@hono/zod-openapi";
import { badRequest, conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { keyGrant, type SdkKeyRow } from "../../store/documents.ts";
import { findSdkKey, insertSdkKey, listSdkKeys, updateSdkKey } from "../../store/sdk-keys.ts";
import { difference, isEmpty, same } from "../documents/diff.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, environmentPath, json, name, page, problems, resource, time } from "../http/contract.ts";
import { issuedQuery, listing } from "../http/pagination.ts";
import { instant } from "../http/quantities.ts";
import { MAX_ORIGINS } from "../limits.ts";
import { secretFor } from "../write/dry-run.ts";
import { delivery } from "../write/hub-client.ts";
import { environmentOf, headIn } from "../write/lookup.ts";
import { etagOf, requireFuture, requireMatch, write } from "../write/write.ts";

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
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
    expiresAt: time.nullable(),
    revokedAt: time.nullable(),
  })
  .openapi("SdkKey");

const shown = ({ hash: _, environmentId: __, ...row }: SdkKeyRow): z.infer<typeof sdkKey> => row;

const origins = z.array(origin).max(MAX_ORIGINS);
const path = "/projects/{project}/environments/{environment}/keys" as const;
const keyPath = environmentPath.extend({ key: z.string() });

const create = createRoute({
  method: "post",
  path,
  tags: ["keys"],
  summary: "Create an SDK key; a server key is in this answer and nowhere else",
  middleware: needs("admin"),
  request: {
    params: environmentPath,
    ...body(
      z.strictObject({
        kind,
        name: name.optional(),
        origins: origins.optional(),
        expiresAt: instant.nullable().optional(),
      }),
    ),
  },
  responses: { 201: json(sdkKey.extend({ key: z.string() }).extend(delivery.shape), "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path,
  tags: ["keys"],
  summary: "List SDK keys, revoked ones too",
  middleware: needs("viewer"),
  request: { params: environmentPath, query: issuedQuery.extend({ kind: kind.optional() }) },
  responses: { 200: json(page(sdkKey), "Keys"), ...problems },
});

const read = createRoute({
  method: "get",
  path: `${path}/{key}`,
  tags: ["keys"],
  summary: "Read an SDK key",
  middleware: needs("viewer"),
  request: { params: keyPath },
  responses: { 200: json(sdkKey, "The key"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path: `${path}/{key}`,
  tags: ["keys"],
  summary: "Rename a key, move its end, or change the origins it is taken from",
  middleware: needs("admin"),
  request: {
    params: keyPath,
    ...body(z.strictObject({ name, origins, expiresAt: instant.nullable() }).partial()),
  },
  responses: { 200: json(sdkKey.extend(delivery.shape), "The key"), ...problems },
});

const revoke = createRoute({
  method: "delete",
  path: `${path}/{key}`,
  tags: ["keys"],
  summary: "Revoke an SDK key, on open streams too",
  middleware: needs("admin"),
  request: { params: keyPath },
  responses: { 204: { description: "Revoked" }, ...problems },
});

export const sdkKeys = resource()
  .openapi(create, async (c) => {
    const { kind, name = `${kind} key`, origins = [], expiresAt = null } = c.req.valid("json");
    requireBrowser(kind, origins);
    requireFuture(expiresAt, c.var.now());
    const environment = await environmentOf(c);
    const prefix = `bnt_${kind === "server" ? "srv" : "cli"}_${environment.id.replace(/^env_/, "")}`;
    const { secret, hash, shown: abbreviated } = await secretFor(c, prefix);
    const done = await write(c, async (now) => {
      const row: SdkKeyRow = {
        id: newId("key"),
        environmentId: environment.id,
        kind,
        name,
        hash,
        shown: kind === "client" ? secret : abbreviated,
        origins,
        version: 1,
        createdAt: now,
        updatedAt: now,
        expiresAt,
        revokedAt: null,
      };
      return {
        status: 201,
        body: { ...shown(row), key: row.shown },
        etag: etagOf(1),
        secret: kind === "server",
        write: {
          statements: [insertSdkKey(c.var.db, row)],
          edits: [
            {
              name: environment,
              head: await headIn(c.var.db, environment),
              documents: { keys: { [hash]: keyGrant(row) } },
            },
          ],
          audit: audited("key.create", environment, row.id, difference({}, { kind, name, origins, expiresAt })),
        },
      };
    });
    return c.json({ ...done.body, ...done.deliveries[environment.environment], key: secret }, 201);
  })
  .openapi(list, async (c) => {
    const { kind, q, state, ...query } = c.req.valid("query");
    const { page, told } = await listing(c, query, "id");
    const { id } = await environmentOf(c);
    const rows = await listSdkKeys(c.var.db, id, { kind, q, state, now: c.var.now() }, page);
    return c.json(told(rows, shown), 200);
  })
  .openapi(read, async (c) => {
    const row = await keyThere(c, await environmentOf(c));
    c.header("etag", etagOf(row.version));
    return c.json(shown(row), 200);
  })
  .openapi(patch, async (c) => {
    const fields = c.req.valid("json");
    const environment = await environmentOf(c);
    const done = await write(c, async (now) => {
      const head = await headIn(c.var.db, environment);
      const row = await keyThere(c, environment);
      requireMatch(c, etagOf(row.version));
      if (row.revokedAt !== null) throw conflict("revoked", "The key is revoked, for good: create another.");
      const next = { ...row, ...fields };
      const changes = difference(shown(row), shown(next));
      if (isEmpty(changes)) return { status: 200, body: shown(row), etag: etagOf(row.version) };
      requireBrowser(row.kind, next.origins);
      if (changes.expiresAt !== undefined) requireFuture(next.expiresAt, now);
      next.version = row.version + 1;
      next.updatedAt = now;
      const { name, origins, expiresAt, version, updatedAt } = next;
      const documents = same(keyGrant(row), keyGrant(next)) ? {} : { keys: { [row.hash]: keyGrant(next) } };
      return {
        status: 200,
        body: shown(next),
        etag: etagOf(version),
        write: {
          statements: [updateSdkKey(c.var.db, row.id, { name, origins, expiresAt, version, updatedAt })],
          // A new name is a change without documents: the head is what two edits at once are told apart by.
          edits: [{ name: environment, head, documents }],
          audit: audited("key.update", environment, row.id, changes),
        },
      };
    });
    return c.json({ ...done.body, ...done.deliveries[environment.environment] }, 200);
  })
  .openapi(revoke, async (c) => {
    const environment = await environmentOf(c);
    await write(c, async (now) => {
      const head = await headIn(c.var.db, environment);
      const row = await keyThere(c, environment);
      requireMatch(c, etagOf(row.version));
      if (row.revokedAt !== null) return { status: 204, body: null };
      const revoked = { revokedAt: now, updatedAt: now, version: row.version + 1 };
      return {
        status: 204,
        body: null,
        write: {
          statements: [updateSdkKey(c.var.db, row.id, revoked)],
          edits: [{ name: environment, head, documents: { keys: { [row.hash]: null } } }],
          audit: audited("key.revoke", environment, row.id, { revokedAt: { from: null, to: now } }),
        },
      };
    });
    return c.body(null, 204);
  });

async function keyThere(c: AdminContext, { id }: EnvironmentName): Promise<SdkKeyRow> {
  const { key = "" } = c.req.param() as { key?: string };
  const row = await findSdkKey(c.var.db, id, key);
  if (row === undefined) throw notFound(`The key ${key}`);
  return row;
}

function requireBrowser(kind: SdkKeyRow["kind"], origins: string[]): void {
  if (kind === "client" || origins.length === 0) return;
  throw badRequest("A server key has no origins.", [
    { pointer: "/origins", code: "not-for-servers", message: "Only browsers send an origin." },
  ]);
}

const audited = (
  action: string,
  { project, environment }: EnvironmentName,
  key: string,
  changes: ReturnType<typeof difference>,
) => ({ action, type: "key" as const, project, environment, key, changes });
