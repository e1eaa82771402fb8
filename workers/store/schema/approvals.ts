/** D1's tables of approvals: what needs one, who asks for one, who gave it. */
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { DocumentKind, Role } from "./tables.ts";

const time = (name: string) => integer(name);
const json = <T>(name: string) => text(name, { mode: "json" }).$type<T>();

/** Whoever has at least a role, whoever is in a group, or these tokens by their ids. */
export type Approvers = { role: Role } | { group: string } | { members: string[] };

export const policies = sqliteTable(
  "policies",
  {
    id: text().primaryKey(),
    projectId: text("project_id").notNull(),
    key: text().notNull(),
    name: text().notNull(),
    description: text().notNull().default(""),
    enabled: integer({ mode: "boolean" }).notNull(),
    /** Keys; an empty list means all of them, and so with tags: a flag needs one of them. */
    environments: json<string[]>("environments").notNull(),
    tags: json<string[]>("tags").notNull(),
    /** The least share of users affected, in thousandths of a percent; 0 for any change at all. */
    share: integer().notNull(),
    approvers: json<Approvers>("approvers").notNull(),
    approvals: integer().notNull(),
    /** From this role on a change may be made without them. Null: by nobody. */
    bypass: text().$type<Role>(),
    version: integer().notNull(),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
  },
  (table) => [uniqueIndex("policies_by_key").on(table.projectId, table.key)],
);

/** The lock of a project's policies: whoever was validated against older ones violates this key. */
export const policyEdits = sqliteTable(
  "policy_edits",
  { projectId: text("project_id").notNull(), version: integer().notNull(), createdAt: time("created_at").notNull() },
  (table) => [
    primaryKey({ columns: [table.projectId, table.version] }),
    index("policy_edits_by_age").on(table.createdAt),
  ],
);

/** Approved is not among them: that depends on the policies of the moment. */
export type ChangeRequestStatus = "draft" | "open" | "failed" | "published" | "withdrawn";

export type Failure = { at: number; code: string; detail: string };

/** An operation of the API as it would be requested itself: the parameters of its path but the project, its query and body. */
export type RequestedChange = {
  operation: string;
  path: Record<string, unknown> | undefined;
  query?: unknown;
  body?: unknown;
};

/** Whom it would affect, for lists: by environment in thousandths of a percent; tags of the flags, and those taken away. */
export type AffectedByChange = { shares: Record<string, number>; tags: string[]; untagged: string[] };

/**
 * A document as it was when the change was asked for; `environment` is empty for what all of them have in common of a flag.
 * Without `document` only its version counts: it would go, or was only read.
 */
export type Base = {
  environment: string;
  kind: DocumentKind;
  key: string;
  version: number | null;
  document?: Record<string, unknown> | null;
};

export const changeRequests = sqliteTable(
  "change_requests",
  {
    /** The order in which they were made. */
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    projectId: text("project_id").notNull(),
    /** Null: it changes what all environments have in common. */
    environmentId: text("environment_id"),
    operation: text().notNull(),
    path: json<NonNullable<RequestedChange["path"]>>("path").notNull(),
    title: text().notNull(),
    description: text().notNull(),
    status: text().$type<ChangeRequestStatus>().notNull(),
    authorId: text("author_id").notNull(),
    author: text().notNull(),
    /** What is requested: its row in `change_request_revisions`. An approval is of one revision. */
    revision: integer().notNull(),
    /** The last of its events: whoever adds another on top of an older one violates their key. */
    version: integer().notNull(),
    /** As of its revision. Reading or publishing it asks again. */
    affected: json<AffectedByChange>("affected").notNull(),
    publishAt: time("publish_at"),
    /** How often it could not be published at its time, and nobody could say why. */
    attempts: integer().notNull(),
    failure: json<Failure>("failure"),
    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
    publishedAt: time("published_at"),
  },
  (table) => [
    index("change_requests_by_project").on(table.projectId, table.seq),
    index("change_requests_by_status").on(table.projectId, table.status, table.seq),
    index("change_requests_by_author").on(table.projectId, table.authorId, table.seq),
    index("change_requests_by_environment").on(table.environmentId),
    index("change_requests_due").on(table.publishAt, table.id).where(sql`status = 'open'`),
  ],
);

