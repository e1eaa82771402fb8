/** Reading the audit log. Entries are written with what they tell of (workers/store/outbox/commit.ts, kills.ts), and never again. */
import { and, asc, desc, eq, getTableColumns, gte, lt, type SQL, sql } from "drizzle-orm";
import { answered, type Database } from "./database.ts";
import type { UndoOf } from "./outbox/change.ts";
import * as table from "./schema/index.ts";

export type AuditRow = typeof table.audit.$inferSelect;

export type AuditFilter = {
  project?: string | undefined;
  environment?: string | undefined;
  type?: string | undefined;
  /** What was changed: also one of many documents that were changed at once. */
  key?: string | undefined;
  action?: string | undefined;
  actor?: string | undefined;
  token?: string | undefined;
  correlationId?: string | undefined;
  /** Found in the reason, whatever the case of ASCII letters. */
  reason?: string | undefined;
  /** Epoch milliseconds: at or after `from`, before `to`. */
  from?: number | undefined;
  to?: number | undefined;
};

/** Beyond an entry in the order of the list. */
export type AuditPosition = { timestamp: number; id: number };

export type AuditPageOf = { limit: number; after: AuditPosition | undefined; order: "newest" | "oldest" };

/** An entry has up to 2 MB: so much of them is read at once, and at least one. Bytes. */
const PAGE_BYTES = 4_000_000;

/** Entries that are looked at for one page where an index answers only a part of what is asked. */
const WALKED_AT_ONCE = 5_000;

/** Beyond every entry of a moment. */
const LAST_ID = 999_999_999_999_999;

/**
 * `next`: where to go on, null at the end. A page can have fewer than asked for, and none, with more to come: it is bounded by what
 * it looks at, so that a question to which hardly an entry fits costs as little as any other. Empty lists of `scope` mean everything.
 */
export async function listAudit(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  page: AuditPageOf,
): Promise<{ rows: AuditRow[]; next: AuditPosition | null }> {
  const { picked, end } = auditQuery(db, scope, filter, page);
  const both = end === undefined ? Promise.all([picked, [] as { timestamp: number }[]]) : db.batch([picked, end]);
  const [found, [walked]] = await answered(both);
  const rows = found.slice(0, page.limit).map(({ through: _, ...row }) => row);
  const last = rows.at(-1);
  if (last !== undefined && (found.length > page.limit || (found.at(-1)?.through ?? 0) >= PAGE_BYTES)) {
    return { rows, next: { timestamp: last.timestamp, id: last.id } };
  }
  return { rows, next: walked ? { timestamp: walked.timestamp, id: page.order === "newest" ? 0 : LAST_ID } : null };
}

/** `picked` is one more than asked for, which tells whether there are others; `end` is how far it looks; left out: as far as it takes. */
export function auditQuery(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  { limit, after, order }: AuditPageOf,
) {
  const { audit } = table;
  const direction = order === "newest" ? desc : asc;
  const [way, beyond, atMost] = (order === "newest" ? ["DESC", "<", ">="] : ["ASC", ">", "<="]).map((text) =>
    sql.raw(text),
  );
  const { along, beside, isBounded } = walk(scope, filter);
  const inOrder = [direction(audit.timestamp), direction(audit.id)];
  const there = and(
    after && sql`(${audit.timestamp}, ${audit.id}) ${beyond} (${after.timestamp}, ${after.id})`,
    filter.from === undefined ? undefined : gte(audit.timestamp, filter.from),
    filter.to === undefined ? undefined : lt(audit.timestamp, filter.to),
    ...along,
  );
  const end = isBounded
    ? db
        .select({ timestamp: audit.timestamp })
        .from(audit)
        .where(there)
        .orderBy(...inOrder)
        .limit(1)
        .offset(WALKED_AT_ONCE)
    : undefined;
  const picked = db
    .select({ id: audit.id, timestamp: audit.timestamp, size: sql<number>`octet_length(${audit.changes})`.as("size") })
    .from(audit)
    .where(
      and(
        there,
        end && sql`${audit.timestamp} ${atMost} coalesce((${end}), ${order === "newest" ? 0 : LAST_ID})`,
        ...beside,
      ),
    )
    .orderBy(...inOrder)
    .limit(limit + 1)
    .as("picked");
  const weighed = db
    .select({
      id: picked.id,
      size: picked.size,
      through: sql<number>`sum(size) OVER (ORDER BY timestamp ${way}, id ${way})`.as("through"),
    })
    .from(picked)
    .as("weighed");
  return {
    end,
    picked: db
      .select({ ...getTableColumns(audit), through: weighed.through })
      .from(weighed)
      // Crossed, which SQLite does from left to right: it cannot know that few are picked, and else reads the whole log beside them.
      .crossJoin(audit)
      .where(and(eq(audit.id, weighed.id), sql`${weighed.through} - ${weighed.size} < ${PAGE_BYTES}`))
      .orderBy(...inOrder),
  };
}

