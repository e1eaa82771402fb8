/** Kill and restore: decided by the hub alone. Nothing here asks D1 for what KV knows too. */

import type { KillOutcome } from "../../../durable-objects/hub/kills/kill.ts";
import { errorText } from "../../platform/error-text.ts";
import { ApiError, conflict, unavailable } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { documentsThere } from "../../store/documents.ts";
import { movedIn, shareMoved } from "../documents/moved.ts";
import type { AdminContext } from "../http/context.ts";
import { waitQuery, whole } from "../http/contract.ts";
import { idempotencyKey, keyReused, REPLAYED } from "../http/idempotency.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { askHub, delivered, delivery, hubOf, receipt, receiptOf } from "../write/hub-client.ts";
import { environmentOf } from "../write/lookup.ts";
import { DryRun, type Preview } from "../write/preview.ts";
import type { Requested } from "../write/request.ts";
import { withReceipt } from "../write/wait-for-receipt.ts";
import { origin } from "../write/write.ts";
import { kill as killState } from "./representation.ts";

const KILL_WAIT_MS = 1_000;

const outcome = z
  .object({
    flag: z.string(),
    environment: z.string(),
    killed: killState.nullable(),
    replayed: z.literal(true).optional().openapi({
      description: "This Idempotency-Key was answered before, and nothing was done now: `killed` is how it is now",
    }),
  })
  .extend(delivery.shape)
  .openapi("KillOutcome");

const PATH = "/projects/{project}/flags/{flag}/environments/{environment}" as const;

const kill = operation({
  id: "killFlag",
  method: "post",
  path: `${PATH}/kill`,
  tag: "kill switch",
  summary: "Off for everybody, at once, whatever the targeting says; works while the database is down",
  description:
    "An Idempotency-Key kills once. Sent again while the flag is killed, it is answered 200 with `replayed`. Sent again after " +
    "somebody has restored the flag, it kills nothing and is answered 409 `restored-since`, with who restored it under `supersededBy`.",
  role: "editor",
  query: waitQuery(KILL_WAIT_MS),
  withoutDatabase: true,
  answer: outcome,
  returns: "Killed, and how many clients have it",
  example: { reason: "Orders fail" },
  problems: { 404: ["unknown-flag"], 409: ["restored-since"] },
  handle: (requested, c) => decide("kill", requested, c),
});

const restore = operation({
  id: "restoreFlag",
  method: "post",
  path: `${PATH}/restore`,
  tag: "kill switch",
  summary: "Lift a kill: the targeting holds again as it is now",
  description:
    "An Idempotency-Key restores once. Sent again after somebody has killed the flag again, it restores nothing and is " +
    "answered 409 `killed-since`, with who killed it under `supersededBy`.",
  role: "editor",
  query: waitQuery(0),
  withoutDatabase: true,
  answer: outcome,
  returns: "Restored",
  example: {},
  problems: { 404: ["unknown-flag"], 409: ["killed-since"] },
  handle: (requested, c) => decide("restore", requested, c),
});

const readReceipt = operation({
  id: "readReceipt",
  method: "get",
  path: "/projects/{project}/environments/{environment}/receipts/{revision}",
  params: { revision: whole(0) },
  tag: "environments",
  summary: "The receipt of a revision: how many live clients have it",
  role: "viewer",
  answer: receipt,
  returns: "The receipt",
  problems: { 404: ["unknown-revision"] },
  handle: async (requested, c) => {
    const { revision } = requested.path;
    const known = await receiptOf(requested.env, await environmentOf(requested), revision);
    if (known === null) throw new ApiError(404, "unknown-revision", `The hub does not remember revision ${revision}.`);
    // It has no version: clients go on acknowledging.
    c.header("etag", `"${await sha256(JSON.stringify(known))}"`);
    return known;
  },
});

export const killSwitch = [kill, restore, readReceipt];

type Path = { project: string; environment: string; flag: string };

