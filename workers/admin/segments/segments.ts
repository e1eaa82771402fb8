import { references, type Segment } from "@bunting/core";
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
import { description, key, name, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { keyedQuery, listing } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { bigSegmentOf, delivery } from "../write/hub-client.ts";
import { environmentOf, headIn } from "../write/lookup.ts";
import type { Plan } from "../write/plan.ts";
import type { Requested } from "../write/request.ts";
import { type Written, write } from "../write/write.ts";

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
const PATH = "/projects/{project}/environments/{environment}/segments";

const create = operation({
  id: "createSegment",
  method: "post",
  path: PATH,
  tag: "segments",
  summary: "Create a segment",
  role: "editor",
  body: details.extend({ key }),
  status: 201,
  answer: written,
  returns: "Created",
  example: { key: "beta-testers", included: ["user-1"] },
  problems: { 409: ["already-exists"], 413: ["ruleset-too-large"] },
  plan: async (requested, now) => {
    const { db, body } = requested;
    const { key, name = key, description = "", included = [], excluded = [], rules = [] } = body;
    const environment = await environmentOf(requested);
    const fields = { name, description, included, excluded, rules: segmentRulesOf(rules, [], key) };
    const times = { createdAt: now, updatedAt: now };
    const row = { environmentId: environment.id, key, ...fields, big: null, version: 1, ...times };
    const { head, exists } = await validated(db, environment, segmentDocument(row));
    if (exists) throw conflict("already-exists", `The segment ${key} exists already.`);
    return {
      status: 201,
      body: shown(environment, row),
      etag: etagOf(1),
      write: {
        statements: [insertSegment(db, row), ...dependenciesOf(db, row)],
        edits: [{ name: environment, head, documents: { segments: { [key]: segmentDocument(row) } } }],
        audit: {
          ...audited("segment.create", environment, key, difference({}, fields)),
          undo: [segmentUndo(environment, key, null, row)],
        },
      },
    };
  },
  respond: withDelivery,
});

const list = operation({
  id: "listSegments",
  method: "get",
  path: PATH,
  tag: "segments",
  summary: "List segments",
  role: "viewer",
  query: keyedQuery,
  answer: page(segment),
  returns: "Segments",
  handle: async (requested, c) => {
    const { db, query } = requested;
    const { page, answerOf } = await listing(c, query, "key");
    const environment = await environmentOf(requested);
    const rows = await listSegments(db, environment.id, query.q, page);
    return answerOf(rows, (row) => shown(environment, row));
  },
});

const read = operation({
  id: "readSegment",
  method: "get",
  path: `${PATH}/{segment}`,
  tag: "segments",
  summary: "Read a segment",
  role: "viewer",
  answer: readable,
  returns: "The segment",
  handle: async (requested, c) => {
    const { db, path } = requested;
    const environment = await environmentOf(requested);
    const row = await segmentIn(db, environment, path.segment);
    const uses = await dependentsOf(db, [environment.id], "segment", row.key, MAX_USES);
    c.header("etag", etagOf(row.version));
    return { ...shown(environment, row), usedBy: uses.map(({ kind, key }) => ({ kind, key })) };
  },
});

const patch = operation({
  id: "updateSegment",
  method: "patch",
  path: `${PATH}/{segment}`,
  tag: "segments",
  summary: "Change the fields that are sent",
  role: "editor",
  body: details,
  answer: written,
  returns: "The segment",
  example: { rules: [{ conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }] },
  problems: { 403: ["approval-required"], 413: ["ruleset-too-large"] },
  plan: planPatch,
  requestable: planPatch,
  respond: withDelivery,
});

const remove = operation({
  id: "deleteSegment",
  method: "delete",
  path: `${PATH}/{segment}`,
  tag: "segments",
  summary: "Delete a segment that nothing uses",
  role: "editor",
  status: 204,
  returns: "Deleted",
  problems: { 409: ["in-use"] },
  handle: async (requested, c) => {
    const { env, db, path } = requested;
    const environment = await environmentOf(requested);
    await write(c, async () => {
      const head = await headIn(db, environment);
      const row = await segmentIn(db, environment, path.segment);
      requireIfMatch(requested, etagOf(row.version));
      const uses = await dependentsOf(db, [environment.id], "segment", row.key);
      if (uses.length > 0) {
        const named = uses.map(({ kind, key }) => ({ environment: environment.environment, kind, key }));
        throw inUse(`The segment ${row.key}`, named);
      }
      return {
        status: 204,
        body: null,
        write: {
          statements: [
            deleteSegment(db, environment.id, row.key),
            deleteMembers(db, { environmentId: environment.id, key: row.key }),
            ...dependencyStatements(db, environment.id, "segment", row.key, { flags: [], segments: [] }),
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
    // An object that misses this sees by `createdAt` that a segment of that name was made again.
    const cleared = bigSegmentOf(env, environment, path.segment).clear();
    c.executionCtx.waitUntil(cleared.catch(() => {}));
    return null;
  },
});

export const segments = [create, list, read, patch, remove];

type ShownSegment = z.infer<typeof segment>;

/** @throws ApiError 404, 400 for what would not work, 412. */
async function planPatch(
  requested: Requested<{ project: string; environment: string; segment: string }, z.output<typeof details>>,
  now: number,
): Promise<Plan<ShownSegment>> {
  const { db, path, body } = requested;
  const { rules, ...fields } = body;
  const environment = await environmentOf(requested);
  const head = await headIn(db, environment);
  const row = await segmentIn(db, environment, path.segment);
  requireIfMatch(requested, etagOf(row.version));
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

/** What every write of a segment answers. */
function withDelivery({ body, deliveries }: Written<ShownSegment>) {
  return { ...body, ...deliveries[body.environment] };
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
