/** API tokens and the names a kill needs, in D1 and mirrored in KV when written: a kill must not depend on D1. */

import { and, eq, gt } from "drizzle-orm";
import { Circuit, D1_BREAKING, D1_FIRST_MS, D1_MS, KV_READ_MS, within } from "../platform/deadline.ts";
import { randomText } from "../platform/random-id.ts";
import { sha256 } from "../platform/sha256.ts";
import type { Database } from "./database.ts";
import * as table from "./schema/index.ts";

export type ApiToken = Omit<typeof table.apiTokens.$inferSelect, "hash">;

export type EnvironmentName = {
  id: string;
  projectId: string;
  project: string;
  environment: string;
  location: string | null;
};

/** A new secret and what is kept of it. The secret itself is shown once and stored nowhere. */
export async function newSecret(prefix: string): Promise<{ secret: string; hash: string; shown: string }> {
  const secret = `${prefix}_${randomText(40)}`;
  return { secret, hash: await sha256(secret), shown: `${prefix}_…${secret.slice(-4)}` };
}

/** D1 first, KV where D1 does not answer in time, and D1 again where KV does not. Null: no such token. Throws when neither can be read. */
export function findToken(db: Database, kv: KVNamespace, hash: string): Promise<ApiToken | null> {
  return fromEither(kv, `token:${hash}`, async () => {
    const row = await db.query.apiTokens.findFirst({ where: eq(table.apiTokens.hash, hash) });
    return row === undefined ? null : withoutHash(row);
  });
}

/** Before D1 when a token is revoked and after it when one is made: the mirror never allows more than D1. */
export async function mirrorToken(kv: KVNamespace, row: typeof table.apiTokens.$inferSelect): Promise<void> {
  await kv.put(`token:${row.hash}`, JSON.stringify(withoutHash(row)));
}

export function findEnvironment(
  db: Database,
  kv: KVNamespace,
  project: string,
  environment: string,
): Promise<EnvironmentName | null> {
  return fromEither(kv, `environment:${project}/${environment}`, async () => {
    const [row] = await selectEnvironmentNames(db).where(
      and(eq(table.projects.key, project), eq(table.environments.key, environment)),
    );
    return row ?? null;
  });
}

const selectEnvironmentNames = (db: Database) =>
  db
    .select({
      id: table.environments.id,
      projectId: table.projects.id,
      project: table.projects.key,
      environment: table.environments.key,
      location: table.environments.location,
    })
    .from(table.environments)
    .innerJoin(table.projects, eq(table.projects.id, table.environments.projectId));

export async function mirrorEnvironment(kv: KVNamespace, name: EnvironmentName): Promise<void> {
  await kv.put(`environment:${name.project}/${name.environment}`, JSON.stringify(name));
}

export const forgetEnvironment = (kv: KVNamespace, { project, environment }: EnvironmentName): Promise<void> =>
  kv.delete(`environment:${project}/${environment}`);

/**
 * Mirrors once more what was made or revoked since then: KV may have failed just when it was written, and a kill during an
 * outage of D1 must not find that out.
 */
export async function mirrorRecent(db: Database, kv: KVNamespace, since: number, limit = 100): Promise<void> {
  const { apiTokens, environments } = table;
  const tokens = await db.select().from(apiTokens).where(gt(apiTokens.updatedAt, since)).limit(limit);
  const names = await selectEnvironmentNames(db).where(gt(environments.createdAt, since)).limit(limit);
  await Promise.all([
    ...tokens.map((row) => mirrorToken(kv, row)),
    ...names.map((name) => mirrorEnvironment(kv, name)),
  ]);
}

function withoutHash({ hash: _, ...token }: typeof table.apiTokens.$inferSelect): ApiToken {
  return token;
}

/** Of this isolate: a D1 that keeps failing is not waited for before KV is asked. */
const d1 = new Circuit("D1", D1_BREAKING);

/**
 * Queries that are under way, of all requests of this isolate: a storm of requests with one token is one query every few
 * milliseconds. Not longer: whoever has been answered that a token is revoked, or an environment made, must find it so.
 */
const underWay = new Map<string, { query: Promise<unknown>; begunAt: number }>();
const SHARED_MS = 5;

async function fromEither<T>(kv: KVNamespace, key: string, fromD1: () => Promise<T | null>): Promise<T | null> {
  let query: Promise<T | null> | null = null;
  const ask = () => {
    query ??= fromD1();
    return query;
  };
  const first = async () => {
    const one = { query: ask(), begunAt: Date.now() };
    underWay.set(key, one);
    try {
      return await within(one.query, D1_FIRST_MS, "D1");
    } finally {
      if (underWay.get(key) === one) underWay.delete(key);
    }
  };
  const shared = underWay.get(key);
  try {
    // The query of another request never settles if that request ends first, which says nothing about D1.
    if (shared !== undefined && Date.now() - shared.begunAt <= SHARED_MS)
      return await within(shared.query as Promise<T | null>, D1_FIRST_MS, "D1");
    return await d1.through(first);
  } catch {
    const mirrored = await within(kv.get<T>(key, "json"), KV_READ_MS, "KV").catch(() => undefined);
    if (mirrored) return mirrored;
    // A D1 that is only slow may still know it, and one that is not asked for a while may be well again.
    const late = within(ask(), D1_MS, "D1");
    // Not in KV, and nobody else to ask: in neither, which is refused. Where both fail nothing is known.
    return mirrored === null ? late.catch(() => null) : late;
  }
}
