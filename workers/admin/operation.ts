/**
 * An operation of the management API, declared once. Its route, its entry in the OpenAPI document, 405s, the checks of its
 * path, query and body, `?dryRun`, `reason`, Idempotency-Key, rate limit and place among what a change request may carry
 * all follow from the declaration.
 */
import type { Role } from "../store/schema/index.ts";
import type { Reach } from "./http/access.ts";
import type { AdminContext } from "./http/context.ts";
import { namesIn, reason } from "./http/contract.ts";
import { valuesOf } from "./http/query.ts";
import { parsed } from "./http/validation-errors.ts";
import { z } from "./http/zod.ts";
import type { Plan } from "./write/plan.ts";
import { type Requested, requestOf } from "./write/request.ts";
import { type Written, write } from "./write/write.ts";
import type { WritePlace } from "./write/write-line-client.ts";

type Method = "get" | "post" | "put" | "patch" | "delete";
type Status = 200 | 201 | 202 | 204;

type NamesIn<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}` ? Name | NamesIn<Rest> : never;
type ValuesOf<Path extends string, Params extends z.ZodRawShape> = {
  [name in NamesIn<Path>]: name extends keyof Params ? z.output<Params[name]> : string;
};

/** What an operation says of itself, whatever it takes and answers. */
type Common = {
  /** Its name in the OpenAPI document, for generated clients and for change requests. */
  id: string;
  method: Method;
  tag: string;
  summary: string;
  description?: string;
  role: Role;
  /** Which part of a token's scope it needs; by its path unless said otherwise. */
  reach?: Reach;
  /** 200 unless said otherwise; 204 has no body. */
  status?: Status;
  /** One sentence about the answer. */
  returns: string;
  /** A body that is accepted as it stands, after those of the operations before it: a test sends them all. */
  example?: object | string | ((now: number) => object);
  /** Codes beside those that every operation shares, by status. */
  problems?: Partial<Record<number, readonly string[]>>;
  /** Whether If-Match is heeded: by every PATCH, PUT and DELETE, unless said otherwise. */
  ifMatch?: boolean;
  /** A POST that only computes: it has no `?dryRun`, no Idempotency-Key and no reason. */
  isRead?: boolean;
  /** It works without D1: no rate limit delays it, and the hub itself remembers its Idempotency-Key. */
  withoutDatabase?: boolean;
  /** The bootstrap secret may be sent for it. */
  bootstrap?: boolean;
  /** The body is a customer's data: what is strange in it counts as missing, as it does in an SDK (EV-10). */
  takesAnyJson?: boolean;
  /** The body is not JSON, and is read by the handler as it arrives. Such an upload is safe to repeat. */
  upload?: { description: string; types: readonly string[] };
  /** What the answer is, where it is not JSON. */
  answerType?: string;
  /** A GET that heeds If-None-Match, and then answers 304. */
  conditional?: boolean;
};

type Input<Path extends string, Params, Query extends z.ZodType, Body extends z.ZodType, Answer extends z.ZodType> = {
  path: Path;
  /** Of those parameters of the path that are more than text. */
  params?: Params;
  query?: Query;
  body?: Body;
  answer?: Answer;
};

type Of<Values, Query extends z.ZodType, Body extends z.ZodType> = Requested<Values, z.output<Body>, z.output<Query>>;

/** What is written, decided without writing it. */
type Planner<Values, Query extends z.ZodType, Body extends z.ZodType, Result> = (
  requested: Of<Values, Query, Body>,
  now: number,
) => Promise<Plan<Result>>;

type Planned<Values, Query extends z.ZodType, Body extends z.ZodType, Answer extends z.ZodType, Result> = {
  plan: Planner<Values, Query, Body, Result>;
  /** Whose writes it waits for, where its path does not say so. */
  place?: (requested: Of<Values, Query, Body>) => Promise<WritePlace | null>;
  /** What is answered once it is written. */
  respond: (
    written: Written<Result>,
    requested: Of<Values, Query, Body>,
    c: AdminContext,
  ) => z.input<Answer> | Promise<z.input<Answer>>;
};

type Behaviour<Values, Query extends z.ZodType, Body extends z.ZodType, Answer extends z.ZodType, Result> = (
  | {
      /** What it answers; a Response is sent as it is. */
      handle: (requested: Of<Values, Query, Body>, c: AdminContext) => Promise<z.input<Answer> | Response>;
    }
  | Planned<Values, Query, Body, Answer, Result>
) & {
  /** A change request can carry it, and is planned by this. */
  requestable?: Planner<Values, Query, Body, unknown>;
};

/** An operation as the router, the OpenAPI document and change requests see it. */
export type Operation = Common & {
  path: string;
  params: z.ZodObject;
  query: z.ZodObject;
  /** Also with `dryRun`, where it writes. */
  parameters: z.ZodObject;
  /** Also with `reason`, where it writes. Null: it takes no JSON. */
  body: z.ZodType | null;
  answer: z.ZodType | null;
  status: Status;
  reach: Reach;
  isWrite: boolean;
  ifMatch: boolean;
  /** `json`: the body. */
  handle(c: AdminContext, json: object): Promise<Response>;
  /** `requested` has passed `params`, `query` and `body`. */
  requestable: ((requested: Requested, now: number) => Promise<Plan<unknown>>) | null;
};

const dryRun = z.enum(["true", "false"]).default("false").openapi({
  description: "`true` checks the write and answers what it would do, under `preview`. Nothing is written.",
});

const nothing = z.object({});

export function operation<
  Path extends string,
  Params extends z.ZodRawShape = Record<never, never>,
  Query extends z.ZodObject = typeof nothing,
  Body extends z.ZodType = typeof nothing,
  Answer extends z.ZodType = z.ZodNull,
  Result = unknown,
>(
  declared: Common &
    Input<Path, Params, Query, Body, Answer> &
    Behaviour<ValuesOf<Path, Params>, Query, Body, Answer, Result>,
): Operation {
  type Values = ValuesOf<Path, Params>;
  const { method, path, status = 200, reach = "path", answer = null } = declared;
  const isWrite = method !== "get" && declared.isRead !== true;
  const params = paramsIn(path, declared.params ?? {});
  const query = declared.query ?? nothing;
  const body = isWrite && declared.upload === undefined ? withReason(declared.body) : (declared.body ?? null);
  const hasOwnReason = declared.body instanceof z.ZodObject && Object.hasOwn(declared.body.shape, "reason");

  /** As it was checked. `reason` goes to the audit log and is no field of what is written, unless the body says so itself. */
  function typed(requested: Requested): Of<Values, Query, Body> {
    const { path, query } = requested;
    const fields: unknown = hasOwnReason ? requested.body : without(requested.body, "reason");
    return { ...requested, path: path as Values, query: query as z.output<Query>, body: fields as z.output<Body> };
  }

  async function answered(requested: Of<Values, Query, Body>, c: AdminContext) {
    if (!("plan" in declared)) return declared.handle(requested, c);
    const { plan, place, respond } = declared;
    const written = await write(c, (now) => plan(requested, now), await place?.(requested));
    return respond(written, requested, c);
  }

  async function handle(c: AdminContext, json: object): Promise<Response> {
    const path = parsed(params, c.req.param(), "path:");
    const sent = parsed(query, valuesOf(c), "query:");
    const fields = body === null ? {} : parsed(body, json);
    if (isWrite) c.set("reason", reasonIn(fields) ?? c.var.reason);
    const requested = typed(requestOf(c, path, fields, sent));
    const result = await answered(requested, c);
    if (result instanceof Response) return result;
    return status === 204 ? c.body(null, 204) : c.json(result, status);
  }

  const { requestable } = declared;
  return {
    ...declared,
    params,
    query,
    parameters: isWrite ? query.extend({ dryRun }) : query,
    body,
    answer,
    status,
    reach,
    isWrite,
    ifMatch: isWrite && (declared.ifMatch ?? method !== "post"),
    handle,
    requestable: requestable === undefined ? null : (requested, now) => requestable(typed(requested), now),
  };
}

const paramsIn = (path: string, more: z.ZodRawShape) =>
  z.object({ ...Object.fromEntries(namesIn(path).map((name) => [name, z.string().min(1)])), ...more });

/** A schema that is not of one object, such as a union, names `reason` itself. */
function withReason(body: z.ZodType = z.strictObject({})): z.ZodType {
  if (!(body instanceof z.ZodObject) || Object.hasOwn(body.shape, "reason")) return body;
  return body.safeExtend({ reason: reason.optional() });
}

const reasonIn = (fields: unknown): string | undefined => {
  const { reason = undefined } = fields as { reason?: unknown };
  return typeof reason === "string" ? reason : undefined;
};

function without(fields: unknown, name: string): unknown {
  if (typeof fields !== "object" || fields === null || !Object.hasOwn(fields, name)) return fields;
  return Object.fromEntries(Object.entries(fields).filter(([key]) => key !== name));
}
