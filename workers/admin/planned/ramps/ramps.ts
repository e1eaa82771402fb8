/** Splits that are moved step by step. Whoever begins one has planned all of its steps. */
import { z } from "../../http/zod.ts";
import { operation } from "../../operation.ts";
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

const PATH = "/projects/{project}/ramps" as const;

export const begin = operation({
  id: "createRamp",
  method: "post",
  path: PATH,
  tag: "ramps",
  summary: "Begin a ramp: its first step now, the others in their time",
  role: "editor",
  reach: "part",
  body: newRamp,
  status: 201,
  answer: begunRamp,
  returns: "Begun",
  example: {
      environment: "production",
      flag: "new-checkout",
      variation: "on",
      steps: [{ weight: 25_000, forMs: 86_400_000 }, { weight: 50_000, forMs: 86_400_000 }, { weight: 100_000 }],
      reason: "Launch",
    },
  problems: {
      403: ["approval-required"],
      409: ["archived", "killed", "flag-off", "rule-gone", "ramp-at-work"],
      413: TOO_LARGE,
    },
  handle: async (requested, c) => {
    const asked = askedOf(c, path, body);
    const done = await write(c, (now) => planStart(asked, now), asked.body.reason);
    return c.json({ ...done.body, ...done.deliveries[asked.body.environment] }, 201);
  },
});

const list = operation({
  id: "listRamps",
  method: "get",
  path: PATH,
  tag: "ramps",
  summary: "List ramps, those that are over too",
  role: "viewer",
  query: rampedQuery.extend({ status: status.optional() }),
  answer: page(ramp),
  returns: "Ramps",
  handle: async (requested, c) => {
    const { environment, flag, author, status, q, ...query } = query;
    const { page, told } = await listing(c, query, "id");
    const { id: projectId, key } = await projectThere(c);
    const visible = visibleEnvironments(c.var.caller.scope, key);
    const rows = await store.listRamps(c.var.db, { projectId, visible, environment, flag, author, status, q }, page);
    return c.json(told(rows, shownRamp), 200);
  },
});

const read = operation({
  id: "readRamp",
  method: "get",
  path: `${PATH}/{id}`,
  tag: "ramps",
  summary: "Read a ramp",
  role: "viewer",
  answer: ramp,
  returns: "The ramp",
  handle: async (requested, c) => {
    const { row, environment } = await plannedThere(c, "ramp", store.findRamp);
    c.header("etag", etagOf(row.version));
    return c.json(shownRamp({ ...row, environment: environment.environment }), 200);
  },
});

const because = { reason: reason.optional() };
const verb = <const Verb extends string, Fields extends z.ZodRawShape>(verb: Verb, summary: string, fields: Fields) =>
  createRoute({
    method: "post",
    path: `${PATH}/{id}/${verb}`,
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

export const ramps = [begin, list, read, pause, resume, jump, abort];

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
