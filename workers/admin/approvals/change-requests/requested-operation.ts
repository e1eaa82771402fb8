/** What a change request can carry: every operation that is declared `requestable`, planned as if it were sent itself. */
import { ApiError } from "../../../platform/problem.ts";
import type { RequestedChange as Change } from "../../../store/schema/index.ts";
import { audit } from "../../audit/audit.ts";
import { promotions } from "../../environments/promote.ts";
import { flagArchive } from "../../flags/archive.ts";
import { flagBulk } from "../../flags/bulk.ts";
import { flags } from "../../flags/flags.ts";
import { targetings } from "../../flags/targeting.ts";
import { requireScope } from "../../http/access.ts";
import { z } from "../../http/zod.ts";
import type { Operation } from "../../operation.ts";
import { ramps } from "../../planned/ramps/ramps.ts";
import { segments } from "../../segments/segments.ts";
import type { Plan } from "../../write/plan.ts";
import type { Requester } from "../../write/request.ts";

const requestable = new Map(
  [targetings, flags, flagArchive, flagBulk, segments, promotions, audit, ramps]
    .flat()
    .filter((operation) => operation.requestable !== null)
    .map((operation) => [operation.id, operation]),
);

/** What a requested operation can be refused for, when it is planned anew. */
export const REQUESTED = [
  ...["changes-nothing", "archived", "not-archived", "rule-gone", "rule-exists", "in-use", "would-not-work"],
  ...["has-members", "already-exists", "not-revertible", "changed-since", "too-many-tags"],
  ...["killed", "flag-off", "ramp-at-work"],
] as const;
export const REQUESTED_SIZE = ["change-too-large", "ruleset-too-large"] as const;

export type { Change };

/** How a request is answered, and not what it changes. */
const NOT_REQUESTED = ["wait"];

function without(schema: z.ZodObject, names: string[]): z.ZodObject {
  return z.strictObject(Object.fromEntries(Object.entries(schema.shape).filter(([name]) => !names.includes(name))));
}

const isEmpty = (schema: z.ZodObject) => Object.keys(schema.shape).length === 0;
const maybe = (schema: z.ZodType) => (schema.safeParse({}).success ? schema.optional() : schema);

function shapeOf({ id, params, query, body }: Operation) {
  const path = without(params, ["project"]);
  const parameters = without(query, NOT_REQUESTED);
  const place: z.ZodType<Record<string, unknown> | undefined> = isEmpty(path) ? path.optional() : path;
  return z.strictObject({
    operation: z.literal(id),
    path: place,
    ...(!isEmpty(parameters) && { query: maybe(parameters) }),
    ...(body !== null && { body: maybe(body) }),
  });
}

const [first, ...others] = [...requestable.values()].map(shapeOf);

export const change = z.discriminatedUnion("operation", [first!, ...others]).openapi("Change", {
  description:
    "A write as its own request would have it: the operation's name, the parameters of its path but the project, and its body",
  example: {
    operation: "updateSegment",
    path: { environment: "production", segment: "beta-testers" },
    body: { included: ["user-1"] },
  },
});

/** As the request itself would be, as it stands and by whoever has this scope. @throws ApiError what it would be answered. */
export async function planChange(
  { operation: id, path = {}, query = {}, body = {} }: Change,
  requester: Requester,
  project: string,
  now: number,
): Promise<Plan<unknown>> {
  const operation = requestable.get(id);
  if (operation?.requestable == null) throw new Error(`A change request carries ${id}, which no operation is`);
  const { reach } = operation;
  if (reach === "path") requireScope(requester.scope, project, path.environment as string | undefined, false);
  const requested = { ...requester, path: { ...path, project }, query, body, matches: () => true };
  return operation.requestable(requested, now).catch((error: unknown) => {
    // Promotions and reverts name places in documents, all others places in what was sent.
    throw reach !== "own" && error instanceof ApiError ? placedInBody(error) : error;
  });
}

function placedInBody(error: ApiError): ApiError {
  const { status, code, message, extra } = error;
  const errors = extra.errors?.map((one) => ({ ...one, pointer: `/change/body${one.pointer}` }));
  return errors === undefined ? error : new ApiError(status, code, message, { ...extra, errors });
}