async function decide(
  action: "kill" | "restore",
  requested: Requested<Path, unknown, { wait: number }>,
  c: AdminContext,
) {
  const { flag } = requested.path;
  const environment = await environmentOf(requested);
  const names = { project: environment.project, environment: environment.environment };
  const key = idempotencyKey(c);
  const request = { action, flag, reason: c.var.reason ?? "", idempotencyKey: key, origin: { ...origin(c), ...names } };
  const done = await askHub(action, async () => {
    const hub = hubOf(c.env, environment);
    return c.var.dryRun ? hub.previewKill({ ...request, idempotencyKey: null }) : hub.setKilled(request);
  }).catch((error: unknown) => {
    console.error(
      JSON.stringify({ level: "error", message: `${action} failed`, flag, ...names, error: errorText(error) }),
    );
    throw unavailable(`The ${action} is not confirmed: the environment's hub does not answer. Repeat it.`, 1);
  });
  if (done.outcome === "unknown-flag") throw new ApiError(404, "unknown-flag", `The flag ${flag} is not known there.`);
  if (done.outcome !== "done") throw keyReused();
  const killed = done.killed && { by: done.killed.by, at: done.killed.at, reason: done.killed.reason };
  if (c.var.dryRun) {
    const preview = await previewOf(requested.db, environment, flag, done.changed ? action : null);
    throw new DryRun({ flag, environment: environment.environment, killed }, preview);
  }
  if ((killed !== null) !== (action === "kill")) throw decidedSince(action, flag, environment, done);
  if (done.replayed) c.header(REPLAYED, "true");
  const way = await withReceipt(c.env, environment, delivered(environment, done.revision), requested.query.wait);
  return {
    flag,
    environment: environment.environment,
    killed,
    ...(!done.mirrored && { pending: true as const }),
    ...(done.replayed && { replayed: true as const }),
    ...way,
  };
}

/** `action` is null where the flag is already as it would be. Without D1 nobody can say who would move. */
async function previewOf(
  db: Database,
  { id, environment }: EnvironmentName,
  key: string,
  action: "kill" | "restore" | null,
): Promise<Preview> {
  if (action === null) return { changes: {}, moved: [], share: 0, policies: [] };
  const isKill = action === "kill";
  const changes = { killed: { from: !isKill, to: isKill } };
  const at = { environment, kind: "flag" as const, key };
  const there = await documentsThere(db, id, { flags: [key], segments: [] }).catch(() => null);
  const flag = there?.flags[key] ?? null;
  if (flag === null) {
    return { changes, moved: [{ ...at, rule: null, movements: "unknown" }], share: "unknown", policies: [] };
  }
  const [served, killed] = [flag, { ...flag, on: false }];
  const moved = movedIn([{ ...at, before: isKill ? served : killed, after: isKill ? killed : served }]);
  return { changes, moved, share: shareMoved(moved), policies: [] };
}

type Done = Extract<KillOutcome, { outcome: "done" }>;

/** The flag is otherwise by now, mostly where a request is repeated: a success would say that it is as was asked. */
function decidedSince(
  action: "kill" | "restore",
  flag: string,
  { environment }: EnvironmentName,
  { killed, replayed, supersededBy }: Done,
): ApiError {
  const by = supersededBy && {
    action: supersededBy.action,
    by: supersededBy.origin.actor,
    at: supersededBy.at,
    reason: supersededBy.reason,
  };
  const [code, did, undone] =
    action === "kill"
      ? (["restored-since", "killed", "restored"] as const)
      : (["killed-since", "restored", "killed"] as const);
  const first = replayed ? "This Idempotency-Key was used before, and then" : "This request";
  const since = by === null ? `It has been ${undone} since.` : `${by.by} has ${undone} it since.`;
  const now = killed === null ? "The flag is not killed." : "The flag is killed.";
  const remedy = `To ${action} it, send the request with a new Idempotency-Key, or without one.`;
  return conflict(code, `${first} ${did} the flag ${flag}. ${since} ${now} ${remedy}`, {
    flag,
    environment,
    killed: killed && { by: killed.by, at: killed.at, reason: killed.reason },
    replayed,
    supersededBy: by,
    ...(replayed && { headers: { [REPLAYED]: "true" } }),
  });
}
