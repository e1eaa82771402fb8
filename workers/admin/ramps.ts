/** Splits that are moved step by step. Whoever begins one has planned all of its steps. */
import { createRoute, z } from "@hono/zod-openapi";
import { type ApiError, badRequest, conflict, type Mistake } from "../problem.ts";
import { newId } from "../store/database.ts";
import type { FlagThere } from "../store/flags.ts";
import * as store from "../store/ramps.ts";
import { needs, visibleEnvironments } from "./access.ts";
import { proposedBy, requireApproval } from "./approval.ts";
import { difference } from "./audit-diff.ts";
import { wakeAt } from "./clock.ts";
import { type AdminContext, body, json, page, problems, projectPath, reason, resource } from "./contract.ts";
import { catchUp, lastKillOf } from "./hubs.ts";
import { listing, rampedQuery } from "./list.ts";
import { environmentInBody, plannedPath, plannedThere, projectThere } from "./planned.ts";
import { auditedRamp, planRamp } from "./ramp-plan.ts";
import { servesOf, weightsServed } from "./ramp-serves.ts";
import { begunRamp, type NewRamp, newRamp, ramp, shownRamp, status, stepsOf, writtenRamp } from "./ramp-shape.ts";
import { begun, type RampEvent } from "./ramp-state.ts";
import { asSeen, flagThere, planTargeting, ruleGone, serveAt } from "./targeting-edit.ts";
import { etagOf, origin, requireMatch, write } from "./write.ts";

const path = "/projects/{project}/ramps" as const;

const create = createRoute({
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
  .openapi(create, async (c) => {
    const sent = c.req.valid("json");
    const environment = await environmentInBody(c, sent.environment);
    const { actor, tokenId } = origin(c);
    const { db } = c.var;
    const { flag: flagKey, rule = null, others = null, variation, guards = [], reason } = sent;
    const steps = stepsOf(sent.steps);
    const plan = async (now: number) => {
      const there = await flagThere(db, environment, flagKey);
      const { flag, configuration } = there;
      const { kill } = await lastKillOf(c.env, environment, flagKey, there.kill);
      requireServing(there, kill);
      const began = serveAt(configuration, rule);
      if (began === null) throw ruleGone(rule!);
      const other = await store.rampAt(db, environment.id, flag.id, rule ?? "");
      if (other !== undefined) throw atWork(other);
      requireFit(sent, there, weightsServed(began));
      const serves = servesOf(began, { variation, others, steps }, flag);
      const seen = asSeen(configuration.version);
      const placed = (serve = began) => ({ placed: { rule, serve } });
      // Whole before its first step: what its last one would not be allowed to do is refused now. As nobody in particular:
      // nobody asks when that step is due.
      const whole = await planTargeting(db, environment, flagKey, placed(serves.at(-1)), now, seen);
      await requireApproval(db, proposedBy(whole.write), null);
      const first = await planTargeting(db, environment, flagKey, placed(serves[1]), now, seen);
      const row: store.RampRow = {
        ...begun(steps, now),
        id: newId("rmp"),
        projectId: environment.projectId,
        environmentId: environment.id,
        flagId: flag.id,
        flagKey,
        ruleId: rule ?? "",
        variation,
        others,
        guards,
        serves,
        reason: reason ?? null,
        killSeq: kill?.seq ?? 0,
        restored: null,
        actor,
        tokenId,
        attempts: 0,
        version: 1,
        createdAt: now,
        updatedAt: now,
      };
      const told = { flag: flagKey, rule, variation, others, steps, guards };
      return {
        status: 201 as const,
        body: {
          ...shownRamp({ ...row, environment: environment.environment }),
          warnings: whole.body.warnings ?? [],
          preview: { changes: whole.changes, moved: whole.moved },
        },
        etag: etagOf(row.version),
        write: {
          edits: first.write?.edits ?? [],
          statements: [...(first.write?.statements ?? []), store.insertRamp(db, row)],
          audit: auditedRamp("ramp.create", environment, row, difference({}, told)),
          alsoAudited: first.write === undefined ? [] : [{ ...first.write.audit, ramp: row.id }],
        },
      };
    };
    const done = await write(c, plan, reason);
    await wakeAt(c.env, done.body.nextAt);
    return c.json({ ...done.body, ...done.deliveries[environment.environment] }, 201);
  })
  .openapi(list, async (c) => {
    const { environment, flag, status, q, ...query } = c.req.valid("query");
    const { page, told } = await listing(c, query, "id");
    const { id: projectId, key } = await projectThere(c);
    const visible = visibleEnvironments(c.var.caller.scope, key);
    const rows = await store.listRamps(c.var.db, { projectId, visible, environment, flag, status, q }, page);
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
  await wakeAt(c.env, done.body.nextAt);
  return { ...done.body, ...(done.deliveries[environment.environment] ?? (await catchUp(c.env, environment))) };
}

function requireServing({ flag, configuration }: FlagThere, kill: { killed: boolean } | null): void {
  if (flag.archivedAt !== null) throw conflict("archived", `The flag ${flag.key} is archived.`);
  if (kill?.killed) throw conflict("killed", `The flag ${flag.key} is killed: restore it first.`);
  if (!configuration.on) throw conflict("flag-off", `The flag ${flag.key} is off: turn it on first.`);
}

/** Variations of the flag, and weights that it can grow to from what it has. */
function requireFit({ variation, others = [], steps }: NewRamp, { flag }: FlagThere, present: Record<string, number>) {
  const mistakes: Mistake[] = [];
  const mistake = (pointer: string, code: string, message: string) => mistakes.push({ pointer, code, message });
  const isKnown = (key: string) => flag.variations.some((one) => one.key === key);
  if (!isKnown(variation)) mistake("/variation", "unknown-variation", `The flag has no variation ${variation}.`);
  others.forEach((key, index) => {
    if (!isKnown(key)) mistake(`/others/${index}`, "unknown-variation", `The flag has no variation ${key}.`);
    if (key === variation) mistake(`/others/${index}`, "grows", `${key} is what grows.`);
    if (others.indexOf(key) < index) mistake(`/others/${index}`, "twice", `${key} is there twice.`);
  });
  const has = (key: string) => (Object.hasOwn(present, key) ? present[key]! : 0);
  const last = steps.at(-1)?.weight ?? 0;
  if ((steps[0]?.weight ?? 0) <= has(variation)) {
    const message = `${variation} has ${has(variation)} thousandths of a percent already: the first step is larger.`;
    mistake("/steps/0/weight", "not-larger", message);
  }
  const room = has(variation) + [...new Set(others)].reduce((sum, key) => sum + has(key), 0);
  if (others.length > 0 && last > room) {
    mistake("/others", "too-little", `Together with what ${variation} has they come to ${room}, and not to ${last}.`);
  }
  if (mistakes.length > 0) throw badRequest("The ramp does not fit the flag; each mistake is listed.", mistakes);
}

function atWork({ id, status }: store.RampRow): ApiError {
  const detail = `The ramp ${id} is ${status} there: abort it first, or let it finish.`;
  return conflict("ramp-at-work", detail, { ramp: id });
}
