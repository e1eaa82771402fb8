/** Kill and restore: decided by the hub alone. Nothing here asks D1 for what KV knows too. */
import { createRoute, z } from "@hono/zod-openapi";
import type { KillOutcome } from "../../../durable-objects/hub/kills/kill.ts";
import { ApiError, conflict, unavailable } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import {
  body,
  environmentPath,
  json,
  problems,
  reason,
  resource,
  targetingPath,
  waitQuery,
  whole,
} from "../http/contract.ts";
import { idempotencyKey, keyReused, REPLAYED } from "../http/idempotency.ts";
import { DryRun } from "../write/dry-run.ts";
import { askHub, delivered, delivery, hubOf, readReceipt, receipt, withReceipt } from "../write/hub-client.ts";
import { environmentOf } from "../write/lookup.ts";
import type { Audited } from "../write/plan.ts";
import { origin } from "../write/write.ts";
import { kill as killState } from "./representation.ts";

const KILL_WAIT_MS = 1_000;

const outcome = z
  .object({
    flag: z.string(),
    environment: z.string(),
    killed: killState.nullable(),
    mirrored: z
      .union([z.literal(true), z.literal("pending")])
      .optional()
      .openapi({
        description:
          "Whether D1, which only mirrors kills, and the audit log have it already; a dry run has nothing there",
      }),
    replayed: z.literal(true).optional().openapi({
      description: "This Idempotency-Key was answered before, and nothing was done now: `killed` is how it is now",
    }),
  })
  .extend(delivery.shape)
  .openapi("KillOutcome");

const path = "/projects/{project}/flags/{flag}/environments/{environment}" as const;

const kill = createRoute({
  method: "post",
  path: `${path}/kill`,
  tags: ["kill switch"],
  summary: "Off for everybody, at once, whatever the targeting says; works while the database is down",
  description:
    "An Idempotency-Key kills once. Sent again while the flag is killed, it is answered 200 with `replayed`. Sent again after " +
    "somebody has restored the flag, it kills nothing and is answered 409 `restored-since`, with who restored it under `supersededBy`.",
  middleware: needs("editor"),
  request: { params: targetingPath, query: waitQuery(KILL_WAIT_MS), ...body(z.strictObject({ reason })) },
  responses: { 200: json(outcome, "Killed, and how many clients have it"), ...problems },
});

const restore = createRoute({
  method: "post",
  path: `${path}/restore`,
  tags: ["kill switch"],
  summary: "Lift a kill: the targeting holds again as it is now",
  description:
    "An Idempotency-Key restores once. Sent again after somebody has killed the flag again, it restores nothing and is " +
    "answered 409 `killed-since`, with who killed it under `supersededBy`.",
  middleware: needs("editor"),
  request: { params: targetingPath, query: waitQuery(0), ...body(z.strictObject({ reason: reason.optional() })) },
  responses: { 200: json(outcome, "Restored"), ...problems },
});

const propagation = createRoute({
  method: "get",
  path: "/projects/{project}/environments/{environment}/propagation",
  tags: ["environments"],
  summary: "The receipt of a revision: how many live clients have it",
  middleware: needs("viewer"),
  request: { params: environmentPath, query: z.object({ revision: whole(0) }) },
  responses: { 200: json(receipt, "The receipt"), ...problems },
});

export const killSwitch = resource()
  .openapi(kill, async (c) =>
    c.json(await decide(c, "kill", c.req.valid("json").reason, c.req.valid("query").wait), 200),
  )
  .openapi(restore, async (c) =>
    c.json(await decide(c, "restore", c.req.valid("json").reason ?? "", c.req.valid("query").wait), 200),
  )
  .openapi(propagation, async (c) => {
    const { revision } = c.req.valid("query");
    const known = await readReceipt(c.env, await environmentOf(c), revision);
    if (known === null) throw new ApiError(404, "unknown-revision", `The hub does not remember revision ${revision}.`);
    return c.json(known, 200);
  });

async function decide(c: AdminContext, action: "kill" | "restore", reason: string, waitMs: number) {
  const { flag = "" } = c.req.param() as { flag?: string };
  const environment = await environmentOf(c);
  const names = { project: environment.project, environment: environment.environment };
  const key = idempotencyKey(c);
  const request = { action, flag, reason, idempotencyKey: key, origin: { ...origin(c), ...names } };
  const done = await askHub(action, async () => {
    const hub = hubOf(c.env, environment);
    return c.var.dryRun ? hub.previewKill({ ...request, idempotencyKey: null }) : hub.setKilled(request);
  }).catch((error: unknown) => {
    console.error(
      JSON.stringify({ level: "error", message: `${action} failed`, flag, ...names, error: String(error) }),
    );
    throw unavailable(`The ${action} is not confirmed: the environment's hub does not answer. Repeat it.`, 1);
  });
  if (done.outcome === "unknown-flag") throw new ApiError(404, "unknown-flag", `The flag ${flag} is not known there.`);
  if (done.outcome !== "done") throw keyReused();
  const killed = done.killed && { by: done.killed.by, at: done.killed.at, reason: done.killed.reason };
  if (c.var.dryRun) {
    const isKill = action === "kill";
    const changes: Audited["changes"] = done.changed ? { killed: { from: !isKill, to: isKill } } : {};
    throw new DryRun({ flag, environment: environment.environment, killed }, { changes, policies: [] });
  }
  if ((killed !== null) !== (action === "kill")) throw decidedSince(action, flag, environment, done);
  if (done.replayed) c.header(REPLAYED, "true");
  const way = await withReceipt(c.env, environment, delivered(environment, done.revision), waitMs);
  return {
    flag,
    environment: environment.environment,
    killed,
    mirrored: done.mirrored ? (true as const) : ("pending" as const),
    ...(done.replayed && { replayed: true as const }),
    ...way,
  };
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
