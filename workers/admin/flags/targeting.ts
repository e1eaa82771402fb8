/** How one environment serves a flag. */
import { type Context, compile } from "@bunting/core";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { notFound, unavailable } from "../../platform/problem.ts";
import { addBigSegments } from "../../store/big-segments.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { isDatabaseFailure } from "../../store/database.ts";
import { closure, flagDocument } from "../../store/documents.ts";
import { killedFlags } from "../../store/flags/flags.ts";
import { instructions } from "../documents/instructions.ts";
import { targeting as targetingBody } from "../documents/schema.ts";
import { needs } from "../http/access.ts";
import type { AdminContext } from "../http/context.ts";
import { body, json, problems, reason, resource, targetingPath, waitQuery } from "../http/contract.ts";
import { catchUp, killsThere, withReceipt } from "../write/hub-client.ts";
import { environmentOf, environmentOf } from "../write/lookup.ts";
import { type Requested, askedOf } from "../write/request.ts";
import { etagOf, write } from "../write/write.ts";
import { shownTargeting, targeting, writtenTargeting } from "./representation.ts";
import { flagThere, planTargeting, type TargetingEdit } from "./targeting-edit.ts";

type ShownTargeting = z.infer<typeof targeting>;

const PATH = "/projects/{project}/flags/{flag}/environments/{environment}" as const;

const edit = { params: targetingPath, query: waitQuery(0) };
const written = { 200: json(writtenTargeting, "The whole configuration, and its way to the clients"), ...problems };
const becauseOf = z.strictObject({ reason: reason.optional() });
const fieldsBody = targetingBody.partial().extend(becauseOf.shape);
const wholeBody = targetingBody
  .partial({ prerequisites: true, targets: true, rules: true, trackExposures: true })
  .extend(becauseOf.shape);
const instructionsBody = becauseOf.extend({ instructions });

const read = operation({
  id: "readTargeting",
  method: "get",
  path: PATH,
  tag: "targeting",
  summary: "Read how an environment serves a flag",
  role: "viewer",
  answer: targeting,
  returns: "The configuration",
  handle: async (requested, c) => {
    const environment = await environmentOf(c);
    const { flag, configuration, kill } = await flagThere(c.var.db, environment, path.flag);
    c.header("etag", etagOf(configuration.version));
    const shown = shownTargeting(environment, flagDocument(flag, configuration), kill);
    return c.json({ ...shown, killed: await killedThere(c, environment, shown) }, 200);
  },
});

export const patch = operation({
  id: "updateTargeting",
  method: "patch",
  path: PATH,
  tag: "targeting",
  summary: "Change the fields that are sent",
  role: "editor",
  ...edit,
  body: fieldsBody,
  responses: written,
  example: { on: true, fallthrough: rollout, reason: "Ten percent" },
  problems: TARGETING,
  handle: async (requested, c) => c.json(await edited(c, planPatch, body, query), 200),
});

export const put = operation({
  id: "replaceTargeting",
  method: "put",
  path: PATH,
  tag: "targeting",
  summary: "Replace the whole configuration; lists that are left out are emptied",
  role: "editor",
  ...edit,
  body: wholeBody,
  responses: written,
  example: { on: true, offVariation: "off", fallthrough: { variation: "off" } },
  problems: TARGETING,
  handle: async (requested, c) => c.json(await edited(c, planPut, body, query), 200),
});

export const instruct = operation({
  id: "editTargeting",
  method: "post",
  path: `${PATH}/instructions`,
  tag: "targeting",
  summary: "Change what is meant to be changed, whatever else has changed meanwhile",
  role: "editor",
  ...edit,
  body: instructionsBody,
  responses: written,
  example: {
      instructions: [{ kind: "addTargets", variation: "on", values: ["user-1"] }],
      reason: "Their tester",
    },
  problems: { 403: ["approval-required"], 409: ["archived", "rule-gone", "rule-exists"], 413: TOO_LARGE },
  ifMatch: true,
  handle: async (requested, c) =>
    c.json(await edited(c, planInstructions, body, query), 200),
});

export const turnOn = operation({
  id: "turnFlagOn",
  method: "post",
  path: `${PATH}/on`,
  tag: "targeting",
  summary: "Turn a flag on",
  role: "editor",
  ...edit,
  body: becauseOf,
  responses: written,
  example: { reason: "Launch" },
  problems: TARGETING,
  ifMatch: true,
  handle: async (requested, c) => c.json(await edited(c, planTurnOn, body, query), 200),
});

