/** The members of big segments: one by one, and by the million. They are exact here; who evaluates has a filter (EV-20). */

import type { OriginAndReason, SegmentStatus, UploadMode } from "../../../durable-objects/segment/big-segment.ts";
import type { Upload } from "../../../durable-objects/segment/state.ts";
import { SEGMENT_MS, within } from "../../platform/deadline.ts";
import { errorText } from "../../platform/error-text.ts";
import { ApiError, badRequest, conflict, notFound, unavailable } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { keepAnswer } from "../../store/idempotency.ts";
import { findSegment } from "../../store/segments.ts";
import type { AdminContext } from "../http/context.ts";
import { z } from "../http/zod.ts";
import { MAX_MEMBERS_AT_ONCE, MAX_TEXT } from "../limits.ts";
import { operation } from "../operation.ts";
import { bigSegmentOf, delivered, delivery } from "../write/hub-client.ts";
import { environmentOf } from "../write/lookup.ts";
import { DryRun } from "../write/preview.ts";
import type { Requested } from "../write/request.ts";
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

const PATH = "/projects/{project}/environments/{environment}/segments/{segment}/members";

const read = operation({
  id: "readMembers",
  method: "get",
  path: PATH,
  tag: "segments",
  summary: "How many members a segment has, and how far uploads and filters are",
  role: "viewer",
  answer: status,
  returns: "The state of its members",
  handle: async (requested) => {
    const { object, createdAt } = await segmentOf(requested);
    return answered(object.status(createdAt));
  },
});

const find = operation({
  id: "findMember",
  method: "get",
  path: `${PATH}/{member}`,
  tag: "segments",
  summary: "Whether somebody is a member, exactly",
  role: "viewer",
  params: { member },
  answer: z.object({ member: z.string(), present: z.boolean() }),
  returns: "The answer",
  handle: async (requested) => {
    const { object, createdAt } = await segmentOf(requested);
    const { member } = requested.path;
    const found = await answered(object.has(createdAt, [member]));
    return { member, present: found.length > 0 };
  },
});

const patch = operation({
  id: "changeMembers",
  method: "patch",
  path: PATH,
  tag: "segments",
  summary: "Add and remove a few members, at once everywhere",
  role: "editor",
  body: z.strictObject({ add: z.array(member), remove: z.array(member) }).partial(),
  answer: changed,
  returns: "How many really came and went",
  example: { add: ["user-1", "user-2"], remove: ["user-3"] },
  problems: { 413: ["too-many-members"] },
  ifMatch: false,
  handle: async (requested, c) => {
    const { add = [], remove = [] } = requested.body;
    const [comes, goes] = [new Set(add), new Set(remove)];
    if (add.length + remove.length > MAX_MEMBERS_AT_ONCE) {
      throw badRequest(`At most ${MAX_MEMBERS_AT_ONCE} members at once: POST longer lists as NDJSON or CSV.`);
    }
    const twice = remove.findIndex((one) => comes.has(one));
    if (twice !== -1) {
      const message = "This member is to be added and removed.";
      throw badRequest(message, [{ pointer: `/remove/${twice}`, code: "member-twice", message }]);
    }
    const { object, createdAt, environment } = await segmentOf(requested);
    const lists: [string[], string[]] = [[...comes], [...goes]];
    const changing = c.var.dryRun
      ? object.previewChange(createdAt, ...lists)
      : object.change(createdAt, ...lists, originAndReason(c, environment));
    const { outcome, added, removed, revision } = await answered(changing);
    if (outcome === "too-many") throw refused(outcome);
    if (c.var.dryRun) {
      const changes = {
        ...(added.length > 0 && { added: { to: added } }),
        ...(removed.length > 0 && { removed: { from: removed } }),
      };
      throw new DryRun(
        { added: added.length, removed: removed.length },
        { changes, moved: [], share: 0, policies: [] },
      );
    }
    const way = revision === null ? { pending: true as const } : delivered(environment, revision);
    const nothing = added.length + removed.length === 0;
    const answer = { added: added.length, removed: removed.length, ...(nothing ? {} : way) };
    const { idempotency } = c.var;
    if (idempotency !== undefined) {
      const { tokenId, key, requestHash } = idempotency;
      const kept = { status: 200, headers: {}, body: JSON.stringify(answer), createdAt: c.var.now() };
      await keepAnswer(requested.db, { tokenId, key, requestHash, ...kept });
    }
    return answer;
  },
});

