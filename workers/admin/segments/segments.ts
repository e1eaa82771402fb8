import { references, type Segment } from "@bunting/core";
import { createRoute, z } from "@hono/zod-openapi";
import { conflict, notFound } from "../../platform/problem.ts";
import { deleteMembers } from "../../store/big-segments.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import {
  closure,
  dependencyStatements,
  dependentsOf,
  type SegmentRow,
  segmentDocument,
} from "../../store/documents.ts";
import { deleteSegment, findSegment, insertSegment, listSegments, updateSegment } from "../../store/segments.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { condition, document, members, segmentRules } from "../documents/schema.ts";
import { segmentUndo } from "../documents/segment-fields.ts";
import { segmentRulesOf } from "../documents/splits.ts";
import { inUse, requireValid } from "../documents/validity.ts";
import { needs } from "../http/access.ts";
import {
  body,
  description,
  environmentPath,
  json,
  key,
  name,
  page,
  problems,
  resource,
  time,
} from "../http/contract.ts";
import { keyedQuery, listing } from "../http/pagination.ts";
import { bigSegmentOf, delivery } from "../write/hub-client.ts";
import { environmentNamed, environmentOf, headIn } from "../write/lookup.ts";
import type { Plan } from "../write/plan.ts";
import { type Asked, askedOf, requireAsked } from "../write/request.ts";
import { etagOf, requireMatch, write } from "../write/write.ts";

const MAX_USES = 100;

const sample = z.object({ by: z.string(), seed: z.string(), buckets: z.number().int() });

const segment = z
  .object({
    key,
    environment: key,
    name,
    description: z.string(),
    included: z.array(z.string()),
    excluded: z.array(z.string()),
    rules: z.array(
      z.object({
        id: z.string().optional(),
        description: z.string().optional(),
        conditions: z.array(condition),
        sample: sample.optional(),
      }),
    ),
    big: z
      .object({ generation: z.number().int(), count: z.number().int() })
      .nullable()
      .openapi({ description: "The newest filter of a big segment; its members are under /members" }),
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
  })
  .openapi("Segment");
const readable = segment
  .extend({
    usedBy: z.array(document).openapi({ description: "What names it, the first hundred; see …/dependents for all" }),
  })
  .openapi("SegmentRead");
const written = segment.extend(delivery.shape).openapi("WrittenSegment");

const shown = (
  { environment }: EnvironmentName,
  { environmentId: _, big, ...row }: SegmentRow,
): z.infer<typeof segment> => ({
  ...row,
  big: big && { generation: big.generation, count: big.count },
  environment,
});

const details = z
  .strictObject({ name, description, included: members, excluded: members, rules: segmentRules })
  .partial();
const segmentPath = environmentPath.extend({ segment: z.string().min(1) });
const path = "/projects/{project}/environments/{environment}/segments" as const;

