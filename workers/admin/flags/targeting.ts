/** How one environment serves a flag. */

import { type Context, compile } from "@bunting/core";
import type { Env } from "../../env.ts";
import { notFound, unavailable } from "../../platform/problem.ts";
import { addBigSegments } from "../../store/big-segments.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { isDatabaseFailure } from "../../store/database.ts";
import { closure, flagDocument } from "../../store/documents.ts";
import { killedFlags } from "../../store/flags/flags.ts";
import { type Instruction, instructions } from "../documents/instructions.ts";
import { targeting as targetingBody } from "../documents/schema.ts";
import { waitQuery } from "../http/contract.ts";
import { etagOf } from "../http/if-match.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { catchUp, killsThere } from "../write/hub-client.ts";
import { environmentOf } from "../write/lookup.ts";
import type { Requested } from "../write/request.ts";
import { withReceipt } from "../write/wait-for-receipt.ts";
import type { Written } from "../write/write.ts";
import { shownTargeting, targeting, writtenTargeting } from "./representation.ts";
import { flagThere, planTargeting, type TargetingEdit } from "./targeting-edit.ts";

const PATH = "/projects/{project}/flags/{flag}/environments/{environment}";

type ShownTargeting = z.infer<typeof targeting>;
type Path = { project: string; flag: string; environment: string };

const fieldsBody = targetingBody.partial();
const wholeBody = targetingBody.partial({ prerequisites: true, targets: true, rules: true, trackExposures: true });

/** A plan of one flag's targeting, whichever way the edit was sent. */
const planning =
  <Body>(editOf: (body: Body) => TargetingEdit) =>
  async (requested: Requested<Path, Body>, now: number) => {
    const { db, path, body, matches } = requested;
    return planTargeting(db, await environmentOf(requested), path.flag, editOf(body), now, matches);
  };

const planPatch = planning((fields: z.output<typeof fieldsBody>) => ({ fields }));
const planPut = planning((body: z.output<typeof wholeBody>) => ({
  fields: { prerequisites: [], targets: [], rules: [], trackExposures: false, ...body },
}));
const planInstructions = planning(({ instructions }: { instructions: Instruction[] }) => ({ instructions }));
const planTurnOn = planning(() => ({ instructions: [{ kind: "turnOn" }] }));
const planTurnOff = planning(() => ({ instructions: [{ kind: "turnOff" }] }));

/** What every edit of a targeting has in common. */
const edit = {
  path: PATH,
  tag: "targeting",
  role: "editor",
  query: waitQuery(0),
  answer: writtenTargeting,
  returns: "The whole configuration, and its way to the clients",
  ifMatch: true,
  respond,
} as const;

const PROBLEMS = { 403: ["approval-required"], 409: ["archived"], 413: ["ruleset-too-large"] } as const;

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
    const environment = await environmentOf(requested);
    const { flag, configuration, kill } = await flagThere(requested.db, environment, requested.path.flag);
    c.header("etag", etagOf(configuration.version));
    const shown = shownTargeting(environment, flagDocument(flag, configuration), kill);
    return { ...shown, killed: await killedThere(requested.env, environment, shown) };
  },
});

const patch = operation({
  ...edit,
  id: "updateTargeting",
  method: "patch",
  summary: "Change the fields that are sent",
  body: fieldsBody,
  example: {
    on: true,
    fallthrough: { split: { weights: { on: 10_000, off: 90_000 } } },
    reason: "Ten percent",
  },
  problems: PROBLEMS,
  plan: planPatch,
  requestable: planPatch,
});

const put = operation({
  ...edit,
  id: "replaceTargeting",
  method: "put",
  summary: "Replace the whole configuration; lists that are left out are emptied",
  body: wholeBody,
  example: { on: true, offVariation: "off", fallthrough: { variation: "off" } },
  problems: PROBLEMS,
  plan: planPut,
  requestable: planPut,
});

const instruct = operation({
  ...edit,
  id: "editTargeting",
  method: "post",
  path: `${PATH}/instructions`,
  summary: "Change what is meant to be changed, whatever else has changed meanwhile",
  body: z.strictObject({ instructions }),
  example: {
    instructions: [{ kind: "addTargets", variation: "on", values: ["user-1"] }],
    reason: "Their tester",
  },
  problems: { ...PROBLEMS, 409: ["archived", "rule-gone", "rule-exists"] },
  plan: planInstructions,
  requestable: planInstructions,
});

const turnOn = operation({
  ...edit,
  id: "turnFlagOn",
  method: "post",
  path: `${PATH}/on`,
  summary: "Turn a flag on",
  example: { reason: "Launch" },
  problems: PROBLEMS,
  plan: planTurnOn,
  requestable: planTurnOn,
});

const turnOff = operation({
  ...edit,
  id: "turnFlagOff",
  method: "post",
  path: `${PATH}/off`,
  summary: "Turn a flag off: an ordinary edit, unlike a kill",
  example: {},
  problems: PROBLEMS,
  plan: planTurnOff,
  requestable: planTurnOff,
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
  takesAnyJson: true,
  handle: async (requested) => {
    const { env, db, path, body } = requested;
    const { flag: key } = path;
    const environment = await environmentOf(requested);
    const [found, mirrored, kills] = await Promise.all([
      closure(db, environment.id, { flags: [key], segments: [] }),
      killedFlags(db, environment.id),
      killsThere(env, environment),
    ]);
    const killed = kills === null ? mirrored : new Set(Object.keys(kills.killed));
    if (found === null || !Object.hasOwn(found.ruleset.flags, key)) throw notFound(`The flag ${key}`);
    for (const flag of Object.values(found.ruleset.flags)) flag.killed = killed.has(flag.key);
    const evaluator = compile(found.ruleset);
    await addBigSegments(db, env.SEGMENTS_BUCKET, evaluator).catch((error: unknown) => {
      if (isDatabaseFailure(error)) throw error;
      throw unavailable("The filters of big segments cannot be read at the moment.");
    });
    return evaluator.evaluate(key, body.context as Context, null);
  },
});

export const targetings = [read, patch, put, instruct, turnOn, turnOff, evaluate];

async function respond(
  { body, deliveries }: Written<ShownTargeting>,
  requested: Requested<Path, unknown, { wait: number }>,
) {
  const { env, query } = requested;
  const environment = await environmentOf(requested);
  const way = deliveries[environment.environment] ?? (await catchUp(env, environment));
  const killed = await killedThere(env, environment, body);
  return { ...body, killed, ...(await withReceipt(env, environment, way, query.wait)) };
}

/** The hub's word on a kill; D1's, as `shown` has it, where the hub does not answer. */
async function killedThere(
  env: Env,
  environment: EnvironmentName,
  shown: ShownTargeting,
): Promise<ShownTargeting["killed"]> {
  const kills = await killsThere(env, environment);
  if (kills === null) return shown.killed;
  const state = Object.hasOwn(kills.killed, shown.flag) ? kills.killed[shown.flag] : undefined;
  if (state === undefined) return null;
  const { by, at, reason, seq } = state;
  return { by, at, reason, ...(kills.pending.some((record) => record.seq === seq) && { pending: true }) };
}
