/** Rows of D1 as the documents of docs/evaluation.md. `killed` is never here: the hub alone knows it. */
import type { Flag, Ruleset, Segment } from "@bunting/core";
import { and, eq, getTableColumns, inArray, isNull, type SQL, sql } from "drizzle-orm";
import { answered, type Database, type Statement } from "./database.ts";
import type { Head, KeyGrant } from "./outbox/change.ts";
import { lastKill } from "./outbox/outbox.ts";
import * as table from "./schema/index.ts";

export type FlagRow = typeof table.flags.$inferSelect;
/** Without what SQLite computes of it, which nobody can write. */
export type ConfigurationRow = Omit<typeof table.flagConfigurations.$inferSelect, "summary">;
export type SegmentRow = typeof table.segments.$inferSelect;
export type MemberRow = Omit<typeof table.segmentChanges.$inferSelect, "environmentId">;
export type SdkKeyRow = typeof table.sdkKeys.$inferSelect;

export function flagDocument(
  flag: Omit<FlagRow, "bytes">,
  configuration: Omit<ConfigurationRow, "updatedAt" | "fullSince">,
): Flag {
  return {
    key: flag.key,
    version: configuration.version,
    type: flag.type,
    on: configuration.on,
    variations: flag.variations,
    offVariation: configuration.offVariation,
    prerequisites: configuration.prerequisites,
    targets: configuration.targets,
    rules: configuration.rules,
    fallthrough: configuration.fallthrough,
    clientSide: flag.clientSide,
    trackExposures: configuration.trackExposures,
    experiment: null,
    killed: false,
  };
}

export function segmentDocument(row: SegmentRow): Segment {
  const { key, version, included, excluded, rules, big } = row;
  const segment = { key, version, included, excluded, rules };
  return big === null ? segment : { ...segment, big: { ...big, added: [], removed: [] } };
}

export function keyGrant(row: SdkKeyRow): KeyGrant {
  return { id: row.id, kind: row.kind, origins: row.origins, expiresAt: row.expiresAt };
}

export type References = { flags: string[]; segments: string[] };

/** Everything reachable from some documents: all that validating one of them has to look at. */
export type Closure = {
  head: Head;
  ruleset: Ruleset;
  /** What the documents were made of. */
  flags: { flag: FlagRow; configuration: ConfigurationRow }[];
  segments: SegmentRow[];
};

/**
 * The documents in `references` and all that they depend on, and all that depends on `dependentsOf`, with the head they
 * were read at. One transaction, so that a write validated on it and keyed by that head is valid when it lands.
 */
export async function closure(
  db: Database,
  environmentId: string,
  references: References,
  dependentsOf?: { kind: table.DocumentKind; key: string },
): Promise<Closure | null> {
  const start = JSON.stringify([
    ...references.flags.map((key) => ({ kind: "flag", key })),
    ...references.segments.map((key) => ({ kind: "segment", key })),
  ]);
  const dependents =
    dependentsOf === undefined
      ? sql``
      : sql`UNION SELECT source_kind, source_key FROM dependencies
            WHERE environment_id = ${environmentId} AND target_kind = ${dependentsOf.kind} AND target_key = ${dependentsOf.key}`;
  const reached = (kind: table.DocumentKind): SQL => sql`(
    WITH RECURSIVE start(kind, key) AS (
      SELECT value ->> 'kind', value ->> 'key' FROM json_each(${start}) ${dependents}
    ), reach(kind, key) AS (
      SELECT kind, key FROM start
      UNION
      SELECT d.target_kind, d.target_key FROM dependencies d JOIN reach r
        ON d.source_kind = r.kind AND d.source_key = r.key WHERE d.environment_id = ${environmentId}
    ) SELECT key FROM reach WHERE kind = ${kind})`;
  const [heads, flagRows, segmentRows] = await answered(
    db.batch([
      selectHead(db, environmentId),
      selectFlags(db, environmentId, sql`${table.flags.key} IN ${reached("flag")}`),
      selectSegments(db, environmentId, sql`${table.segments.key} IN ${reached("segment")}`),
    ]),
  );
  const head = heads[0];
  if (head === undefined) return null;
  const ruleset = rulesetOf(environmentId, flagRows, segmentRows);
  return { head, ruleset, flags: flagRows, segments: segmentRows };
}

