/** How every write is made: read, validate, commit in one transaction, again if somebody was first; then publish. */

import type { Env } from "../../env.ts";
import { D1_MS, within } from "../../platform/deadline.ts";
import { ApiError, badRequest } from "../../platform/problem.ts";
import type { Database } from "../../store/database.ts";
import { findAnswer } from "../../store/idempotency.ts";
import { AlreadyAnswered, commit, retryingLostRaces } from "../../store/outbox/commit.ts";
import { documentSizes, RulesetTooLarge, type TooLarge, wouldBe } from "../../store/outbox/ruleset-size.ts";
import type { Role } from "../../store/schema/index.ts";
import type { AdminContext, Idempotency } from "../http/context.ts";
import { MAX_RULESET_BYTES } from "../limits.ts";
import { approvalOf, proposedBy, requireApproval } from "./approval.ts";
import { type Delivery, publish } from "./hub-client.ts";
import type { Audited, Edit, Origin, Plan } from "./plan.ts";
import { dryRunOf } from "./preview.ts";
import { wakeAt } from "./timer-client.ts";
import { inTurn, type WritePlace } from "./write-line-client.ts";

/** `deliveries` by environment: none where there was nothing to write. */
export type Written<Body> = { body: Body; etag?: string | undefined; deliveries: Record<string, Delivery> };

/** Whoever writes: a request, or what was planned for a time. */
export type Author = {
  env: Env;
  db: Database;
  now: () => number;
  origin: Origin;
  /** Left out where nobody sends it any more: a policy's exemption of a role does not hold for what was planned. */
  role?: Role;
  idempotency?: Idempotency | undefined;
  /** What it writes to, in whose lines it stands. Null: nothing that other writes wait for. */
  place: WritePlace | null;
  /** All but the commit, and what follows it. */
  dryRun?: boolean;
};

const authorOf = (c: AdminContext, place: WritePlace | null): Author => ({
  env: c.env,
  db: c.var.db,
  now: c.var.now,
  origin: origin(c),
  role: c.var.caller.role,
  idempotency: c.var.idempotency,
  place,
  dryRun: c.var.dryRun,
});

/** As the request's path has it. */
function placeOf(c: AdminContext): WritePlace | null {
  const { project, environment = null } = c.req.param() as { project?: string; environment?: string };
  return project === undefined ? null : { project, environment };
}

export async function write<Body>(
  c: AdminContext,
  plan: (now: number) => Promise<Plan<Body>>,
  place: WritePlace | null = placeOf(c),
): Promise<Written<Body>> {
  const written = await writeAs(authorOf(c, place), plan, c.var.reason);
  if (written.etag !== undefined) c.header("etag", written.etag);
  return written;
}

/** @throws DryRun in place of the commit, where the author only wants a preview. */
export async function writeAs<Body>(
  author: Author,
  plan: (now: number) => Promise<Plan<Body>>,
  reason?: string,
): Promise<Written<Body>> {
  const { db, idempotency } = author;
  const attempt = async () => {
    const now = author.now();
    const made = await within(plan(now), D1_MS, "reading").catch(async (error: unknown) => {
      // What is in the way may be what an earlier request with the same key has made.
      if (idempotency !== undefined && (await findAnswer(db, idempotency.tokenId, idempotency.key)) !== undefined)
        throw new AlreadyAnswered();
      throw error;
    });
    const { edits = [], statements = [], project, approvedBy } = made.write ?? {};
    if (made.write === undefined && idempotency === undefined && !author.dryRun) return { made, changes: [] };
    const proposed = proposedBy(made.write);
    // By then nobody sends it any more.
    const role = made.write?.finalEdits === undefined ? (author.role ?? null) : null;
    const by = { tokenId: author.origin.tokenId, at: now };
    if (author.dryRun) {
      const judged = approvalOf(db, made.write?.isRollback ? NOTHING : proposed, role, by, approvedBy);
      const dryRun = await dryRunOf(db, made, await within(judged, D1_MS, "reading"));
      await requireRoom(db, edits);
      throw dryRun;
    }
    const approving = () => requireApproval(db, proposed, role, by, approvedBy);
    const { guard, bypassed } = made.write?.isRollback ? NO_GUARD : await within(approving(), D1_MS, "reading");
    await made.prepare?.();
    const pending = edits.length === 1 ? { pending: true } : {};
    const committed = commit(db, {
      statements: [...guard(now), ...statements],
      edits,
      maxRulesetBytes: MAX_RULESET_BYTES,
      ...(project && { project }),
      audit: proposed.audits.map((entry) => auditEntry(author.origin, entry, bypassed, reason, now)),
      ...(idempotency && {
        idempotency: {
          tokenId: idempotency.tokenId,
          key: idempotency.key,
          requestHash: idempotency.requestHash,
          status: made.status,
          headers: made.etag === undefined ? {} : { etag: made.etag },
          body: JSON.stringify({ ...made.body, ...pending }),
          createdAt: now,
        },
      }),
      now,
    });
    const changes = await committed.catch((error: unknown) => {
      if (!(error instanceof RulesetTooLarge)) throw error;
      const keys = new Map(edits.map(({ name }) => [name.id, name.environment]));
      throw rulesetTooLarge(
        error.environments.map((one) => ({ ...one, environment: keys.get(one.environmentId) ?? "" })),
      );
    });
    return { made, changes };
  };
  const { made, changes } = await inTurn(author.env, author.dryRun ? null : author.place, () =>
    retryingLostRaces(attempt, author.now),
  );
  await wakeAt(author.env, made.wakeAt ?? null);
  if (idempotency !== undefined) idempotency.incomplete = made.secret !== true && made.status !== 204;
  const edits = made.write?.edits ?? [];
  const published = changes.map(async (change, index) => {
    const { name } = edits[index]!;
    return [name.environment, await publish(author.env, name, change)] as const;
  });
  return { body: made.body, etag: made.etag, deliveries: Object.fromEntries(await Promise.all(published)) };
}

