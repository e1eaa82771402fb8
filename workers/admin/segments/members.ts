/** The members of big segments: one by one, and by the million. They are exact here; who evaluates has a filter (EV-20). */
import { createRoute, z } from "@hono/zod-openapi";
import type { SegmentStatus, UploadMode } from "../../../durable-objects/segment/big-segment.ts";
import type { Upload } from "../../../durable-objects/segment/state.ts";
import { SEGMENT_MS, within } from "../../platform/deadline.ts";
import { ApiError, badRequest, conflict, notFound, unavailable } from "../../platform/problem.ts";
import { keepAnswer } from "../../store/idempotency.ts";
import { findSegment } from "../../store/segments.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, environmentPath, json, problems, resource } from "../http/contract.ts";
import { MAX_MEMBERS_AT_ONCE, MAX_REASON, MAX_TEXT } from "../limits.ts";
import { DryRun } from "../write/dry-run.ts";
import { bigSegmentOf, delivered, delivery } from "../write/hub-client.ts";
import { environmentOf } from "../write/lookup.ts";
import { origin } from "../write/write.ts";
import { uploadBody } from "./upload-body.ts";
import { lineFormat, memberBatches } from "./upload-lines.ts";

const member = z.string().min(1).max(MAX_TEXT);
const upload = z
  .object({
    id: z.string(),
    mode: z.enum(["add", "remove", "replace"]),
    state: z.enum(["receiving", "done", "abandoned"]),
    received: z.number().int(),
    startedAt: z.number().int(),
    at: z.number().int(),
  })
  .openapi("Upload");
const status = z
  .object({
    count: z.number().int().openapi({ description: "Members, exactly" }),
    generation: z.number().int().openapi({ description: "The filter that clients have; 0 for none" }),
    filterCount: z.number().int().openapi({ description: "Members in that filter" }),
    pending: z.number().int().openapi({ description: "Changes since, which clients have beside it" }),
    building: z.object({ generation: z.number().int(), count: z.number().int() }).nullable(),
    upload: upload.nullable(),
  })
  .openapi("Members");

const changed = z
  .object({ added: z.number().int(), removed: z.number().int() })
  .extend(delivery.shape)
  .openapi("ChangedMembers");

const segmentPath = environmentPath.extend({ segment: z.string().min(1) });
const path = "/projects/{project}/environments/{environment}/segments/{segment}/members" as const;
const lines = z.string().openapi({ description: "One member a line" });

const read = createRoute({
  method: "get",
  path,
  tags: ["segments"],
  summary: "How many members a segment has, and how far uploads and filters are",
  middleware: needs("viewer"),
  request: { params: segmentPath },
  responses: { 200: json(status, "The state of its members"), ...problems },
});