const create = createRoute({
  method: "post",
  path,
  tags: ["segments"],
  summary: "Create a segment",
  middleware: needs("editor"),
  request: { params: environmentPath, ...body(details.extend({ key })) },
  responses: { 201: json(written, "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path,
  tags: ["segments"],
  summary: "List segments",
  middleware: needs("viewer"),
  request: { params: environmentPath, query: keyedQuery },
  responses: { 200: json(page(segment), "Segments"), ...problems },
});

const read = createRoute({
  method: "get",
  path: `${path}/{segment}`,
  tags: ["segments"],
  summary: "Read a segment",
  middleware: needs("viewer"),
  request: { params: segmentPath },
  responses: { 200: json(readable, "The segment"), ...problems },
});

export const patch = createRoute({
  method: "patch",
  path: `${path}/{segment}`,
  tags: ["segments"],
  summary: "Change the fields that are sent",
  middleware: needs("editor"),
  request: { params: segmentPath, ...body(details) },
  responses: { 200: json(written, "The segment"), ...problems },
});

const remove = createRoute({
  method: "delete",
  path: `${path}/{segment}`,
  tags: ["segments"],
  summary: "Delete a segment that nothing uses",
  middleware: needs("editor"),
  request: { params: segmentPath },
  responses: { 204: { description: "Deleted" }, ...problems },
});

export const segments = resource()
  .openapi(create, async (c) => {
    const { key, name = key, description = "", included = [], excluded = [], rules = [] } = c.req.valid("json");
    const environment = await environmentOf(c);
    const done = await write(c, async (now) => {
      const fields = { name, description, included, excluded, rules: segmentRulesOf(rules, [], key) };
      const times = { createdAt: now, updatedAt: now };
      const row = { environmentId: environment.id, key, ...fields, big: null, version: 1, ...times };
      const { head, exists } = await validated(c.var.db, environment, segmentDocument(row));
      if (exists) throw conflict("already-exists", `The segment ${key} exists already.`);
      return {
        status: 201,
        body: shown(environment, row),
        etag: etagOf(1),
        write: {
          statements: [insertSegment(c.var.db, row), ...dependenciesOf(c.var.db, row)],
          edits: [{ name: environment, head, documents: { segments: { [key]: segmentDocument(row) } } }],
          audit: {
            ...audited("segment.create", environment, key, difference({}, fields)),
            undo: [segmentUndo(environment, key, null, row)],
          },
        },
      };
    });
    return c.json({ ...done.body, ...done.deliveries[environment.environment] }, 201);
  })
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const { page, told } = await listing(c, query, "key");
    const environment = await environmentOf(c);
    const rows = await listSegments(c.var.db, environment.id, query.q, page);
    return c.json(
      told(rows, (row) => shown(environment, row)),
      200,
    );
  })
  .openapi(read, async (c) => {
    const environment = await environmentOf(c);
    const row = await segmentIn(c.var.db, environment, c.req.valid("param").segment);
    const uses = await dependentsOf(c.var.db, [environment.id], "segment", row.key, MAX_USES);
    c.header("etag", etagOf(row.version));
    return c.json({ ...shown(environment, row), usedBy: uses.map(({ kind, key }) => ({ kind, key })) }, 200);
  })
  .openapi(patch, async (c) => {
    const asked = askedOf(c, c.req.valid("param"), c.req.valid("json"));
    const done = await write(c, (now) => planSegment(asked, now));
    return c.json({ ...done.body, ...done.deliveries[asked.path.environment] }, 200);
  })
  .openapi(remove, async (c) => {
    const environment = await environmentOf(c);
    await write(c, async () => {
      const head = await headIn(c.var.db, environment);
      const row = await segmentIn(c.var.db, environment, c.req.valid("param").segment);
      requireMatch(c, etagOf(row.version));
      const uses = await dependentsOf(c.var.db, [environment.id], "segment", row.key);
      if (uses.length > 0) {
        const named = uses.map(({ kind, key }) => ({ environment: environment.environment, kind, key }));
        throw inUse(`The segment ${row.key}`, named);
      }
      return {
        status: 204,
        body: null,
        write: {
          statements: [
            deleteSegment(c.var.db, environment.id, row.key),
            deleteMembers(c.var.db, { environmentId: environment.id, key: row.key }),
            ...dependencyStatements(c.var.db, environment.id, "segment", row.key, { flags: [], segments: [] }),
          ],
          edits: [{ name: environment, head, documents: { segments: { [row.key]: null } } }],
          audit: {
            ...audited("segment.delete", environment, row.key, { key: { from: row.key } }),
            // Uploaded members are gone with it.
            ...(row.big === null && { undo: [segmentUndo(environment, row.key, row, null)] }),
          },
        },
      };
    });
    // One that is not told sees it by the time at which a segment of that name is made again.
    const cleared = bigSegmentOf(c.env, environment, c.req.valid("param").segment).clear();
    c.executionCtx.waitUntil(cleared.catch(() => {}));
    return c.body(null, 204);
  });

/** @throws ApiError 404, 400 for what would not work, 412. */
export async function planSegment(
  asked: Asked<z.infer<typeof segmentPath>, z.output<typeof details>>,
  now: number,
): Promise<Plan<z.infer<typeof segment>>> {
  const { db, path, body } = asked;
  const { rules, ...fields } = body;
  const environment = await environmentNamed(asked);
  const head = await headIn(db, environment);
  const row = await segmentIn(db, environment, path.segment);
  requireAsked(asked, etagOf(row.version));
  const next = { ...row, ...fields, ...(rules && { rules: segmentRulesOf(rules, row.rules, row.key) }) };
  const changes = difference(row, next);
  if (isEmpty(changes)) return { status: 200, body: shown(environment, row), etag: etagOf(row.version) };
  next.version = row.version + 1;
  next.updatedAt = now;
  await validated(db, environment, segmentDocument(next));
  const { environmentId: _, key, createdAt: __, ...columns } = next;
  return {
    status: 200,
    body: shown(environment, next),
    etag: etagOf(next.version),
    write: {
      statements: [updateSegment(db, environment.id, key, columns), ...dependenciesOf(db, next)],
      edits: [{ name: environment, head, documents: { segments: { [key]: segmentDocument(next) } } }],
      audit: {
        ...audited("segment.update", environment, key, changes),
        undo: [segmentUndo(environment, key, row, next)],
      },
    },
  };
}

/** The head is of the same moment as the documents that it was validated against. */
async function validated(db: Database, environment: EnvironmentName, document: Segment) {
  const { flags, segments } = references(document);
  const found = await closure(db, environment.id, { flags, segments: [document.key, ...segments] });
  if (found === null) throw notFound(`The environment ${environment.project}/${environment.environment}`);
  requireValid({ kind: "segment", document }, found.ruleset);
  return { head: found.head, exists: Object.hasOwn(found.ruleset.segments, document.key) };
}

async function segmentIn(db: Database, environment: EnvironmentName, key: string): Promise<SegmentRow> {
  const row = await findSegment(db, environment.id, key);
  if (row === undefined) throw notFound(`The segment ${key}`);
  return row;
}

const dependenciesOf = (db: Database, row: SegmentRow) =>
  dependencyStatements(db, row.environmentId, "segment", row.key, references(segmentDocument(row)));

const audited = (
  action: string,
  { project, environment }: EnvironmentName,
  key: string,
  changes: ReturnType<typeof difference>,
) => ({ action, type: "segment" as const, project, environment, key, changes });
