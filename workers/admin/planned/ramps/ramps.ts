/** Splits that are moved step by step. Whoever begins one has planned all of its steps. */
import { createRoute, z } from "@hono/zod-openapi";
import * as store from "../../../store/planned/ramps.ts";
import { needs, visibleEnvironments } from "../../http/access.ts";
import type { AdminContext } from "../../http/context.ts";
import { body, json, page, problems, projectPath, reason, resource } from "../../http/contract.ts";
import { listing, rampedQuery } from "../../http/pagination.ts";
import { catchUp } from "../../write/hub-client.ts";
import { askedOf } from "../../write/request.ts";
import { etagOf, origin, requireMatch, write } from "../../write/write.ts";
import { plannedPath, plannedThere, projectThere } from "../planned.ts";
import { planStart } from "./begin.ts";
import { begunRamp, newRamp, ramp, shownRamp, status, writtenRamp } from "./representation.ts";
import type { RampEvent } from "./state.ts";
import { planRamp } from "./write.ts";

const path = "/projects/{project}/ramps" as const;

export const begin = createRoute({
  method: "post",
  path,
  tags: ["ramps"],
  summary: "Begin a ramp: its first step now, the others in their time",
  middleware: needs("editor", "part"),
  request: { params: projectPath, ...body(newRamp) },
  responses: { 201: json(begunRamp, "Begun"), ...problems },
});

const list = createRoute({
  method: "get",
  path,
  tags: ["ramps"],
  summary: "List ramps, those that are over too",
  middleware: needs("viewer"),
  request: { params: projectPath, query: rampedQuery.extend({ status: status.optional() }) },
  responses: { 200: json(page(ramp), "Ramps"), ...problems },
});

const read = createRoute({
  method: "get",
  path: `${path}/{id}`,
  tags: ["ramps"],
  summary: "Read a ramp",
  middleware: needs("viewer"),
  request: { params: plannedPath },
  responses: { 200: json(ramp, "The ramp"), ...problems },
});

const because = { reason: reason.optional() };
const verb = <const Verb extends string, Fields extends z.ZodRawShape>(verb: Verb, summary: string, fields: Fields) =>
  createRoute({
    method: "post",
    path: `${path}/{id}/${verb}`,
    tags: ["ramps"],
    summary,
    middleware: needs("editor", "part"),
    request: { params: plannedPath, ...body(z.strictObject(fields)) },
    responses: { 200: json(writtenRamp, "The ramp"), ...problems },
  });

const pause = verb("pause", "Stay at the step that it is at", because);
const resume = verb("resume", "Go on with what is left of the step", because);
const jump = verb("jump", "Go to a step, forwards or back; it has its whole time there", {
  step: z.number().int().min(0).openapi({ description: "From 0" }),
  ...because,
});
const abort = verb("abort", "End it: everybody is served what they were before it began", because);

export const ramps = resource()
  .openapi(begin, async (c) => {
    const asked = askedOf(c, c.req.valid("param"), c.req.valid("json"));
    const done = await write(c, (now) => planStart(asked, now), asked.body.reason);
    return c.json({ ...done.body, ...done.deliveries[asked.body.environment] }, 201);
  })
  .openapi(list, async (c) => {
    const { environment, flag, author, status, q, ...query } = c.req.valid("query");
    const { page, told } = await listing(c, query, "id");
    const { id: projectId, key } = await projectThere(c);
    const visible = visibleEnvironments(c.var.caller.scope, key);
    const rows = await store.listRamps(c.var.db, { projectId, visible, environment, flag, author, status, q }, page);
    return c.json(told(rows, shownRamp), 200);
  })
  .openapi(read, async (c) => {
    const { row, environment } = await plannedThere(c, "ramp", store.findRamp);
    c.header("etag", etagOf(row.version));
    return c.json(shownRamp({ ...row, environment: environment.environment }), 200);
  })
  .openapi(pause, async (c) => {
    const { reason } = c.req.valid("json");
    const detail = reason ?? "Somebody has asked for it.";
    const by = c.var.caller.name;
    const event = (at: number): RampEvent => ({ kind: "pause", pause: { code: "requested", detail, by, at } });
    return c.json(await happen(c, event, reason), 200);
  })
  .openapi(resume, async (c) => c.json(await happen(c, () => ({ kind: "resume" }), c.req.valid("json").reason), 200))
  .openapi(jump, async (c) => {
    const { step, reason } = c.req.valid("json");
    return c.json(await happen(c, () => ({ kind: "jump", step }), reason), 200);
  })
  .openapi(abort, async (c) => c.json(await happen(c, () => ({ kind: "abort" }), c.req.valid("json").reason), 200));

async function happen(c: AdminContext, event: (now: number) => RampEvent, reason: string | undefined) {
  const { environment } = await plannedThere(c, "ramp", store.findRamp);
  const plan = async (now: number) => {
    const ramp = await plannedThere(c, "ramp", store.findRamp);
    requireMatch(c, etagOf(ramp.row.version));
    return planRamp({ db: c.var.db, env: c.env }, ramp, event(now), now, origin(c));
  };
  const done = await write(c, plan, reason);
  return { ...done.body, ...(done.deliveries[environment.environment] ?? (await catchUp(c.env, environment))) };
}
