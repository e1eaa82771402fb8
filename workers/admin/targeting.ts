/** How one environment serves a flag. */
import { type Context, compile, type Flag, references } from "@bunting/core";
import { createRoute, z } from "@hono/zod-openapi";
import { conflict, notFound, unavailable } from "../problem.ts";
import { addBigSegments } from "../store/big-segments.ts";
import { LostRace } from "../store/changes.ts";
import type { EnvironmentName } from "../store/credentials.ts";
import { isDatabaseFailure } from "../store/database.ts";
import { closure, dependencyStatements, flagDocument } from "../store/documents.ts";
import { flagIn, killedFlags, updateConfiguration } from "../store/flags.ts";
import { needs } from "./access.ts";
import { difference, isEmpty } from "./audit-diff.ts";
import { type AdminContext, body, json, problems, reason, resource, targetingPath, waitQuery } from "./contract.ts";
import { type TargetingInput, targeting as targetingBody } from "./documents.ts";
import { environmentOf } from "./environments.ts";
import { shownTargeting, targeting, writtenTargeting } from "./flag-shape.ts";
import { catchUp, withReceipt } from "./hubs.ts";
import { requireMeaning } from "./meaning.ts";
import { mistaken } from "./mistakes.ts";
import { rulesOf, serveOf, splitMistakes, toldServe } from "./splits.ts";
import { etagOf, requireMatch, write } from "./write.ts";

const path = "/projects/{project}/flags/{flag}/environments/{environment}" as const;

const edit = { params: targetingPath, query: waitQuery(0) };
const written = { 200: json(writtenTargeting, "The whole configuration, and its way to the clients"), ...problems };
const becauseOf = z.strictObject({ reason: reason.optional() });

