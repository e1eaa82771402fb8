/** Taking over flags and segments from another environment: one change, all of it or nothing. */
import type { Flag } from "@bunting/core";
import { ApiError, conflict, notFound } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { type Closure, closure, type SegmentRow } from "../../store/documents.ts";
import type { Source } from "../documents/changed-document.ts";
import { changes, movedInFlag } from "../documents/preview.ts";
import { PARTS, type Part, promotedFlag, promotedSegment } from "../documents/promotion.ts";
import { document, oneOf } from "../documents/schema.ts";
import { segmentFields } from "../documents/segment-fields.ts";
import { type DocumentEdit, planDocuments } from "../flags/environment-edit.ts";
import { shownTargeting } from "../flags/representation.ts";
import { flagThere } from "../flags/targeting-edit.ts";
import { key, validationError } from "../http/contract.ts";
import { invalid } from "../http/validation-errors.ts";
import { z } from "../http/zod.ts";
import { MAX_PROMOTED } from "../limits.ts";
import { operation } from "../operation.ts";
import { delivery } from "../write/hub-client.ts";
import type { Requested } from "../write/request.ts";
import { pairOf, version } from "./compare.ts";

const parts = z.array(z.enum(PARTS)).min(1).max(PARTS.length);

const guard = z
  .strictObject({ from: version.optional(), to: version.optional() })
  .optional()
  .openapi({ description: "What was compared: 412 where it is something else by now" });

const promote = operation({
  id: "promoteChanges",
  method: "post",
  path: "/projects/{project}/promote",
  tag: "environments",
  summary: "Take over flags and segments from another environment, all at once or not at all",
  role: "editor",
  reach: "own",
  body: z.strictObject({
    from: key,
    to: key,
    items: z
      .array(
        oneOf(
          {
            flag: z.strictObject({ flag: key, parts: parts.optional(), versions: guard }),
            segment: z.strictObject({ segment: key, versions: guard }),
          },
          'Send {"flag": "<key>"} or {"segment": "<key>"}.',
        ),
      )
      .min(1)
      .max(MAX_PROMOTED),
  }),
  answer: z
    .object({
      from: key,
      to: key,
      documents: z.array(z.object({ ...document.shape, version, changes, moved: movedInFlag })),
      warnings: z.array(validationError),
      ...delivery.shape,
    })
    .openapi("Promotion"),
  returns: "What has changed in the target",
  example: { from: "staging", to: "production", items: [{ flag: "new-checkout", parts: ["rules"] }] },
  problems: {
    403: ["approval-required"],
    409: ["archived", "has-members", "would-not-work", "in-use"],
    412: ["changed-since"],
    413: ["change-too-large", "ruleset-too-large"],
  },
  plan: planPromotion,
  requestable: planPromotion,
  respond: ({ body, deliveries }, requested) => ({ ...body, ...deliveries[requested.body.to] }),
});

export const promotions = [promote];

/** @throws ApiError 403, 404, 409 for what cannot be promoted, 412 where something else was compared. */
async function planPromotion(requested: Requested<{ project: string }, Promotion>, now: number) {
  const { db, path, body } = requested;
  requireEachOnce(body.items);
  const { from, to } = await pairOf(requested, path.project, body, "write");
  const { edits, sources } = await editsOf(db, from, to, body.items);
  const plan = await planDocuments(db, to, { edits, verb: "promote" }, now);
  return { ...plan, body: { from: from.environment, to: to.environment, ...plan.body }, sources };
}

type Promotion = { from: string; to: string; items: Item[] };

type Item =
  | { flag: string; parts?: Part[] | undefined; versions?: z.infer<typeof guard> }
  | { segment: string; versions?: z.infer<typeof guard> };

function requireEachOnce(items: Item[]): void {
  const names = items.map((item) => ("flag" in item ? `flag ${item.flag}` : `segment ${item.segment}`));
  const twice = names.flatMap((name, index) => (names.indexOf(name) < index ? [index] : []));
  if (twice.length === 0) return;
  throw invalid(
    "Each document is promoted once.",
    twice.map((index) => ({
      pointer: `/items/${index}`,
      code: "twice",
      message: `The ${names[index]} is there twice.`,
    })),
  );
}

async function editsOf(db: Database, from: EnvironmentName, to: EnvironmentName, items: Item[]) {
  const found = await closure(db, from.id, {
    flags: items.flatMap((item) => ("flag" in item ? [item.flag] : [])),
    segments: items.flatMap((item) => ("segment" in item ? [item.segment] : [])),
  });
  if (found === null) throw notFound(`The environment ${from.project}/${from.environment}`);
  const edits = await Promise.all(
    items.map((item) => ("flag" in item ? flagEdit(db, from, to, found, item) : segmentEdit(found, item))),
  );
  const { environment } = from;
  const sources = items.map((item): Source => {
    if ("flag" in item) {
      return { environment, kind: "flag", key: item.flag, version: found.ruleset.flags[item.flag]!.version };
    }
    return { environment, kind: "segment", key: item.segment, version: found.ruleset.segments[item.segment]!.version };
  });
  return { edits, sources };
}

async function flagEdit(
  db: Database,
  from: EnvironmentName,
  to: EnvironmentName,
  { ruleset }: Closure,
  { flag: key, parts = [...PARTS], versions }: Extract<Item, { flag: string }>,
): Promise<DocumentEdit> {
  const source = Object.hasOwn(ruleset.flags, key) ? ruleset.flags[key] : undefined;
  if (source === undefined) {
    await flagThere(db, from, key);
    throw conflict("archived", `The flag ${key} is archived.`);
  }
  const edit = (target: Flag) => {
    const next = promotedFlag(source, target, parts);
    requireCompared({ kind: "flag", key }, versions, { from: source.version, to: target.version }, () => ({
      current: withoutKill(shownTargeting(to, target, null)),
      proposed: withoutKill(shownTargeting(to, next, null)),
    }));
    return next;
  };
  return { kind: "flag", key, edit };
}

const withoutKill = ({ killed: _, ...shown }: ReturnType<typeof shownTargeting>) => shown;

function segmentEdit(
  { segments }: Closure,
  { segment: key, versions }: Extract<Item, { segment: string }>,
): DocumentEdit {
  const source = segments.find((row) => row.key === key);
  if (source === undefined) throw notFound(`The segment ${key}`);
  if (source.big !== null) {
    throw conflict("has-members", `The segment ${key} has members that were uploaded: upload them there as well.`);
  }
  const edit = (target: SegmentRow | null) => {
    const next = promotedSegment(source, target);
    requireCompared({ kind: "segment", key }, versions, { from: source.version, to: target?.version ?? null }, () => ({
      current: target && segmentFields(target),
      proposed: next,
    }));
    return next;
  };
  return { kind: "segment", key, edit };
}

function requireCompared(
  { kind, key }: z.infer<typeof document>,
  compared: z.infer<typeof guard>,
  versions: { from: number | null; to: number | null },
  both: () => { current: unknown; proposed: unknown },
): void {
  const isSame = (side: "from" | "to") => compared?.[side] === undefined || compared[side] === versions[side];
  if (isSame("from") && isSame("to")) return;
  const detail = `The ${kind} ${key} is another than was compared.`;
  throw new ApiError(412, "changed-since", detail, { kind, key, versions, ...both() });
}
