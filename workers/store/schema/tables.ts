/**
 * D1's tables of projects, environments, documents, kills, credentials and changes. Times are epoch milliseconds.
 * docs/storage.md says who writes each; migrations/ is generated from here.
 */
import type {
  BigMembers,
  FlagType,
  Prerequisite,
  Range,
  Rule,
  SegmentRule,
  Serve,
  Target,
  Variation,
} from "@bunting/core";
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

const time = (name: string) => integer(name);
const json = <T>(name: string) => text(name, { mode: "json" }).$type<T>();

export const projects = sqliteTable(
  "projects",
  {
    id: text().primaryKey(),
    key: text().notNull().unique(),
    name: text().notNull(),
    description: text().notNull().default(""),
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
  },
  (table) => [
    index("projects_by_name").on(table.name, table.key),
    index("projects_by_creation").on(table.createdAt, table.key),
    index("projects_by_update").on(table.updatedAt, table.key),
  ],
);

/** The lock of what spans environments: a lost race violates this key and takes its whole batch with it. */
export const projectEdits = sqliteTable(
  "project_edits",
  { projectId: text("project_id").notNull(), version: integer().notNull(), createdAt: time("created_at").notNull() },
  (table) => [
    primaryKey({ columns: [table.projectId, table.version] }),
    index("project_edits_by_age").on(table.createdAt),
  ],
);

export const environments = sqliteTable(
  "environments",
  {
    id: text().primaryKey(),
    projectId: text("project_id").notNull(),
    key: text().notNull(),
    name: text().notNull(),
    /** Where the hub lives: a location hint of the platform, counted only when the hub is first made. */
    location: text(),
    /** The last committed change, and the last one that the hub has told us it published. */
    version: integer().notNull(),
    changeId: text("change_id").notNull(),
    publishedVersion: integer("published_version").notNull().default(0),
    publishedRevision: integer("published_revision").notNull().default(0),
    /** The sum of its `document_sizes`. Never null: a write that is refused for its size tries to make it so. */
    rulesetBytes: integer("ruleset_bytes").notNull().default(0),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
  },
  (table) => [
    uniqueIndex("environments_by_key").on(table.projectId, table.key),
    index("environments_by_creation").on(table.createdAt),
    // What the sweep looks for each minute, and hardly ever finds.
    index("environments_lagging").on(table.id).where(sql`version > published_version`),
  ],
);

export const flags = sqliteTable(
  "flags",
  {
    id: text().primaryKey(),
    projectId: text("project_id").notNull(),
    key: text().notNull(),
    name: text().notNull(),
    description: text().notNull().default(""),
    type: text().$type<FlagType>().notNull(),
    variations: json<Variation[]>("variations").notNull(),
    tags: json<string[]>("tags").notNull(),
    owner: text(),
    temporary: integer({ mode: "boolean" }).notNull(),
    clientSide: integer("client_side", { mode: "boolean" }).notNull(),
    /** What its document weighs in a new environment, counted as in `document_sizes`. */
    bytes: integer().notNull(),
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
    archivedAt: time("archived_at"),
  },
  (table) => [
    uniqueIndex("flags_by_key").on(table.projectId, table.key),
    // One for each order of the list, then one for each filter: in the order of keys, which is the usual one.
    index("flags_by_name").on(table.projectId, table.name, table.key),
    index("flags_by_creation").on(table.projectId, table.createdAt, table.key),
    index("flags_by_update").on(table.projectId, table.updatedAt, table.key),
    index("flags_by_owner").on(table.projectId, table.owner, table.key),
    index("flags_by_type").on(table.projectId, table.type, table.key),
    index("flags_by_temporary").on(table.projectId, table.temporary, table.key),
    index("flags_by_client_side").on(table.projectId, table.clientSide, table.key),
    index("flags_archived").on(table.projectId, table.key).where(sql`archived_at IS NOT NULL`),
  ],
);

/** `flags.tags` the other way round. */
export const flagTags = sqliteTable(
  "flag_tags",
  { projectId: text("project_id").notNull(), tag: text().notNull(), flagKey: text("flag_key").notNull() },
  (table) => [
    primaryKey({ columns: [table.projectId, table.tag, table.flagKey] }),
    index("flag_tags_by_flag").on(table.projectId, table.flagKey),
  ],
);

