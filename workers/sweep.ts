/** Each minute: repair what a lost nudge left behind, and drop what is past its time. */

import type { Env } from "./env.ts";
import { replayDeadLetters } from "./events/dead-letters.ts";
import { SWEEP_MS, within } from "./platform/deadline.ts";
import { trimMovedShares } from "./store/approvals/moved-shares.ts";
import { trimPolicyEdits } from "./store/approvals/policies.ts";
import { mirrorRecent } from "./store/credentials.ts";
import { openDatabase } from "./store/database.ts";
import { trimIdempotency } from "./store/idempotency.ts";
import { laggingEnvironments, trimOutbox, trimProjectEdits } from "./store/outbox/outbox.ts";

/** Longer than any request that may still hold what it read: a lock that is gone could be taken twice. */
const LOCKS_KEPT_MS = 24 * 60 * 60_000;
/** Twice as long as it counts. */
const MOVED_KEPT_MS = 48 * 60 * 60_000;
const IDEMPOTENCY_KEPT_MS = 24 * 60 * 60_000;
const MIRROR_AGAIN_MS = 15 * 60_000;
/** A sweep has subrequests for so many; the rest are still lagging a minute later. */
const ENVIRONMENTS_AT_ONCE = 200;

export async function sweep(env: Env, now: number): Promise<void> {
  const db = openDatabase(env.DB);
  const lagging = await laggingEnvironments(db, ENVIRONMENTS_AT_ONCE);
  const results = await Promise.allSettled([
    ...lagging.map((id) => within(env.HUB.get(env.HUB.idFromName(id)).catchUp(), SWEEP_MS, "hub")),
    within(mirrorRecent(db, env.KV, now - MIRROR_AGAIN_MS), SWEEP_MS, "D1 or KV"),
    trimOutbox(db, now - LOCKS_KEPT_MS),
    trimProjectEdits(db, now - LOCKS_KEPT_MS),
    trimPolicyEdits(db, now - LOCKS_KEPT_MS),
    trimMovedShares(db, now - MOVED_KEPT_MS),
    trimIdempotency(db, now - IDEMPOTENCY_KEPT_MS),
    replayDeadLetters(env),
  ]);
  const failures = results.filter((result) => result.status === "rejected").map(({ reason }) => String(reason));
  console.log(
    JSON.stringify({ level: failures.length === 0 ? "info" : "warn", sweep: { lagging: lagging.length, failures } }),
  );
}
