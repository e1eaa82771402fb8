/** What two environments have differently: what promoting the one to the other would change there. */
import type { Flag } from "@bunting/core";
import { badRequest } from "../../platform/problem.ts";
import { comparedFlags, comparedSegments } from "../../store/compare.ts";
import type { SegmentRow } from "../../store/documents.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { movedBetween } from "../documents/moved.ts";
import { changes, movedInFlag } from "../documents/preview.ts";
import { differingParts, PARTS, promotedFlag, promotedSegment } from "../documents/promotion.ts";
import { document } from "../documents/schema.ts";
import { segmentFields } from "../documents/segment-fields.ts";
import { withWeights } from "../documents/targeting.ts";
import { requireScope } from "../http/access.ts";
import { key, page, pageQuery } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { MAX_CURSOR } from "../limits.ts";
import { operation } from "../operation.ts";
import { environmentOf } from "../write/lookup.ts";
import type { Requested } from "../write/request.ts";

export const version = z.number().int().nullable().openapi({ description: "Null: not there" });
const versions = z.object({ from: version, to: version }).openapi("ComparedVersions");
const differing = z
  .object({
    ...document.shape,
    versions,
    parts: z.array(z.enum(PARTS)).openapi({ description: "Of a flag: what differs" }),
    changes: changes.openapi({ description: "In the target, if it were promoted" }),
    moved: movedInFlag,
    promotable: z.boolean().openapi({
      description: "Not what the source does not have, and not a segment with uploaded members",
    }),
  })
  .openapi("Difference");

const compare = operation({
  id: "compareEnvironments",
  method: "get",
  path: "/projects/{project}/compare",
  tag: "environments",
  summary: "What two environments have differently, in the direction of a promotion",
  description: "Flags by key, then segments by key. A page may have fewer items than `limit`, also none.",
  role: "viewer",
  reach: "own",
  query: pageQuery.extend({
    from: key,
    to: key,
    flag: key.optional(),
    segment: key.optional(),
    cursor: z.string().max(MAX_CURSOR).optional(),
  }),
  answer: page(differing),
  returns: "What differs",
  handle: async (requested) => {
    const { db, path, query } = requested;
    const { flag, segment, limit, cursor = "", ...keys } = query;
    const { from, to } = await pairOf(requested, path.project, keys, "read");
    const [, kind, after] = /^(flag|segment):(.*)$/.exec(cursor) ?? [];
    if (cursor !== "" && kind === undefined) throw badRequest("The cursor is not from this list.");
    const pair = { projectId: from.projectId, from: from.id, to: to.id };
    const items: Difference[] = [];
    let next: string | null = null;
    if (kind !== "segment" && (flag !== undefined || segment === undefined)) {
      const rows = await comparedFlags(db, { ...pair, key: flag, after, limit: limit + 1 });
      items.push(...rows.slice(0, limit).flatMap(shownFlagDifference));
      if (rows.length > limit) next = `flag:${rows[limit - 1]?.key}`;
      else if (flag === undefined) next = "segment:";
    }
    if (next === null ? segment !== undefined || kind === "segment" : next === "segment:" && items.length < limit) {
      const left = limit - items.length;
      const position = kind === "segment" ? after : undefined;
      const rows = await comparedSegments(db, { ...pair, key: segment, after: position, limit: left + 1 });
      items.push(...rows.slice(0, left).flatMap(shownSegmentDifference));
      next = rows.length > left ? `segment:${rows[left - 1]?.key}` : null;
    }
    return { items, nextCursor: next };
  },
});

type Difference = z.infer<typeof differing>;

export const comparisons = [compare];

/** @throws ApiError 403 where the caller may not read the one or do that to the other, 404. */
export async function pairOf(
  { env, db, scope }: Pick<Requested, "env" | "db" | "scope">,
  project: string,
  { from, to }: { from: string; to: string },
  doing: "read" | "write",
) {
  requireScope(scope, project, from, true);
  requireScope(scope, project, to, doing === "read");
  if (from === to) throw badRequest("An environment is not compared with itself.");
  const named = (environment: string) => environmentOf({ env, db, path: { project, environment } });
  return { from: await named(from), to: await named(to) };
}

function shownFlagDifference({ key, source, target }: { key: string; source: Flag; target: Flag }): Difference[] {
  const next = promotedFlag(source, target, PARTS);
  const changes = difference(withWeights(target), withWeights(next));
  if (isEmpty(changes)) return [];
  return [
    {
      kind: "flag",
      key,
      versions: { from: source.version, to: target.version },
      parts: differingParts(source, target),
      changes,
      moved: movedBetween(target, next),
      promotable: true,
    },
  ];
}

type SegmentPair = { key: string; source: SegmentRow | null; target: SegmentRow | null };

function shownSegmentDifference({ key, source, target }: SegmentPair): Difference[] {
  const before = target === null ? {} : segmentFields(target);
  const changes = difference(before, source === null ? {} : promotedSegment(source, target));
  if (isEmpty(changes)) return [];
  const versions = { from: source?.version ?? null, to: target?.version ?? null };
  const promotable = source !== null && source.big === null;
  return [{ kind: "segment", key, versions, parts: [], changes, moved: [], promotable }];
}