/** Those with few entries for a value come first. */
const BY_INDEX = [
  ["correlationId", table.audit.correlationId],
  ["token", table.audit.tokenId],
  ["actor", table.audit.actor],
  ["action", table.audit.action],
  ["project", table.audit.project],
  ["environment", table.audit.environment],
  ["type", table.audit.resourceType],
] as const;

/**
 * `along`: what one index answers, in the order of the list. `beside`: what is looked at entry by entry, with a plus where SQLite
 * would else think of another index.
 */
function walk(scope: table.Scope, requested: AuditFilter): { along: SQL[]; beside: SQL[]; isBounded: boolean } {
  const { audit } = table;
  const filter = { ...onlyPlace(scope), ...given(requested) };
  const among = (list: string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(list)}))`;
  const equal = BY_INDEX.flatMap(([name, column]) => {
    const value = filter[name];
    return value === undefined ? [] : [{ name, column, value }];
  });
  const beside = [
    ...(scope.projects.length === 0 ? [] : [sql`+${audit.project} IN ${among(scope.projects)}`]),
    ...(scope.environments.length === 0
      ? []
      : [sql`${audit.project} || '/' || ${audit.environment} IN ${among(scope.environments)}`]),
    ...(filter.reason === undefined ? [] : [sql`instr(lower(${audit.reason}), lower(${filter.reason}))`]),
  ];
  const checked = (all: typeof equal) => [...all.map(({ column, value }) => sql`+${column} = ${value}`), ...beside];
  if (filter.key !== undefined) {
    const ids = sql`${audit.id} IN (SELECT id FROM audit WHERE key = ${filter.key}
      UNION SELECT audit_id FROM audit_undo WHERE key = ${filter.key})`;
    return { along: [ids], beside: checked(equal), isBounded: false };
  }
  const [first, second] = equal;
  if (first === undefined) {
    const along = filter.reason === undefined ? [] : [sql`${audit.reason} IS NOT NULL`];
    return { along, beside, isBounded: beside.length > 0 };
  }
  // The one pair that is asked for all day.
  const walked = first.name === "project" && second?.name === "environment" ? [first, second] : [first];
  const others = checked(equal.slice(walked.length));
  return { along: walked.map(({ column, value }) => eq(column, value)), beside: others, isBounded: others.length > 0 };
}

/** Who may see one project, or one environment, finds it by its index. */
function onlyPlace({ projects, environments }: table.Scope): Pick<AuditFilter, "project" | "environment"> {
  const [project, environment] = environments.length === 1 ? environments[0]!.split("/") : [];
  if (environment !== undefined) return { project, environment };
  return projects.length === 1 ? { project: projects[0] } : {};
}

const given = (filter: AuditFilter): AuditFilter =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));

const EXPORTED_AT_ONCE = 200;

/** Oldest first, a page at a time; one with nothing in it where nothing was found so far. */
export async function* auditPages(
  db: Database,
  scope: table.Scope,
  filter: AuditFilter,
  from: AuditPosition | undefined,
): AsyncGenerator<AuditRow[], undefined> {
  for (let after = from; ; ) {
    const { rows, next } = await listAudit(db, scope, filter, { limit: EXPORTED_AT_ONCE, after, order: "oldest" });
    yield rows;
    if (next === null) return;
    after = next;
  }
}

export const findAudit = (db: Database, id: number): Promise<AuditRow | undefined> =>
  db.query.audit.findFirst({ where: eq(table.audit.id, id) });

export async function isRevertible(db: Database, id: number): Promise<boolean> {
  return (
    (await db.query.auditUndo.findFirst({ columns: { key: true }, where: eq(table.auditUndo.auditId, id) })) !==
    undefined
  );
}

/** What an entry took away, by document: none for what cannot be put back. */
export async function undoOfEntry(db: Database, id: number): Promise<UndoOf[]> {
  const rows = await db.select().from(table.auditUndo).where(eq(table.auditUndo.auditId, id));
  return rows.map(({ auditId: _, ...undo }) => undo);
}