/** What a list says of a configuration; what comes of it is in workers/admin/documents/flag-summary.ts. */
export type StoredSummary =
  | ["variation", string | null]
  | ["depends", rules: number, targets: number, prerequisites: number]
  | ["split", offVariation: string | null, ranges: Range[]];

/** Computed by SQLite, so that no write has to think of it: the fallthrough counts only where nothing comes before it. */
const summary = sql`CASE
    WHEN "on" = 0 THEN json_array('variation', off_variation)
    WHEN json_array_length(rules) + json_array_length(targets) + json_array_length(prerequisites) > 0
      THEN json_array('depends', json_array_length(rules), json_array_length(targets), json_array_length(prerequisites))
    WHEN json_type(fallthrough, '$.split') IS NULL THEN json_array('variation', fallthrough ->> '$.variation')
    ELSE json_array('split', off_variation, fallthrough -> '$.split.ranges') END`;

/**
 * How one environment serves a flag. `version` is the version of the flag's document there. What lists read stands before the
 * JSON, which may be long: SQLite reads a row up to the last column that it needs.
 */
export const flagConfigurations = sqliteTable(
  "flag_configurations",
  {
    environmentId: text("environment_id").notNull(),
    flagId: text("flag_id").notNull(),
    version: integer().notNull(),
    on: integer({ mode: "boolean" }).notNull(),
    offVariation: text("off_variation"),
    trackExposures: integer("track_exposures", { mode: "boolean" }).notNull(),
    updatedAt: time("updated_at").notNull(),
    /** Since when everybody is served the same, kills aside; null where it depends on who asks. */
    fullSince: time("full_since"),
    summary: json<StoredSummary>("summary").notNull().generatedAlwaysAs(summary, { mode: "stored" }),
    prerequisites: json<Prerequisite[]>("prerequisites").notNull(),
    targets: json<Target[]>("targets").notNull(),
    rules: json<Rule[]>("rules").notNull(),
    fallthrough: json<Serve>("fallthrough").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.environmentId, table.flagId] }),
    index("flag_configurations_by_flag").on(table.flagId),
  ],
);

/** A big segment's newest filter, without what has changed since. */
export type BigFilter = Omit<BigMembers, "added" | "removed">;

export const segments = sqliteTable(
  "segments",
  {
    environmentId: text("environment_id").notNull(),
    key: text().notNull(),
    name: text().notNull(),
    description: text().notNull().default(""),
    included: json<string[]>("included").notNull(),
    excluded: json<string[]>("excluded").notNull(),
    rules: json<SegmentRule[]>("rules").notNull(),
    /** Null where the segment has no members but `included`. Not part of what `version` counts. */
    big: json<BigFilter>("big"),
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.environmentId, table.key] }),
    index("segments_by_name").on(table.environmentId, table.name, table.key),
    index("segments_by_creation").on(table.environmentId, table.createdAt, table.key),
    index("segments_by_update").on(table.environmentId, table.updatedAt, table.key),
  ],
);

/** Who came to and left a big segment since its filter was built; part of the filter from `generation` on. */
export const segmentChanges = sqliteTable(
  "segment_changes",
  {
    environmentId: text("environment_id").notNull(),
    segmentKey: text("segment_key").notNull(),
    member: text().notNull(),
    present: integer({ mode: "boolean" }).notNull(),
    generation: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.environmentId, table.segmentKey, table.member] })],
);

export type DocumentKind = "flag" | "segment";

/** How much JSON each published document is, so that a write learns what its environment weighs without reading it. */
export const documentSizes = sqliteTable(
  "document_sizes",
  {
    environmentId: text("environment_id").notNull(),
    kind: text().$type<DocumentKind>().notNull(),
    key: text().notNull(),
    bytes: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.environmentId, table.kind, table.key] })],
);

/** Which document refers to which, so that both directions cost an index and not a scan. */
export const dependencies = sqliteTable(
  "dependencies",
  {
    environmentId: text("environment_id").notNull(),
    sourceKind: text("source_kind").$type<DocumentKind>().notNull(),
    sourceKey: text("source_key").notNull(),
    targetKind: text("target_kind").$type<DocumentKind>().notNull(),
    targetKey: text("target_key").notNull(),
  },
  (table) => [
    primaryKey({
      columns: [table.environmentId, table.sourceKind, table.sourceKey, table.targetKind, table.targetKey],
    }),
    index("dependencies_by_target").on(table.environmentId, table.targetKind, table.targetKey),
  ],
);