/** What was asked for, and what it was asked of. */
export const changeRequestRevisions = sqliteTable(
  "change_request_revisions",
  {
    changeRequestId: text("change_request_id").notNull(),
    revision: integer().notNull(),
    change: json<RequestedChange>("change").notNull(),
    base: json<Base[]>("base").notNull(),
    createdAt: time("created_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.changeRequestId, table.revision] })],
);

/** The flags and segments that its last revision would change: what it is found by. */
export const changeRequestSubjects = sqliteTable(
  "change_request_subjects",
  {
    changeRequestId: text("change_request_id").notNull(),
    projectId: text("project_id").notNull(),
    kind: text().$type<DocumentKind>().notNull(),
    key: text().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.changeRequestId, table.kind, table.key] }),
    index("change_request_subjects_by_key").on(table.projectId, table.kind, table.key),
  ],
);

export type ChangeRequestEventKind =
  | "open"
  | "submit"
  | "edit"
  | "rebase"
  | "comment"
  | "approve"
  | "request-changes"
  | "withdraw"
  | "publish"
  | "fail";

/** All that happened to a change request, in order. Its key is the lock. */
export const changeRequestEvents = sqliteTable(
  "change_request_events",
  {
    changeRequestId: text("change_request_id").notNull(),
    version: integer().notNull(),
    kind: text().$type<ChangeRequestEventKind>().notNull(),
    revision: integer().notNull(),
    actorId: text("actor_id").notNull(),
    actor: text().notNull(),
    comment: text(),
    at: time("at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.changeRequestId, table.version] })],
);

/** Kills of flags under a policy, which were not held up: somebody looks at each afterwards. */
export const killReviews = sqliteTable(
  "kill_reviews",
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    projectId: text("project_id").notNull(),
    environmentId: text("environment_id").notNull(),
    flagKey: text("flag_key").notNull(),
    /** The hub's number of the kill. */
    kill: integer().notNull(),
    killedById: text("killed_by_id").notNull(),
    killedBy: text("killed_by").notNull(),
    killedAt: time("killed_at").notNull(),
    reason: text().notNull(),
    /** Keys of the policies that were met. */
    policies: json<string[]>("policies").notNull(),
    /** Never null: closing what somebody else has closed since tries to make it so. */
    version: integer().notNull(),
    closedById: text("closed_by_id"),
    closedBy: text("closed_by"),
    closedAt: time("closed_at"),
    comment: text(),
  },
  (table) => [
    uniqueIndex("kill_reviews_by_kill").on(table.environmentId, table.kill),
    index("kill_reviews_by_project").on(table.projectId, table.seq),
    index("kill_reviews_open").on(table.projectId, table.seq).where(sql`closed_at IS NULL`),
  ],
);

/** What somebody has moved without anybody's approval, for policies by share: the steps of a day count as one change. */
export const movedShares = sqliteTable(
  "moved_shares",
  {
    id: integer().primaryKey({ autoIncrement: true }),
    environmentId: text("environment_id").notNull(),
    kind: text().$type<DocumentKind>().notNull(),
    key: text().notNull(),
    tokenId: text("token_id").notNull(),
    movedAt: time("moved_at").notNull(),
    /** Thousandths of a percent. */
    share: integer().notNull(),
    /** Users that are listed one by one. */
    listed: integer().notNull(),
  },
  (table) => [
    index("moved_shares_by_document").on(table.environmentId, table.kind, table.key, table.tokenId, table.movedAt),
    index("moved_shares_by_time").on(table.movedAt),
  ],
);