const read = createRoute({
  method: "get",
  path,
  tags: ["targeting"],
  summary: "Read how an environment serves a flag",
  middleware: needs("viewer"),
  request: { params: targetingPath },
  responses: { 200: json(targeting, "The configuration"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path,
  tags: ["targeting"],
  summary: "Change the fields that are sent",
  middleware: needs("editor"),
  request: { ...edit, ...body(targetingBody.partial().extend({ reason: reason.optional() })) },
  responses: written,
});

const put = createRoute({
  method: "put",
  path,
  tags: ["targeting"],
  summary: "Replace the whole configuration; lists that are left out are emptied",
  middleware: needs("editor"),
  request: {
    ...edit,
    ...body(
      targetingBody
        .partial({ prerequisites: true, targets: true, rules: true, trackExposures: true })
        .extend({ reason: reason.optional() }),
    ),
  },
  responses: written,
});

const turnOn = createRoute({
  method: "post",
  path: `${path}/on`,
  tags: ["targeting"],
  summary: "Turn a flag on",
  middleware: needs("editor"),
  request: { ...edit, ...body(becauseOf) },
  responses: written,
});

const turnOff = createRoute({
  method: "post",
  path: `${path}/off`,
  tags: ["targeting"],
  summary: "Turn a flag off: an ordinary edit, unlike a kill",
  middleware: needs("editor"),
  request: { ...edit, ...body(becauseOf) },
  responses: written,
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

const evaluate = createRoute({
  method: "post",
  path: `${path}/evaluate`,
  tags: ["targeting"],
  summary: "What a context is served, and why",
  middleware: needs("viewer"),
  request: { params: targetingPath, ...body(z.strictObject({ context })) },
  responses: {
    200: json(
      z.object({
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
      "The decision",
    ),
    ...problems,
  },
});

export const targetings = resource()
  .openapi(read, async (c) => {
    const environment = await environmentOf(c);
    const { flag, configuration, kill } = await flagThere(c, environment);
    c.header("etag", etagOf(configuration.version));
    return c.json(shownTargeting(environment, flagDocument(flag, configuration), kill), 200);
  })
  .openapi(patch, async (c) => {
    const { reason, ...fields } = c.req.valid("json");
    return c.json(await editTargeting(c, fields, c.req.valid("query").wait, reason), 200);
  })
  .openapi(put, async (c) => {
    const { reason, ...fields } = c.req.valid("json");
    const whole = { prerequisites: [], targets: [], rules: [], trackExposures: false, ...fields };
    return c.json(await editTargeting(c, whole, c.req.valid("query").wait, reason), 200);
  })
  .openapi(turnOn, async (c) => {
    return c.json(await editTargeting(c, { on: true }, c.req.valid("query").wait, c.req.valid("json").reason), 200);
  })
  .openapi(turnOff, async (c) => {
    return c.json(await editTargeting(c, { on: false }, c.req.valid("query").wait, c.req.valid("json").reason), 200);
  })
  .openapi(evaluate, async (c) => {
    const { flag: key } = c.req.valid("param");
    const environment = await environmentOf(c);
    const [found, killed] = await Promise.all([
      closure(c.var.db, environment.id, { flags: [key], segments: [] }),
      killedFlags(c.var.db, environment.id),
    ]);
    if (found === null || !Object.hasOwn(found.ruleset.flags, key)) throw notFound(`The flag ${key}`);
    for (const flag of Object.values(found.ruleset.flags)) flag.killed = killed.has(flag.key);
    const evaluator = compile(found.ruleset);
    await addBigSegments(c.var.db, c.env.SEGMENTS_BUCKET, evaluator).catch((error: unknown) => {
      if (isDatabaseFailure(error)) throw error;
      throw unavailable("The filters of big segments cannot be read at the moment.");
    });
    return c.json(evaluator.evaluate(key, c.req.valid("json").context as Context, null), 200);
  });

/** One edit of one flag in one environment, put on top of whatever is there when it lands. */
async function editTargeting(
  c: AdminContext,
  fields: Partial<TargetingInput>,
  waitMs: number,
  reason: string | undefined,
) {
  const { db } = c.var;
  const environment = await environmentOf(c);
  const done = await write(
    c,
    async (now) => {
      const { flag: key = "" } = c.req.param() as { flag?: string };
      // All that the new document can depend on: what the old one does, and what the fields name.
      const named = references({ ...fields, rules: fields.rules ?? [] } as Parameters<typeof references>[0]);
      const found = await closure(db, environment.id, { flags: [key, ...named.flags], segments: named.segments });
      // After the head that the edit is put on top of: a flag deleted and made again since then makes it lose its race.
      const { flag: row, kill } = await flagThere(c, environment);
      if (row.archivedAt !== null) throw conflict("archived", `The flag ${key} is archived.`);
      const before = found?.ruleset.flags[key];
      if (found === null || before === undefined) throw new LostRace();
      requireMatch(c, etagOf(before.version));
      requireWeights(before, fields);
      const next = applied(before, fields);
      const changes = difference(told(before), told(next));
      if (isEmpty(changes)) {
        return { status: 200, body: shownTargeting(environment, before, kill), etag: etagOf(before.version) };
      }
      next.version = before.version + 1;
      const warnings = requireMeaning({ kind: "flag", document: next }, found.ruleset);
      const { version, on, offVariation, prerequisites, targets, rules, fallthrough, trackExposures } = next;
      const configuration = { version, on, offVariation, prerequisites, targets, rules, fallthrough, trackExposures };
      return {
        status: 200,
        body: { ...shownTargeting(environment, next, kill), ...(warnings.length > 0 && { warnings }) },
        etag: etagOf(version),
        write: {
          statements: [
            updateConfiguration(db, environment.id, row.id, { ...configuration, updatedAt: now }),
            ...dependencyStatements(db, environment.id, "flag", row.key, references(next)),
          ],
          edits: [{ name: environment, head: found.head, documents: { flags: { [row.key]: next } } }],
          audit: {
            action: "flag.update",
            type: "flag",
            project: environment.project,
            environment: environment.environment,
            key: row.key,
            changes,
          },
        },
      };
    },
    reason,
  );
  const way = done.deliveries[environment.environment] ?? (await catchUp(c.env, environment));
  return { ...done.body, ...(await withReceipt(c.env, environment, way, waitMs)) };
}

function applied(before: Flag, { rules, fallthrough, ...plain }: Partial<TargetingInput>): Flag {
  return {
    ...before,
    ...(plain as Partial<Flag>),
    ...(rules && { rules: rulesOf(rules, before) }),
    ...(fallthrough && { fallthrough: serveOf(fallthrough, before.fallthrough, before) }),
  };
}

const told = (flag: Flag) => ({
  ...flag,
  rules: flag.rules.map((rule) => ({ ...rule, serve: toldServe(rule.serve) })),
  fallthrough: toldServe(flag.fallthrough),
});

function requireWeights(flag: Flag, { rules = [], fallthrough }: Partial<TargetingInput>): void {
  const mistakes = [
    ...rules.flatMap((rule, index) => splitMistakes(rule.serve, ["rules", index, "serve"], flag.variations)),
    ...(fallthrough === undefined ? [] : splitMistakes(fallthrough, ["fallthrough"], flag.variations)),
  ];
  if (mistakes.length > 0) throw mistaken("The weights do not fit the flag; each mistake is listed.", mistakes);
}

async function flagThere(c: AdminContext, environment: EnvironmentName) {
  const { flag: key = "" } = c.req.param() as { flag?: string };
  const found = await flagIn(c.var.db, environment.projectId, environment.id, key);
  if (found === null) throw notFound(`The flag ${key}`);
  return found;
}