/** A mirror of the hub's kills, for reading: the hub alone decides. `seq` orders them. */
export const kills = sqliteTable(
  "kills",
  {
    environmentId: text("environment_id").notNull(),
    flagKey: text("flag_key").notNull(),
    seq: integer().notNull(),
    killed: integer({ mode: "boolean" }).notNull(),
    by: text().notNull(),
    at: time("at").notNull(),
    reason: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.environmentId, table.flagKey] })],
);

/** The outbox. Its key is the lock: two writes validated against the same version cannot both land. */
export const changes = sqliteTable(
  "changes",
  {
    environmentId: text("environment_id").notNull(),
    version: integer().notNull(),
    id: text().notNull(),
    previousId: text("previous_id").notNull(),
    documents: text().notNull(),
    createdAt: time("created_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.environmentId, table.version] }),
    index("changes_by_age").on(table.createdAt),
  ],
);

export type KeyKind = "server" | "client";

export const sdkKeys = sqliteTable(
  "sdk_keys",
  {
    id: text().primaryKey(),
    environmentId: text("environment_id").notNull(),
    kind: text().$type<KeyKind>().notNull(),
    name: text().notNull(),
    hash: text().notNull().unique(),
    /** A client key is public by nature and shown again; of a server key only its last characters. */
    shown: text().notNull(),
    origins: json<string[]>("origins").notNull(),
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
    expiresAt: time("expires_at"),
    revokedAt: time("revoked_at"),
  },
  (table) => [
    index("sdk_keys_by_creation").on(table.environmentId, table.createdAt, table.id),
    index("sdk_keys_by_update").on(table.environmentId, table.updatedAt, table.id),
    index("sdk_keys_by_name").on(table.environmentId, table.name, table.id),
    index("sdk_keys_by_kind").on(table.environmentId, table.kind, table.createdAt, table.id),
  ],
);

/** Each may do all that the ones before it may. */
export const ROLES = ["viewer", "editor", "approver", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Empty lists mean everything; names are keys, and an environment's is `project/environment`. */
export type Scope = { projects: string[]; environments: string[] };

export const apiTokens = sqliteTable(
  "api_tokens",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    hash: text().notNull().unique(),
    shown: text().notNull(),
    role: text().$type<Role>().notNull(),
    scope: json<Scope>("scope").notNull(),
    /** Names that policies know approvers by. */
    groups: json<string[]>("groups").notNull().default([]),
    /** Never null: a write that was validated against an older version tries to make it so. */
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
    expiresAt: time("expires_at"),
    revokedAt: time("revoked_at"),
  },
  (table) => [
    index("api_tokens_by_creation").on(table.createdAt, table.id),
    index("api_tokens_by_update").on(table.updatedAt, table.id),
    index("api_tokens_by_name").on(table.name, table.id),
    index("api_tokens_by_role").on(table.role, table.createdAt, table.id),
  ],
);

/** What a CI run found in a repository, as a whole; `hash` tells whether it is the same again. */
export const codeRepositories = sqliteTable(
  "code_repositories",
  {
    projectId: text("project_id").notNull(),
    repository: text().notNull(),
    commit: text().notNull(),
    branch: text().notNull(),
    hash: text().notNull(),
    references: integer().notNull(),
    uploadedAt: time("uploaded_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.projectId, table.repository] })],
);

export const codeReferences = sqliteTable(
  "code_references",
  {
    id: integer().primaryKey(),
    projectId: text("project_id").notNull(),
    repository: text().notNull(),
    flagKey: text("flag_key").notNull(),
    path: text().notNull(),
    line: integer().notNull(),
    snippet: text(),
  },
  (table) => [
    // Which SQLite ends with the id: the order of the list.
    index("code_references_by_project").on(table.projectId),
    index("code_references_by_flag").on(table.projectId, table.flagKey),
    index("code_references_by_repository").on(table.projectId, table.repository),
  ],
);

/** The first answer to each Idempotency-Key, replayed for 24 hours. */
export const idempotency = sqliteTable(
  "idempotency",
  {
    tokenId: text("token_id").notNull(),
    key: text().notNull(),
    requestHash: text("request_hash").notNull(),
    status: integer().notNull(),
    headers: json<Record<string, string>>("headers").notNull(),
    body: text().notNull(),
    createdAt: time("created_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.tokenId, table.key] }), index("idempotency_by_age").on(table.createdAt)],
);
