/** The first answer to each Idempotency-Key. Committed with the write (workers/store/outbox/commit.ts), completed once the hub has answered; for how long, workers/sweep.ts says. */
import { and, eq, lt } from "drizzle-orm";
import type { Database } from "./database.ts";
import type { IdempotencyRecord } from "./outbox/change.ts";
import * as table from "./schema/index.ts";

const at = (tokenId: string, key: string) =>
  and(eq(table.idempotency.tokenId, tokenId), eq(table.idempotency.key, key));

export const findAnswer = (db: Database, tokenId: string, key: string): Promise<IdempotencyRecord | undefined> =>
  db.query.idempotency.findFirst({ where: at(tokenId, key) });

/** For writes that are committed elsewhere and change nothing when made twice: only their answer is to be kept. */
export async function keepAnswer(db: Database, record: IdempotencyRecord): Promise<void> {
  await db.insert(table.idempotency).values(record).onConflictDoNothing();
}

export async function completeAnswer(db: Database, tokenId: string, key: string, body: string): Promise<void> {
  await db.update(table.idempotency).set({ body }).where(at(tokenId, key));
}

export async function trimIdempotency(db: Database, before: number): Promise<void> {
  await db.delete(table.idempotency).where(lt(table.idempotency.createdAt, before));
}