export const turnOff = operation({
  id: "turnFlagOff",
  method: "post",
  path: `${PATH}/off`,
  tag: "targeting",
  summary: "Turn a flag off: an ordinary edit, unlike a kill",
  role: "editor",
  ...edit,
  body: becauseOf,
  responses: written,
  example: {},
  problems: TARGETING,
  ifMatch: true,
  handle: async (requested, c) => c.json(await edited(c, planTurnOff, body, query), 200),
});

const context = z
  .record(z.string(), z.unknown())
  .refine(
    ({ targetingKey }) => targetingKey === undefined || (typeof targetingKey === "string" && targetingKey !== ""),
    {
      path: ["targetingKey"],
      message: "A string that is not empty, or left out.",
    },
  );

const evaluate = operation({
  id: "evaluateFlag",
  method: "post",
  path: `${PATH}/evaluate`,
  tag: "targeting",
  summary: "What a context is served, and why",
  role: "viewer",
  body: z.strictObject({ context }),
  answer: z.object({
        value: z.unknown(),
        variation: z.string().nullable(),
        reason: z.string(),
        ruleId: z.string().optional(),
        ruleIndex: z.number().int().optional(),
        prerequisite: z.string().optional(),
        errorCode: z.string().optional(),
        flagVersion: z.number().int(),
        bucket: z.number().int().optional(),
      }),
  returns: "The decision",
  isRead: true,
  example: { context: { targetingKey: "user-1", plan: "pro" } },
  handle: async (requested, c) => {
    const { flag: key } = path;
    const environment = await environmentOf(c);
    const [found, mirrored, kills] = await Promise.all([
      closure(c.var.db, environment.id, { flags: [key], segments: [] }),
      killedFlags(c.var.db, environment.id),
      killsThere(c.env, environment),
    ]);
    const killed = kills === null ? mirrored : new Set(Object.keys(kills.killed));
    if (found === null || !Object.hasOwn(found.ruleset.flags, key)) throw notFound(`The flag ${key}`);
    for (const flag of Object.values(found.ruleset.flags)) flag.killed = killed.has(flag.key);
    const evaluator = compile(found.ruleset);
    await addBigSegments(c.var.db, c.env.SEGMENTS_BUCKET, evaluator).catch((error: unknown) => {
      if (isDatabaseFailure(error)) throw error;
      throw unavailable("The filters of big segments cannot be read at the moment.");
    });
    return c.json(evaluator.evaluate(key, body.context as Context, null), 200);
  },
});

export const targetings = [read, patch, put, instruct, turnOn, turnOff, evaluate];

type TargetingPath = z.infer<typeof targetingPath>;

const planning =
  <Body>(editOf: (body: Body) => TargetingEdit) =>
  async (asked: Requested<TargetingPath, Body>, now: number) =>
    planTargeting(asked.db, await environmentOf(asked), asked.path.flag, editOf(asked.body), now, asked.matches);

type Sent<Schema extends z.ZodType> = z.output<Schema>;
export const planPatch = planning(({ reason: _, ...fields }: Sent<typeof fieldsBody>) => ({ fields }));
export const planPut = planning(({ reason: _, ...fields }: Sent<typeof wholeBody>) => ({
  fields: { prerequisites: [], targets: [], rules: [], trackExposures: false, ...fields },
}));
export const planInstructions = planning(({ instructions }: Sent<typeof instructionsBody>) => ({ instructions }));
export const planTurnOn = planning(() => ({ instructions: [{ kind: "turnOn" }] }));
export const planTurnOff = planning(() => ({ instructions: [{ kind: "turnOff" }] }));

async function edited<Body extends { reason?: string | undefined }>(
  c: AdminContext,
  planned: ReturnType<typeof planning<Body>>,
  body: Body,
  { wait }: { wait: number },
) {
  const asked = askedOf(c, c.req.param() as TargetingPath, body);
  const environment = await environmentOf(c);
  const done = await write(c, (now) => planned(asked, now), body.reason);
  const way = done.deliveries[environment.environment] ?? (await catchUp(c.env, environment));
  const killed = await killedThere(c, environment, done.body);
  return { ...done.body, killed, ...(await withReceipt(c.env, environment, way, wait)) };
}

/** The hub's word on a kill; D1's, as `shown` has it, where the hub does not answer. */
async function killedThere(
  c: AdminContext,
  environment: EnvironmentName,
  shown: ShownTargeting,
): Promise<ShownTargeting["killed"]> {
  const kills = await killsThere(c.env, environment);
  if (kills === null) return shown.killed;
  const state = Object.hasOwn(kills.killed, shown.flag) ? kills.killed[shown.flag] : undefined;
  if (state === undefined) return null;
  const { by, at, reason, seq } = state;
  return { by, at, reason, ...(kills.pending.some((record) => record.seq === seq) && { pending: true }) };
}