/** For a write that is only previewed. @throws ApiError 413 as the write itself would */
export async function requireRoom(db: Database, edits: Edit[] = []): Promise<void> {
  const each = edits.map(async ({ name, documents: { flags = {}, segments = {} } }) => {
    const found = await wouldBe(db, name.id, documentSizes({ flags, segments }), MAX_RULESET_BYTES);
    return found && { ...found, environment: name.environment };
  });
  const tooLarge = (await within(Promise.all(each), D1_MS, "reading")).filter((one) => one !== null);
  if (tooLarge.length > 0) throw rulesetTooLarge(tooLarge);
}

const NOTHING = proposedBy(undefined);
const NO_GUARD: Awaited<ReturnType<typeof requireApproval>> = { guard: () => [], bypassed: [] };

function auditEntry(origin: Origin, entry: Audited, bypassed: string[], reason: string | undefined, now: number) {
  return {
    timestamp: now,
    ...origin,
    ...entry.by,
    action: entry.action,
    resourceType: entry.type,
    project: entry.project ?? null,
    environment: entry.environment ?? null,
    key: entry.key,
    changes: entry.changes,
    undo: entry.undo ?? [],
    reverts: entry.reverts ?? null,
    changeRequest: entry.changeRequest ?? null,
    schedule: entry.schedule ?? null,
    ramp: entry.ramp ?? null,
    bypassed: bypassed.length === 0 ? null : bypassed,
    reason: reason ?? null,
  };
}

export const origin = (c: AdminContext): Origin => ({
  actor: c.var.caller.name,
  tokenId: c.var.caller.bootstrap ? null : c.var.caller.id,
  sourceIp: c.req.header("cf-connecting-ip") ?? null,
  userAgent: c.req.header("user-agent")?.slice(0, 512) ?? null,
  correlationId: c.var.correlationId,
});

/** A time in the past is refused: mostly seconds were sent for milliseconds. */
export function requireFuture(time: number | null, now: number, pointer = "/expiresAt"): void {
  if (time === null || time > now) return;
  throw badRequest("That time is over already.", [
    { pointer, code: "in-the-past", message: "Send epoch milliseconds, or ISO 8601 with an offset, in the future." },
  ]);
}

/** Every client holds all of it. Names what weighs most, and in which environments. */
export function rulesetTooLarge(environments: (Omit<TooLarge, "environmentId"> & { environment: string })[]): ApiError {
  const { environment, bytes, largest } = environments[0]!;
  const named = largest.slice(0, 3).map((one) => `the ${one.kind} ${one.key} (${inKilobytes(one.bytes)})`);
  return new ApiError(
    413,
    "ruleset-too-large",
    `${environment} would hold ${inKilobytes(bytes)} of flags and segments, and at most ${inKilobytes(MAX_RULESET_BYTES)} fit. ` +
      `The largest are ${named.join(", ")}: archive flags that no code uses, give the address of a large value instead of ` +
      "it, and move long lists to the members of big segments.",
    { environments: environments.map(({ environment, bytes, largest }) => ({ environment, bytes, largest })) },
  );
}

const inKilobytes = (bytes: number) => `${Math.ceil(bytes / 1_024).toLocaleString("en")} KB`;