/** Documents as they are, without what they depend on. */
export async function documentsThere(
  db: Database,
  environmentId: string,
  { flags, segments }: References,
): Promise<Pick<Ruleset, "flags" | "segments">> {
  const among = (keys: string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(keys)}))`;
  const [flagRows, segmentRows] = await answered(
    db.batch([
      selectFlags(db, environmentId, sql`${table.flags.key} IN ${among(flags)}`),
      selectSegments(db, environmentId, sql`${table.segments.key} IN ${among(segments)}`),
    ]),
  );
  return rulesetOf(environmentId, flagRows, segmentRows);
}

export type WholeEnvironment = {
  head: Head;
  publishedRevision: number;
  /** The last kill or restore that D1 was told of. */
  killSeq: number;
  ruleset: Ruleset;
  keys: Record<string, KeyGrant>;
  members: MemberRow[];
  kills: (typeof table.kills.$inferSelect)[];
};

/** All that a hub starts from. One transaction. */
export async function wholeEnvironment(db: Database, environmentId: string): Promise<WholeEnvironment | null> {
  const [heads, flagRows, segmentRows, keyRows, killRows, members] = await db.batch([
    selectHead(db, environmentId),
    selectFlags(db, environmentId),
    selectSegments(db, environmentId),
    db
      .select()
      .from(table.sdkKeys)
      .where(and(eq(table.sdkKeys.environmentId, environmentId), isNull(table.sdkKeys.revokedAt))),
    db.select().from(table.kills).where(eq(table.kills.environmentId, environmentId)),
    selectMembers(db, environmentId),
  ]);
  const head = heads[0];
  if (head === undefined) return null;
  const { publishedRevision, killSeq, ...position } = head;
  return {
    head: position,
    publishedRevision,
    killSeq,
    ruleset: rulesetOf(environmentId, flagRows, segmentRows),
    keys: Object.fromEntries(keyRows.map((row) => [row.hash, keyGrant(row)])),
    members,
    kills: killRows,
  };
}

export const selectHead = (db: Database, environmentId: string) =>
  db
    .select({
      environmentId: table.environments.id,
      version: table.environments.version,
      changeId: table.environments.changeId,
      publishedRevision: table.environments.publishedRevision,
      killSeq: lastKill,
    })
    .from(table.environments)
    .where(eq(table.environments.id, environmentId));

const { summary: __, ...configurationFields } = getTableColumns(table.flagConfigurations);

export const selectConfigurations = (db: Database) => db.select(configurationFields).from(table.flagConfigurations);

// A batch of D1 answers objects by column name, so that names which both tables have must differ.
const configurationColumns = {
  ...configurationFields,
  version: sql<number>`${table.flagConfigurations.version}`.as("configuration_version"),
  updatedAt: sql<number>`${table.flagConfigurations.updatedAt}`.as("configuration_updated_at"),
};

const selectFlags = (db: Database, environmentId: string, which?: SQL) =>
  db
    .select({ flag: getTableColumns(table.flags), configuration: configurationColumns })
    .from(table.flagConfigurations)
    .innerJoin(table.flags, eq(table.flags.id, table.flagConfigurations.flagId))
    .where(and(eq(table.flagConfigurations.environmentId, environmentId), isNull(table.flags.archivedAt), which));

const selectSegments = (db: Database, environmentId: string, which?: SQL) =>
  db
    .select()
    .from(table.segments)
    .where(and(eq(table.segments.environmentId, environmentId), which));

const { environmentId: _, ...memberColumns } = getTableColumns(table.segmentChanges);

/** What has changed in big segments since their filters. */
export const selectMembers = (db: Database, environmentId: string, segmentKeys?: string[]) =>
  db
    .select(memberColumns)
    .from(table.segmentChanges)
    .where(
      and(
        eq(table.segmentChanges.environmentId, environmentId),
        segmentKeys && inArray(table.segmentChanges.segmentKey, segmentKeys),
      ),
    );

function rulesetOf(
  environment: string,
  flagRows: { flag: FlagRow; configuration: ConfigurationRow }[],
  segmentRows: SegmentRow[],
): Ruleset {
  const flags = flagRows.map(({ flag, configuration }) => [flag.key, flagDocument(flag, configuration)] as const);
  const segments = segmentRows.map((row) => [row.key, segmentDocument(row)] as const);
  return {
    schema: 1,
    environment,
    revision: 0,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: Object.fromEntries(flags),
    segments: Object.fromEntries(segments),
  };
}

/** What in an environment refers to a document. */
export async function dependentsOf(
  db: Database,
  environmentIds: string[],
  kind: table.DocumentKind,
  key: string,
  limit = 1_000,
) {
  if (environmentIds.length === 0) return [];
  return db
    .select({
      environmentId: table.dependencies.environmentId,
      kind: table.dependencies.sourceKind,
      key: table.dependencies.sourceKey,
    })
    .from(table.dependencies)
    .where(
      and(
        inArray(table.dependencies.environmentId, environmentIds),
        eq(table.dependencies.targetKind, kind),
        eq(table.dependencies.targetKey, key),
      ),
    )
    .limit(limit);
}

/** Replaces what one document refers to, in two statements however much that is. */
export function dependencyStatements(
  db: Database,
  environmentId: string,
  kind: table.DocumentKind,
  key: string,
  references: References,
): Statement[] {
  const targets = JSON.stringify([
    ...references.flags.map((target) => ({ kind: "flag", key: target })),
    ...references.segments.map((target) => ({ kind: "segment", key: target })),
  ]);
  const old = and(
    eq(table.dependencies.environmentId, environmentId),
    eq(table.dependencies.sourceKind, kind),
    eq(table.dependencies.sourceKey, key),
  );
  return [
    db.delete(table.dependencies).where(old),
    db
      .insert(table.dependencies)
      .select(
        sql`SELECT ${environmentId}, ${kind}, ${key}, value ->> 'kind', value ->> 'key' FROM json_each(${targets})`,
      ),
  ];
}