const ask = createRoute({
  method: "get",
  path: `${path}/{member}`,
  tags: ["segments"],
  summary: "Whether somebody is a member, exactly",
  middleware: needs("viewer"),
  request: { params: segmentPath.extend({ member }) },
  responses: { 200: json(z.object({ member: z.string(), present: z.boolean() }), "The answer"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path,
  tags: ["segments"],
  summary: "Add and remove a few members, at once everywhere",
  middleware: needs("editor"),
  request: {
    params: segmentPath,
    ...body(z.strictObject({ add: z.array(member), remove: z.array(member) }).partial()),
  },
  responses: { 200: json(changed, "How many really came and went"), ...problems },
});

const send = createRoute({
  method: "post",
  path,
  tags: ["segments"],
  summary: "Add, remove or replace members by the million; they count once a new filter is built",
  middleware: needs("editor"),
  request: {
    params: segmentPath,
    query: z.object({ mode: z.enum(["add", "remove", "replace"]).default("add") }),
    body: {
      required: true,
      description:
        'NDJSON with "user-1" or {"key": "user-1"} on each line, or CSV with the members in the first column',
      content: { "application/x-ndjson": { schema: lines }, "text/csv": { schema: lines } },
    },
  },
  responses: { 202: json(status, "Taken; the filter is being built"), ...problems },
});

export const members = resource()
  .openapi(read, async (c) => {
    const { object, createdAt } = await segmentOf(c);
    return c.json(await answered(object.status(createdAt)), 200);
  })
  .openapi(ask, async (c) => {
    const { object, createdAt } = await segmentOf(c);
    const { member } = c.req.valid("param");
    const found = await answered(object.has(createdAt, [member]));
    return c.json({ member, present: found.length > 0 }, 200);
  })
  .openapi(patch, async (c) => {
    const { add = [], remove = [] } = c.req.valid("json");
    const [comes, goes] = [new Set(add), new Set(remove)];
    if (add.length + remove.length > MAX_MEMBERS_AT_ONCE) {
      throw badRequest(`At most ${MAX_MEMBERS_AT_ONCE} members at once: POST longer lists as NDJSON or CSV.`);
    }
    const twice = remove.findIndex((one) => comes.has(one));
    if (twice !== -1) {
      const message = "This member is to be added and removed.";
      throw badRequest(message, [{ pointer: `/remove/${twice}`, code: "member-twice", message }]);
    }
    const { object, createdAt, environment, by } = await segmentOf(c);
    const lists: [string[], string[]] = [[...comes], [...goes]];
    const changing = c.var.dryRun ? object.previewChange(createdAt, ...lists) : object.change(createdAt, ...lists, by);
    const { outcome, added, removed, revision } = await answered(changing);
    if (outcome === "too-many") throw refused(outcome);
    if (c.var.dryRun) {
      const changes = {
        ...(added.length > 0 && { added: { to: added } }),
        ...(removed.length > 0 && { removed: { from: removed } }),
      };
      throw new DryRun({ added: added.length, removed: removed.length }, { changes, policies: [] });
    }
    const told = revision === null ? { delivery: "pending" as const } : delivered(environment, revision);
    const nothing = added.length + removed.length === 0;
    const answer = { added: added.length, removed: removed.length, ...(nothing ? {} : told) };
    const { once } = c.var;
    if (once !== undefined) {
      const { tokenId, key, requestHash } = once;
      const kept = { status: 200, headers: {}, body: JSON.stringify(answer), createdAt: c.var.now() };
      await keepAnswer(c.var.db, { tokenId, key, requestHash, ...kept });
    }
    return c.json(answer, 200);
  })
  .openapi(send, async (c) => {
    const format = lineFormat(c.req.header("content-type"));
    const { mode } = c.req.valid("query");
    return c.json(await receive(c, mode, memberBatches(uploadBody(c.req.raw), format)), 202);
  });

/** Each batch is stored before the next one is read: memory and time in the object are bounded however long the body is. */
async function receive(c: AdminContext, mode: UploadMode, batches: AsyncIterable<string[]>): Promise<SegmentStatus> {
  const { object, createdAt, by } = await segmentOf(c);
  if (c.var.dryRun) throw await dryUpload(object, createdAt, mode, batches);
  const { outcome, upload } = await answered(object.beginUpload(createdAt, mode, by));
  if (outcome === "busy") throw busy(upload);
  try {
    for await (const batch of batches) {
      const taken = await answered(object.receive(upload.id, batch));
      if (taken !== "taken") throw refused(taken);
    }
    const done = await answered(object.finishUpload(upload.id));
    if (done.status === null) throw refused(done.outcome);
    return done.status;
  } catch (error) {
    await object.abandonUpload(upload.id).catch(() => {});
    throw error;
  }
}

/** Every line is read and nothing kept: how many of them are the same, or members already, is not known without that. */
async function dryUpload(
  object: ReturnType<typeof bigSegmentOf>,
  createdAt: number,
  mode: UploadMode,
  batches: AsyncIterable<string[]>,
): Promise<DryRun> {
  const other = await answered(object.activeUpload(createdAt));
  if (other !== null) throw busy(other);
  let received = 0;
  for await (const batch of batches) received += batch.length;
  const changes = { upload: { to: { mode, received } } };
  return new DryRun(await answered(object.status(createdAt)), { changes, policies: [] });
}

const busy = (upload: Upload) =>
  conflict("upload-in-progress", `Another upload is being received (${upload.id}): wait until it ends.`, { upload });

const refused = (why: string): ApiError =>
  why === "too-many"
    ? new ApiError(413, "too-many-members", "A segment has at most 5,000,000 members.")
    : unavailable("The upload stood still or was interrupted: send it again.");

async function segmentOf(c: AdminContext) {
  const environment = await environmentOf(c);
  const { segment: key = "" } = c.req.param() as { segment?: string };
  const row = await findSegment(c.var.db, environment.id, key);
  if (row === undefined) throw notFound(`The segment ${key}`);
  const { project, environment: name } = environment;
  const reason = c.req.header("x-bunting-reason")?.slice(0, MAX_REASON) ?? null;
  const by = { ...origin(c), project, environment: name, reason };
  return { object: bigSegmentOf(c.env, environment, key), createdAt: row.createdAt, environment, by };
}

async function answered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await within(answer, SEGMENT_MS, "the segment");
  } catch (error) {
    console.warn(JSON.stringify({ level: "warn", message: "a big segment failed", error: String(error) }));
    throw unavailable("The segment's members cannot be reached. Repeat the request: twice changes nothing.");
  }
}
