import { readOrigin } from "../../platform/origin.ts";
import { badRequest, conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { keyGrant, type SdkKeyRow } from "../../store/documents.ts";
import { findSdkKey, insertSdkKey, listSdkKeys, updateSdkKey } from "../../store/sdk-keys.ts";
import { difference, isEmpty, same } from "../documents/diff.ts";
import { name, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { issuedQuery, listing } from "../http/pagination.ts";
import { instantOrNull } from "../http/quantities.ts";
import { z } from "../http/zod.ts";
import { MAX_ORIGINS } from "../limits.ts";
import { operation } from "../operation.ts";
import { delivery } from "../write/hub-client.ts";
import { environmentOf, headIn } from "../write/lookup.ts";
import { secretFor } from "../write/preview.ts";
import { requireFuture, write } from "../write/write.ts";

const kind = z.enum(["server", "client"]);
const origin = z
  .string()
  .max(256)
  .transform((text, check) => {
    const read = readOrigin(text);
    if ("origin" in read) return read.origin;
    check.addIssue({ code: "custom", message: read.problem });
    return z.NEVER;
  })
  .openapi({
    type: "string",
    maxLength: 256,
    description:
      "A scheme and a host as browsers send them; `https://*.preview.example` for any one label; `capacitor://`, `ionic://`, `tauri://`, `chrome-extension://` and `moz-extension://` for apps and extensions",
    example: "https://app.example.com",
  });

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
const PATH = "/projects/{project}/environments/{environment}/keys";

const create = operation({
  id: "createKey",
  method: "post",
  path: PATH,
  tag: "keys",
  summary: "Create an SDK key; a server key is in this answer and nowhere else",
  role: "admin",
  body: z.strictObject({
    kind,
    name: name.optional(),
    origins: origins.optional(),
    expiresAt: instantOrNull.optional(),
  }),
  status: 201,
  answer: sdkKey
    .extend({
      key: z.string().optional().openapi({
        description: "The key as SDKs send it. A server key is in the first answer alone: a replay has no `key`",
      }),
    })
    .extend(delivery.shape),
  returns: "Created",
  example: { kind: "server", name: "Shop backend" },
  handle: async (requested, c) => {
    const { db, body } = requested;
    const { kind, name = `${kind} key`, origins = [], expiresAt = null } = body;
    requireBrowser(kind, origins);
    requireFuture(expiresAt, c.var.now());
    const environment = await environmentOf(requested);
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
      const documents = { keys: { [hash]: keyGrant(row) } };
      return {
        status: 201,
        // Of a server key nobody keeps more than a hash: whoever repeats the request must not take what is shown for it.
        body: { ...shown(row), ...(kind === "client" && { key: secret }) },
        etag: etagOf(1),
        secret: kind === "server",
        write: {
          statements: [insertSdkKey(db, row)],
          edits: [{ name: environment, head: await headIn(db, environment), documents }],
          audit: audited("key.create", environment, row.id, difference({}, { kind, name, origins, expiresAt })),
        },
      };
    });
    return { ...done.body, ...done.deliveries[environment.environment], key: secret };
  },
});

const list = operation({
  id: "listKeys",
  method: "get",
  path: PATH,
  tag: "keys",
  summary: "List SDK keys, revoked ones too",
  role: "viewer",
  query: issuedQuery.extend({ kind: kind.optional() }),
  answer: page(sdkKey),
  returns: "Keys",
  handle: async (requested, c) => {
    const { kind, q, state, ...order } = requested.query;
    const { page, answerOf } = await listing(c, order, "id");
    const { id } = await environmentOf(requested);
    const rows = await listSdkKeys(requested.db, id, { kind, q, state, now: c.var.now() }, page);
    return answerOf(rows, shown);
  },
});

const read = operation({
  id: "readKey",
  method: "get",
  path: `${PATH}/{key}`,
  tag: "keys",
  summary: "Read an SDK key",
  role: "viewer",
  answer: sdkKey,
  returns: "The key",
  handle: async (requested, c) => {
    const row = await keyThere(requested.db, await environmentOf(requested), requested.path.key);
    c.header("etag", etagOf(row.version));
    return shown(row);
  },
});

const patch = operation({
  id: "updateKey",
  method: "patch",
  path: `${PATH}/{key}`,
  tag: "keys",
  summary: "Rename a key, move its end, or change the origins it is taken from",
  role: "admin",
  body: z.strictObject({ name, origins, expiresAt: instantOrNull }).partial(),
  answer: sdkKey.extend(delivery.shape),
  returns: "The key",
  example: { name: "Shop backend, old" },
  problems: { 409: ["revoked"] },
  plan: async (requested, now) => {
    const { db, path, body } = requested;
    const environment = await environmentOf(requested);
    const head = await headIn(db, environment);
    const row = await keyThere(db, environment, path.key);
    requireIfMatch(requested, etagOf(row.version));
    if (row.revokedAt !== null)
      throw conflict("revoked", "The key is revoked and cannot be used again: create another.");
    const next = { ...row, ...body };
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
        statements: [updateSdkKey(db, row.id, { name, origins, expiresAt, version, updatedAt })],
        // A new name is a change without documents: the head is what two edits at once are told apart by.
        edits: [{ name: environment, head, documents }],
        audit: audited("key.update", environment, row.id, changes),
      },
    };
  },
  respond: ({ body, deliveries }, { path }) => ({ ...body, ...deliveries[path.environment] }),
});

const revoke = operation({
  id: "deleteKey",
  method: "delete",
  path: `${PATH}/{key}`,
  tag: "keys",
  summary: "Revoke an SDK key, on open streams too",
  role: "admin",
  status: 204,
  returns: "Revoked",
  plan: async (requested, now) => {
    const { db, path } = requested;
    const environment = await environmentOf(requested);
    const head = await headIn(db, environment);
    const row = await keyThere(db, environment, path.key);
    requireIfMatch(requested, etagOf(row.version));
    if (row.revokedAt !== null) return { status: 204, body: null };
    const revoked = { revokedAt: now, updatedAt: now, version: row.version + 1 };
    return {
      status: 204,
      body: null,
      write: {
        statements: [updateSdkKey(db, row.id, revoked)],
        edits: [{ name: environment, head, documents: { keys: { [row.hash]: null } } }],
        audit: audited("key.revoke", environment, row.id, { revokedAt: { from: null, to: now } }),
      },
    };
  },
  respond: () => null,
});

export const sdkKeys = [create, list, read, patch, revoke];

async function keyThere(db: Database, { id }: EnvironmentName, key: string): Promise<SdkKeyRow> {
  const row = await findSdkKey(db, id, key);
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
