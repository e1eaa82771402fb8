/** What a change request can ask for: every write that a policy can hold up, by the same plan as the request itself. */
import { z } from "@hono/zod-openapi";
import { ApiError } from "../../../platform/problem.ts";
import type { AskedChange } from "../../../store/schema/index.ts";
import { planReverting, revert } from "../../audit/audit.ts";
import { planPromotion, promote } from "../../environments/promote.ts";
import { archive, planArchiving, planDeletion, planUnarchiving, remove, unarchive } from "../../flags/archive.ts";
import { change as bulk, planWholeBulk } from "../../flags/bulk.ts";
import * as flags from "../../flags/flags.ts";
import * as targeting from "../../flags/targeting.ts";
import { requireScope } from "../../http/access.ts";
import { planStart } from "../../planned/ramps/begin.ts";
import { begin } from "../../planned/ramps/ramps.ts";
import * as segments from "../../segments/segments.ts";
import type { Plan } from "../../write/plan.ts";
import type { Asked, Asking } from "../../write/request.ts";

type Sent<Body extends z.ZodType> = { content: { "application/json": { schema: Body } } };
type Route<Path extends z.ZodObject, Body extends z.ZodType, Query extends z.ZodType> = {
  request: { params: Path; query?: Query; body?: Sent<Body> };
};

/** How a request is answered, and not what it changes. */
const NOT_CARRIED = ["wait"];

/** By the operation's name in the OpenAPI document: a line here is all that an operation needs to be carried. */
const carried = {
  updateTargeting: carry(targeting.patch, targeting.planPatch),
  replaceTargeting: carry(targeting.put, targeting.planPut),
  editTargeting: carry(targeting.instruct, targeting.planInstructions),
  turnFlagOn: carry(targeting.turnOn, targeting.planTurnOn),
  turnFlagOff: carry(targeting.turnOff, targeting.planTurnOff),
  updateFlag: carry(flags.patch, flags.planPatch),
  archiveFlag: carry(archive, planArchiving),
  unarchiveFlag: carry(unarchive, planUnarchiving),
  deleteFlag: carry(remove, planDeletion),
  changeFlags: carry(bulk, planWholeBulk),
  updateSegment: carry(segments.patch, segments.planSegment),
  promoteChanges: carry(promote, planPromotion, "own"),
  revertAuditEntry: carry(revert, planReverting, "own"),
  createRamp: carry(begin, planStart, "own"),
};

/** `reach` as in `needs`: "own" where the plan itself looks at the caller's scope. */
function carry<Path extends z.ZodObject, Body extends z.ZodType = z.ZodObject, Query extends z.ZodType = z.ZodObject>(
  { request: { params, query, body } }: Route<Path, Body, Query>,
  plan: (asked: Asked<z.output<Path>, z.output<Body>, z.output<Query>>, now: number) => Promise<Plan<unknown>>,
  reach: "path" | "own" = "path",
) {
  const sent = body?.content["application/json"].schema ?? z.strictObject({});
  return {
    path: without(params, ["project"]),
    query: query === undefined ? undefined : without(query, NOT_CARRIED),
    body: without(sent, NOT_CARRIED),
    reach,
    // What is parsed by the schemas of a route is what its plan takes.
    plan: plan as unknown as (asked: Asked, now: number) => Promise<Plan<unknown>>,
  };
}

function without(schema: z.ZodType, names: string[]): z.ZodType {
  if (!(schema instanceof z.ZodObject)) return schema;
  return z.strictObject(Object.fromEntries(Object.entries(schema.shape).filter(([name]) => !names.includes(name))));
}

const isEmpty = (schema: z.ZodType) => schema instanceof z.ZodObject && Object.keys(schema.shape).length === 0;
const maybe = (schema: z.ZodType) => (schema.safeParse({}).success ? schema.optional() : schema);

/** What is asked for, in the words of the API. */
export type Change = AskedChange & { operation: keyof typeof carried };

const [first, ...others] = Object.entries(carried).map(([operation, { path, query, body }]) =>
  z.strictObject({
    operation: z.literal(operation),
    path: isEmpty(path) ? path.optional() : path,
    ...(query && !isEmpty(query) && { query: maybe(query) }),
    ...(!isEmpty(body) && { body: maybe(body) }),
  }),
);

export const change = z.discriminatedUnion("operation", [first!, ...others]).openapi("Change", {
  description:
    "A write as its own request would ask for it: the operation's name, the parameters of its path but the project, and its body",
  example: {
    operation: "updateSegment",
    path: { environment: "production", segment: "beta-testers" },
    body: { included: ["user-1"] },
  },
}) as unknown as z.ZodType<Change, Change>;

/** As the request itself would be, as it stands and by whoever has this scope. @throws ApiError what it would be answered. */
export async function planChange(
  { operation, path = {}, query = {}, body = {} }: Change,
  asked: Asking,
  project: string,
  now: number,
): Promise<Plan<unknown>> {
  const { reach, plan } = carried[operation];
  if (reach === "path") requireScope(asked.scope, project, path.environment as string | undefined, false);
  const planned = plan({ ...asked, path: { ...path, project }, query, body, matches: () => true }, now);
  return planned.catch((error: unknown) => {
    // Promotions and reverts tell of places in documents, all others of places in what was sent.
    throw reach === "path" && error instanceof ApiError ? placedInBody(error) : error;
  });
}

function placedInBody(error: ApiError): ApiError {
  const { status, code, message, extra } = error;
  const errors = extra.errors?.map((one) => ({ ...one, pointer: `/change/body${one.pointer}` }));
  return errors === undefined ? error : new ApiError(status, code, message, { ...extra, errors });
}
