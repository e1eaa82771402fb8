/** The OpenAPI document: what operations declare, and what holds for many of them without each saying so. */
import { OpenAPIRegistry, OpenApiGeneratorV31, type RouteConfig } from "@asteasolutions/zod-to-openapi";
import { MAX_REASON } from "../limits.ts";
import type { Operation } from "../operation.ts";
import { BASE_PATH, namesIn, problem } from "./contract.ts";
import { z } from "./zod.ts";

type Document = ReturnType<OpenApiGeneratorV31["generateDocument"]>;
type Responses = RouteConfig["responses"];
type Codes = Partial<Record<number, readonly string[]>>;

/** What stands in a path, in the examples. */
const pathExamples: Record<string, string> = {
  project: "demo",
  environment: "production",
  flag: "new-checkout",
  segment: "beta-testers",
  member: "user-1",
  policy: "payments",
};

/** `now` is for examples of what is to come; `preview`: what an answer to `?dryRun=true` has beside. */
export function describe(operations: readonly Operation[], preview: z.ZodType, now: number): Document {
  const registry = new OpenAPIRegistry();
  registry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  registry.register("Problem", problem);
  for (const operation of operations) registry.registerPath(entryOf(operation, preview, now));
  const document = new OpenApiGeneratorV31(registry.definitions).generateDocument({
    openapi: "3.1.0",
    info: { title: "Bunting", version: "1", description: "The management plane: projects, flags, targeting, keys." },
    servers: [{ url: BASE_PATH }],
    security: [{ token: [] }],
  });
  const components = { ...document.components, parameters: sharedHeaders, headers: answerHeaders };
  return { ...document, components };
}

function entryOf(operation: Operation, preview: z.ZodType, now: number): RouteConfig {
  const { id, method, path, tag, summary, description, isWrite, ifMatch, conditional, parameters } = operation;
  const headers = ["X-Correlation-Id", ...(isWrite ? ["Idempotency-Key", "X-Bunting-Reason"] : [])];
  if (ifMatch) headers.push("If-Match");
  if (conditional === true) headers.push("If-None-Match");
  return {
    operationId: id,
    method,
    path,
    tags: [tag],
    summary,
    ...(description !== undefined && { description }),
    parameters: headers.map((header) => ({ $ref: `#/components/parameters/${header}` })),
    request: { params: paramsWithExamples(operation), query: parameters, ...bodyOf(operation, now) },
    responses: { ...answers(operation, preview), ...problems(operation) },
  };
}

function paramsWithExamples({ params, path }: Operation): z.ZodObject {
  const named = namesIn(path).map((name) => {
    const schema: z.ZodType = params.shape[name];
    const example = pathExamples[name];
    return [name, example === undefined ? schema : schema.openapi({ param: { example } })] as const;
  });
  return z.object(Object.fromEntries(named));
}

function bodyOf({ body, upload, example, isWrite, method }: Operation, now: number): RouteConfig["request"] {
  const sent = typeof example === "function" ? example(now) : example;
  const media = sent === undefined ? {} : { example: sent };
  if (upload !== undefined) {
    const { description, types } = upload;
    const lines = z.string().openapi({ description: "One member a line" });
    return {
      body: {
        required: true,
        description,
        content: Object.fromEntries(types.map((type) => [type, { schema: lines, ...media }])),
      },
    };
  }
  // All that a DELETE can say is its reason, which its header says as well.
  if (body === null || (isWrite && method === "delete")) return {};
  return {
    body: { required: isRequired(method, body), content: { "application/json": { schema: body, ...media } } },
  };
}

/** A PATCH or a PUT without a body is more likely an error than a wish to change nothing. */
const isRequired = (method: string, body: z.ZodType) =>
  method === "patch" || method === "put" || !body.safeParse({}).success;

