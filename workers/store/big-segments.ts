/** Big segments as D1 has them: where the newest filter is and what has changed since. The members are in a Durable Object. */
import type { Evaluator } from "@bunting/core";
import type { MemberChange } from "@bunting/core/wire";
import { and, eq, lte, sql } from "drizzle-orm";
import { FILTER_READ_MS, within } from "../platform/deadline.ts";
import { answered, type Database, type Statement } from "./database.ts";
import { segmentDocument, selectHead, selectMembers } from "./documents.ts";
import type { AuditEntry, Change, Documents, MembersSince } from "./outbox/change.ts";
import { commit, retryingLostRaces } from "./outbox/commit.ts";
import * as table from "./schema/index.ts";

/** Which segment: its environment and its key there. */
export type SegmentPlace = { environmentId: string; key: string };

/** One that was deleted and made anew is another. */
type Segment = SegmentPlace & { createdAt: number };

/** In R2; never written twice. */
export const filterName = ({ environmentId, key }: SegmentPlace, generation: number) =>
  `segments/${environmentId}/${key}/${generation}`;

/** A segment that has become big and has no filter yet. */
const NO_FILTER: table.BigFilter = { generation: 0, count: 0, bits: 0, hashes: 0, url: "" };

/** What landed, and the filter that D1 had before it: another one than its object knows of after D1 has gone back in time. */
export type Committed = { change: Change; generationBefore: number };

/** Members who came or left, and the audit entries that wait. Null: the segment is gone. */
export const commitMembers = (db: Database, place: Segment, since: MembersSince, audit: AuditEntry[]) =>
  commitBig(db, place, audit, (big) => ({
    big: big ?? NO_FILTER,
    isNew: big === null,
    members: since,
    statements: memberStatements(db, place, since),
  }));

/** A filter that can be fetched: from now on it stands for all changes up to its generation. Null: the segment is gone. */
export const commitFilter = (db: Database, place: Segment, filter: table.BigFilter, audit: AuditEntry[]) =>
  commitBig(db, place, audit, () => ({
    big: filter,
    isNew: true,
    statements: [
      db
        .delete(table.segmentChanges)
        .where(and(ofSegment(place), lte(table.segmentChanges.generation, filter.generation))),
    ],
  }));

/** What was done to a segment that is gone by now. */
export const commitAudit = (db: Database, audit: AuditEntry[]) =>
  commit(db, { statements: [], edits: [], audit, now: Date.now() });

type Plan = { big: table.BigFilter; isNew: boolean; members?: MembersSince; statements: Statement[] };

function commitBig(
  db: Database,
  place: Segment,
  audit: AuditEntry[],
  plan: (big: table.BigFilter | null) => Plan,
): Promise<Committed | null> {
  const { environmentId, key, createdAt } = place;
  const at = and(eq(table.segments.environmentId, environmentId), eq(table.segments.key, key));
  return retryingLostRaces(async () => {
    const [[head], [row]] = await answered(
      db.batch([selectHead(db, environmentId), db.select().from(table.segments).where(at)]),
    );
    if (head === undefined || row?.createdAt !== createdAt) return null;
    const { big, isNew, members, statements } = plan(row.big);
    const documents: Partial<Documents> = {
      ...(isNew && { segments: { [key]: segmentDocument({ ...row, big }) } }),
      ...(members && { members: { [key]: members } }),
    };
    if (isNew) statements.push(db.update(table.segments).set({ big }).where(at));
    const [change] = await commit(db, { statements, edits: [{ head, documents }], audit, now: Date.now() });
    return { change: change as Change, generationBefore: row.big?.generation ?? 0 };
  });
}

function memberStatements(
  db: Database,
  place: SegmentPlace,
  { added, removed, generation }: MembersSince,
): Statement[] {
  const rows = JSON.stringify([...added.map((member) => [member, 1]), ...removed.map((member) => [member, 0])]);
  return [
    db
      .delete(table.segmentChanges)
      .where(
        and(ofSegment(place), sql`${table.segmentChanges.member} IN (SELECT value ->> 0 FROM json_each(${rows}))`),
      ),
    db
      .insert(table.segmentChanges)
      .select(
        sql`SELECT ${place.environmentId}, ${place.key}, value ->> 0, value ->> 1, ${generation} FROM json_each(${rows})`,
      ),
  ];
}

const ofSegment = ({ environmentId, key }: SegmentPlace) =>
  and(eq(table.segmentChanges.environmentId, environmentId), eq(table.segmentChanges.segmentKey, key));

export const deleteMembers = (db: Database, place: SegmentPlace): Statement =>
  db.delete(table.segmentChanges).where(ofSegment(place));

/** What a ruleset from D1 lacks: the lists of its big segments, and their filters, so that one user gets one answer (EV-20). */
export async function addBigSegments(db: Database, bucket: R2Bucket, evaluator: Evaluator): Promise<void> {
  const { environment, segments, revision } = evaluator.ruleset;
  const big = Object.values(segments).filter((segment) => segment.big !== undefined);
  if (big.length === 0) return;
  const keys = big.map(({ key }) => key);
  const members: Record<string, MemberChange> = {};
  for (const { segmentKey, member, present } of await selectMembers(db, environment, keys)) {
    members[segmentKey] ??= { added: [], removed: [] };
    members[segmentKey][present ? "added" : "removed"].push(member);
  }
  evaluator.apply({ revision, previous: revision, flags: {}, segments: {}, members });
  for (const { segment, generation } of evaluator.missingFilters()) {
    const filter = await readFilter(bucket, filterName({ environmentId: environment, key: segment }, generation));
    if (filter !== null) evaluator.setFilter(segment, generation, filter);
  }
}

/** Of an isolate's 128 MB: the largest filter, or many small ones. */
const MAX_HELD_BYTES = 20 * 1_048_576;
const held = new Map<string, Uint8Array>();
const reading = new Map<string, Promise<Uint8Array | null>>();

/** Who tries a rule on several contexts asks for the same filter each time, and several at once hold it once. */
async function readFilter(bucket: R2Bucket, name: string): Promise<Uint8Array | null> {
  const known = held.get(name);
  if (known !== undefined) return known;
  const shared = reading.get(name) ?? fetchFilter(bucket, name);
  reading.set(name, shared);
  try {
    // Another request may have begun it, and ended without it: waited for a bounded time, and not by who comes after.
    return await within(shared, FILTER_READ_MS, "R2");
  } finally {
    if (reading.get(name) === shared) reading.delete(name);
  }
}

async function fetchFilter(bucket: R2Bucket, name: string): Promise<Uint8Array | null> {
  const object = await bucket.get(name);
  if (object === null) return null;
  const filter = new Uint8Array(await object.arrayBuffer());
  held.set(name, filter);
  let bytes = 0;
  for (const one of held.values()) bytes += one.byteLength;
  for (const [oldest, { byteLength }] of held) {
    if (bytes <= MAX_HELD_BYTES) break;
    held.delete(oldest);
    bytes -= byteLength;
  }
  return filter;
}
