/**
 * What an environment's documents weigh together, counted with each write: so a write costs the size of its change. Exact,
 * since the outbox lets one write at a time onto a version.
 */
import type { Flag, Segment } from "@bunting/core";
import { jsonBytes } from "@bunting/core/validate";
import { and, desc, eq, isNull, not, type SQL, sql } from "drizzle-orm";
import type { Database, Statement } from "../database.ts";
import * as table from "../schema/index.ts";

/** Null: no longer there. */
export type DocumentSize = { kind: table.DocumentKind; key: string; bytes: number | null };
type Sized = DocumentSize & { bytes: number };

/** One environment as a write would have left it, its largest documents first. */
export type TooLarge = { environmentId: string; bytes: number; largest: Sized[] };

/** A write would have made these environments heavier than they may be. Nothing was written. */
export class RulesetTooLarge extends Error {
  override name = "RulesetTooLarge";
  readonly environments: TooLarge[];

  constructor(environments: TooLarge[]) {
    super("An environment would hold more than it may");
    this.environments = environments;
  }
}

const LARGEST = 10;

/** UTF-8 bytes of its JSON; its version and switches as if they were 0 and false, so that to switch weighs nothing. */
export const documentBytes = (document: Flag | Segment): number =>
  jsonBytes({ ...document, version: 0, ...("on" in document && { on: false, killed: false }) });

type Sizable = { flags: Record<string, Flag | null>; segments: Record<string, Segment | null> };

export function documentSizes({ flags, segments }: Sizable): DocumentSize[] {
  const sizesOf = (kind: table.DocumentKind, documents: Record<string, Flag | Segment | null>) =>
    Object.entries(documents).map(([key, document]) => ({ kind, key, bytes: document && documentBytes(document) }));
  return [...sizesOf("flag", flags), ...sizesOf("segment", segments)];
}

const isOneOf = (environmentId: string, sizes: DocumentSize[]) =>
  and(
    eq(table.documentSizes.environmentId, environmentId),
    sql`(${table.documentSizes.kind}, ${table.documentSizes.key})
      IN (SELECT value ->> 'kind', value ->> 'key' FROM json_each(${JSON.stringify(sizes)}))`,
  );

/**
 * The environment's new sum, to be written with its head and before `sizeStatements`: null, which the column refuses with
 * the whole transaction, where it grows beyond `max`.
 */
export function newSum(environmentId: string, sizes: DocumentSize[], max: number): SQL {
  const comes = sizes.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
  const before = table.environments.rulesetBytes;
  return sql`(SELECT CASE WHEN ${comes} > goes AND ${before} + ${comes} - goes > ${max} THEN NULL
    ELSE ${before} + ${comes} - goes END
    FROM (SELECT coalesce(sum(bytes), 0) AS goes FROM document_sizes WHERE ${isOneOf(environmentId, sizes)}))`;
}

export const isTooLarge = (message: string): boolean =>
  message.includes("NOT NULL constraint failed: environments.ruleset_bytes");

export function sizeStatements(db: Database, environmentId: string, sizes: DocumentSize[]): Statement[] {
  const gone = sizes.filter(({ bytes }) => bytes === null);
  const there = sizes.filter(({ bytes }) => bytes !== null);
  const statements: Statement[] = [];
  if (gone.length > 0) statements.push(db.delete(table.documentSizes).where(isOneOf(environmentId, gone)));
  if (there.length > 0) {
    statements.push(
      db
        .insert(table.documentSizes)
        .select(
          sql`SELECT ${environmentId}, value ->> 'kind', value ->> 'key', value ->> 'bytes'
            FROM json_each(${JSON.stringify(there)}) WHERE true`,
        )
        .onConflictDoUpdate({
          target: [table.documentSizes.environmentId, table.documentSizes.kind, table.documentSizes.key],
          set: { bytes: sql`excluded.bytes` },
        }),
    );
  }
  return statements;
}

/** What a write would come to that is refused, or was. Null where it would not be. */
export async function wouldBe(
  db: Database,
  environmentId: string,
  sizes: DocumentSize[],
  max: number,
): Promise<TooLarge | null> {
  if (sizes.length === 0) return null;
  const after = newSum(environmentId, sizes, Number.MAX_SAFE_INTEGER).mapWith(Number);
  const [sum] = await db
    .select({ before: table.environments.rulesetBytes, after })
    .from(table.environments)
    .where(eq(table.environments.id, environmentId));
  if (sum === undefined || sum.after <= max || sum.after <= sum.before) return null;
  // Over all of them, but only where it is refused: an index would be written with each edit.
  const largest = await db
    .select({ kind: table.documentSizes.kind, key: table.documentSizes.key, bytes: table.documentSizes.bytes })
    .from(table.documentSizes)
    .where(and(eq(table.documentSizes.environmentId, environmentId), not(isOneOf(environmentId, sizes) as SQL)))
    .orderBy(desc(table.documentSizes.bytes))
    .limit(LARGEST);
  return { environmentId, bytes: sum.after, largest: first([...largest, ...sizes.filter(isThere)]) };
}

/** What a new environment would hold: every flag of its project in its defaults. */
export async function wouldBeNew(db: Database, projectId: string): Promise<{ bytes: number; largest: Sized[] }> {
  const here = and(eq(table.flags.projectId, projectId), isNull(table.flags.archivedAt));
  const [sums, rows] = await db.batch([
    db
      .select({ bytes: sql<number>`coalesce(sum(${table.flags.bytes}), 0)` })
      .from(table.flags)
      .where(here),
    db
      .select({ key: table.flags.key, bytes: table.flags.bytes })
      .from(table.flags)
      .where(here)
      .orderBy(desc(table.flags.bytes))
      .limit(LARGEST),
  ]);
  return { bytes: sums[0]?.bytes ?? 0, largest: rows.map((row) => ({ kind: "flag" as const, ...row })) };
}

const isThere = (size: DocumentSize): size is Sized => size.bytes !== null;

const first = (sizes: Sized[]) => sizes.sort((one, other) => other.bytes - one.bytes).slice(0, LARGEST);