const send = operation({
  id: "uploadMembers",
  method: "post",
  path: PATH,
  tag: "segments",
  summary: "Add, remove or replace members by the million; they count once a new filter is built",
  role: "editor",
  query: z.object({ mode: z.enum(["add", "remove", "replace"]).default("add") }),
  upload: {
    description: 'NDJSON with "user-1" or {"key": "user-1"} on each line, or CSV with the members in the first column',
    types: ["application/x-ndjson", "text/csv"],
  },
  status: 202,
  answer: status,
  returns: "Taken; the filter is being built",
  example: '"user-4"\n{"key": "user-5"}\n',
  problems: {
    409: ["upload-in-progress"],
    413: ["too-many-members", "too-many-lines", "compressed-too-well"],
  },
  handle: async (requested, c) => {
    const { mode } = requested.query;
    const format = lineFormat(c.req.header("content-type"));
    const batches = memberBatches(uploadBody(c.req.raw), format);
    const segment = await segmentOf(requested);
    if (c.var.dryRun) throw await dryUpload(segment, mode, batches);
    return receive(segment, mode, originAndReason(c, segment.environment), batches);
  },
});

export const members = [read, find, patch, send];

type BigSegment = Awaited<ReturnType<typeof segmentOf>>;

/** Each batch is stored before the next one is read: memory and time in the object are bounded however long the body is. */
async function receive(
  { object, createdAt }: BigSegment,
  mode: UploadMode,
  by: OriginAndReason,
  batches: AsyncIterable<string[]>,
): Promise<SegmentStatus> {
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
  { object, createdAt, environment, key }: BigSegment,
  mode: UploadMode,
  batches: AsyncIterable<string[]>,
): Promise<DryRun> {
  const other = await answered(object.activeUpload(createdAt));
  if (other !== null) throw busy(other);
  let received = 0;
  for await (const batch of batches) received += batch.length;
  const changes = { upload: { to: { mode, received } } };
  const at = { environment: environment.environment, kind: "segment" as const, key };
  const moved = [{ ...at, rule: null, movements: "unknown" as const }];
  return new DryRun(await answered(object.status(createdAt)), { changes, moved, share: "unknown", policies: [] });
}

const busy = (upload: Upload) =>
  conflict("upload-in-progress", `Another upload is being received (${upload.id}): wait until it ends.`, { upload });

const refused = (why: string): ApiError =>
  why === "too-many"
    ? new ApiError(413, "too-many-members", "A segment has at most 5,000,000 members.")
    : unavailable("The upload stood still or was interrupted: send it again.");

async function segmentOf(requested: Requested<{ project: string; environment: string; segment: string }>) {
  const environment = await environmentOf(requested);
  const { segment: key } = requested.path;
  const row = await findSegment(requested.db, environment.id, key);
  if (row === undefined) throw notFound(`The segment ${key}`);
  return { object: bigSegmentOf(requested.env, environment, key), createdAt: row.createdAt, environment, key };
}

function originAndReason(c: AdminContext, { project, environment }: EnvironmentName): OriginAndReason {
  return { ...origin(c), project, environment, reason: c.var.reason ?? null };
}

async function answered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await within(answer, SEGMENT_MS, "the segment");
  } catch (error) {
    console.warn(JSON.stringify({ level: "warn", message: "a big segment failed", error: errorText(error) }));
    throw unavailable("The segment's members cannot be reached. Repeat the request: twice changes nothing.");
  }
}
