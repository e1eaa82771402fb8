/** Kill and restore: decided by the hub alone. Nothing here asks D1 for what KV knows too. */
import { createRoute, z } from "@hono/zod-openapi";
import { ApiError, unavailable } from "../problem.ts";
import { needs } from "./access.ts";
import {
  type AdminContext,
  body,
  environmentPath,
  json,
  problems,
  reason,
  resource,
  targetingPath,
  waitQuery,
  whole,
} from "./contract.ts";
import { environmentOf } from "./environments.ts";
import { kill as killState } from "./flag-shape.ts";
import { askHub, delivered, delivery, hubOf, readReceipt, receipt, withReceipt } from "./hubs.ts";
import { idempotencyKey, keyReused } from "./once.ts";
import { origin } from "./write.ts";

const KILL_WAIT_MS = 1_000;

const outcome = z
  .object({
    flag: z.string(),
    environment: z.string(),
    killed: killState.nullable(),
    mirrored: z.union([z.literal(true), z.literal("pending")]).openapi({
      description: "Whether D1, which only mirrors kills, and the audit log have it already",
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
  middleware: needs("editor"),
  request: { params: targetingPath, query: waitQuery(KILL_WAIT_MS), ...body(z.strictObject({ reason })) },
  responses: { 200: json(outcome, "Killed, and how many clients have it"), ...problems },
});

const restore = createRoute({
  method: "post",
  path: `${path}/restore`,
  tags: ["kill switch"],
  summary: "Lift a kill: the targeting holds again as it is now",
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
  const done = await askHub(action, async () =>
    hubOf(c.env, environment).setKilled({
      action,
      flag,
      reason,
      idempotencyKey: idempotencyKey(c),
      origin: { ...origin(c), ...names },
    }),
  ).catch((error: unknown) => {
    console.error(
      JSON.stringify({ level: "error", message: `${action} failed`, flag, ...names, error: String(error) }),
    );
    throw unavailable(`The ${action} is not confirmed: the environment's hub does not answer. Repeat it.`, 1);
  });
  if (done.outcome === "unknown-flag") throw new ApiError(404, "unknown-flag", `The flag ${flag} is not known there.`);
  if (done.outcome !== "done") throw keyReused();
  const way = await withReceipt(c.env, environment, delivered(environment, done.revision), waitMs);
  const killed = done.killed && { by: done.killed.by, at: done.killed.at, reason: done.killed.reason };
  return {
    flag,
    environment: environment.environment,
    killed,
    mirrored: done.mirrored ? (true as const) : ("pending" as const),
    ...way,
  };
}