/** What a write answers, as far as it is known before it is made, and under `preview` what it would do. */
function answers(
  { status, answer, answerType, returns, isWrite, conditional }: Operation,
  preview: z.ZodType,
): Responses {
  const type = answerType ?? "application/json";
  const headers = {
    ...header("X-Correlation-Id"),
    ...header("ETag"),
    ...(isWrite && header("Idempotency-Replayed")),
  };
  const answered = (description: string, schema: z.ZodType | null) => ({
    description,
    headers,
    // Where it is many lines of JSON, a schema would be that of the whole.
    ...(schema !== null && { content: { [type]: type === "application/json" ? { schema } : {} } }),
  });
  if (!isWrite) {
    const same = conditional === true && { 304: { description: "It is what If-None-Match names still", headers } };
    return { [status]: answered(returns, answer ?? z.string()), ...same };
  }
  if (status === 200 && answer !== null) {
    return {
      200: answered(returns, hasPreview(answer) ? answer : answer.and(z.object({ preview: preview.optional() }))),
    };
  }
  const would = answer !== null && hasPreview(answer) ? answer : z.object({ preview });
  return {
    [status]: answered(returns, answer),
    200: answered(
      "Only for `?dryRun=true`: what would be",
      answer === null || would === answer ? would : answer.and(would),
    ),
  };
}

/** What is planned for later has a preview whether it is a dry run or not. */
const hasPreview = (answer: z.ZodType) => answer instanceof z.ZodObject && Object.hasOwn(answer.shape, "preview");

/** Of each status that can come, the codes that it comes with. */
function problems(operation: Operation): Responses {
  const shared = sharedProblems(operation);
  const own = operation.problems ?? {};
  const statuses = new Set([...Object.keys(shared), ...Object.keys(own)].map(Number));
  return Object.fromEntries(
    [...statuses].map((status) => [status, problemOf(status, [...(shared[status] ?? []), ...(own[status] ?? [])])]),
  );
}

const sharedProblems = ({ method, path, ifMatch, isWrite, withoutDatabase }: Operation): Codes => ({
  400: ["invalid-request"],
  401: ["unauthenticated"],
  403: ["forbidden"],
  ...(path.includes("{") && { 404: ["not-found"] }),
  ...(ifMatch && { 412: ["etag-mismatch"] }),
  ...(method !== "get" && { 413: ["body-too-large"], 415: ["unsupported-media-type"] }),
  ...(isWrite && { 422: ["idempotency-key-reused"] }),
  ...(withoutDatabase !== true && { 429: ["too-many-requests"] }),
  500: ["internal-error"],
  503: ["unavailable", "not-migrated"],
});

const header = (name: string) => ({ [name]: { $ref: `#/components/headers/${name}` } });

const problemOf = (status: number, codes: readonly string[]) => ({
  description: codes.join(", "),
  headers: {
    ...header("X-Correlation-Id"),
    ...((status === 429 || status === 503) && header("Retry-After")),
    ...(status === 412 && header("ETag")),
    ...(status === 401 && header("WWW-Authenticate")),
  },
  content: {
    "application/problem+json": {
      schema: {
        allOf: [
          { $ref: "#/components/schemas/Problem" },
          { type: "object" as const, properties: { status: { const: status }, code: { enum: [...codes] } } },
        ],
      },
    },
  },
});

const text = { type: "string" as const };
const inHeader = (name: string, description: string, more: { pattern?: string; maxLength?: number } = {}) => ({
  [name]: { name, in: "header" as const, required: false, description, schema: { ...text, ...more } },
});

const sharedHeaders = {
  ...inHeader(
    "X-Correlation-Id",
    "Comes back in the answer and stands in the audit log; one that is not sane is replaced",
    { pattern: "^[\\w.:-]{1,128}$" },
  ),
  ...inHeader(
    "Idempotency-Key",
    "The first answer is given again for 24 hours, marked by `Idempotency-Replayed`; a dry run has none",
    {
      pattern: "^[\\x21-\\x7e]{1,255}$",
    },
  ),
  ...inHeader("X-Bunting-Reason", "Why, for the audit log, where the body has no `reason`", {
    maxLength: MAX_REASON,
  }),
  ...inHeader("If-Match", "The ETag that it must still have; 412 otherwise"),
  ...inHeader("If-None-Match", "ETags that are known: 304 while it has one of them"),
};

const answerHeaders = {
  "X-Correlation-Id": { description: "What the audit log knows the request by", schema: text },
  ETag: { description: "Of a single resource, for If-Match; of a list, for If-None-Match", schema: text },
  "Idempotency-Replayed": {
    description: "`true` where this Idempotency-Key was answered before: nothing was done now",
    schema: { const: "true" },
  },
  "Retry-After": { description: "Seconds", schema: { type: "integer" as const } },
  "WWW-Authenticate": { schema: text },
};
