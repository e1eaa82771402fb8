/** The OpenAPI document: the shapes of the routes, and what holds for many of them without each saying so. */

import { MAX_REASON } from "../limits.ts";
import { BASE_PATH, type resource } from "./contract.ts";
import { isWrite, operations, pathExamples } from "./openapi-operations.ts";

type App = ReturnType<typeof resource>;
type Document = ReturnType<App["getOpenAPI31Document"]>;
type Item = NonNullable<Document["paths"]>[string];
type Described = NonNullable<Item["get"]>;

const METHODS = ["get", "put", "post", "patch", "delete"] as const;
type Method = (typeof METHODS)[number];

/** `now` is for examples of what is to come. */
export function describe(app: App, now: number): Document {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Bunting", version: "1", description: "The management plane: projects, flags, targeting, keys." },
    servers: [{ url: BASE_PATH }],
    security: [{ token: [] }],
  });
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const method of METHODS) {
      const described = item[method];
      if (described !== undefined) complete(described, method, path, now);
    }
  }
  const components = { ...document.components, parameters: sharedHeaders, headers: answerHeaders };
  return { ...document, components } as Document;
}

function complete(described: Described, method: Method, path: string, now: number): void {
  const { name, example, problems, ifMatch } = operations[`${method.toUpperCase()} ${path}`] ?? {};
  const writes = isWrite(method, path);
  const guarded = writes && (ifMatch ?? method !== "post");
  described.operationId ??= name ?? nameOf(method, path);
  const headers = ["X-Correlation-Id", ...(writes ? ["Idempotency-Key", "X-Bunting-Reason"] : [])];
  if (guarded) headers.push("If-Match");
  described.parameters = [
    ...(described.parameters ?? []).map((one) =>
      "in" in one && one.in === "path" && pathExamples[one.name] !== undefined
        ? { ...one, example: pathExamples[one.name] }
        : one,
    ),
    ...headers.map((header) => ({ $ref: `#/components/parameters/${header}` })),
  ];
  const body = described.requestBody;
  if (example !== undefined && body !== undefined && "content" in body) {
    const [content] = Object.values(body.content);
    if (content !== undefined) content.example = typeof example === "function" ? example(now) : example;
  }
  if (writes) describeDryRun(described);
  answers(described, sharedProblems(method, path, guarded, writes), problems ?? {}, writes);
}

/** What a write answers, as far as it is known before it is made, and under `dryRun` what would change. */
function describeDryRun(described: Described): void {
  const responses = described.responses as Record<string, { description: string; content?: Content }>;
  const [status = "200", response] = Object.entries(responses).find(([one]) => one.startsWith("2")) ?? [];
  const schema = response?.content?.["application/json"]?.schema;
  const isElse = status !== "200";
  const dryRun = {
    type: "object",
    properties: { dryRun: { $ref: "#/components/schemas/DryRun" } },
    ...(isElse && { required: ["dryRun"] }),
  };
  responses[200] = {
    description: isElse ? "Only for `?dryRun=true`: what would be" : (response?.description ?? ""),
    content: { "application/json": { schema: schema === undefined ? dryRun : { allOf: [schema, dryRun] } } },
  };
}

type Content = Record<string, { schema: object }>;

/** Of each status that can come, the codes that it comes with. */
function answers(described: Described, shared: Codes, own: Codes, writes: boolean): void {
  const responses: Record<string, object> = {};
  for (const [status, response] of Object.entries(described.responses ?? {})) {
    if (/^[45]/.test(status)) continue;
    const tagged = response as { headers?: object; content?: Record<string, object> };
    // A schema would be that of the whole body, which is many lines of JSON and not JSON.
    if (tagged.content?.["application/x-ndjson"]) tagged.content["application/x-ndjson"] = {};
    responses[status] = {
      ...response,
      headers: {
        ...tagged.headers,
        ...header("X-Correlation-Id"),
        ...header("ETag"),
        ...(writes && header("Idempotency-Replayed")),
      },
    };
  }
  for (const status of new Set([...Object.keys(shared), ...Object.keys(own)].map(Number))) {
    responses[status] = problem(status, [...(shared[status] ?? []), ...(own[status] ?? [])]);
  }
  described.responses = responses;
}

type Codes = Partial<Record<number, readonly string[]>>;

function sharedProblems(method: Method, path: string, guarded: boolean, writes: boolean): Codes {
  const kills = /\/(kill|restore)$/.test(path);
  return {
    400: ["invalid-request"],
    401: ["unauthenticated"],
    403: ["forbidden"],
    ...(path.includes("{") && { 404: ["not-found"] }),
    ...(guarded && { 412: ["etag-mismatch"] }),
    ...(method !== "get" && { 413: ["body-too-large"], 415: ["unsupported-media-type"] }),
    ...(writes && { 422: ["idempotency-key-reused"] }),
    ...(!kills && { 429: ["too-many-requests"] }),
    500: ["internal-error"],
    503: ["unavailable"],
  };
}

const header = (name: string) => ({ [name]: { $ref: `#/components/headers/${name}` } });

const problem = (status: number, codes: readonly string[]) => ({
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
          {
            type: "object",
            properties: { status: { const: status }, code: { enum: codes } },
          },
        ],
      },
    },
  },
});

const text = { type: "string" };
const inHeader = (name: string, description: string, schema: object = text) => ({
  [name]: { name, in: "header", required: false, description, schema },
});

const sharedHeaders = {
  ...inHeader(
    "X-Correlation-Id",
    "Comes back in the answer and stands in the audit log; one that is not sane is replaced",
    {
      ...text,
      pattern: "^[\\w.:-]{1,128}$",
    },
  ),
  ...inHeader("Idempotency-Key", "The first answer is given again for 24 hours; a dry run has none", {
    ...text,
    pattern: "^[\\x21-\\x7e]{1,255}$",
  }),
  ...inHeader("X-Bunting-Reason", "Why, for the audit log, where the body has no `reason`", {
    ...text,
    maxLength: MAX_REASON,
  }),
  ...inHeader("If-Match", "The ETag that it must still have; 412 otherwise"),
};

const answerHeaders = {
  "X-Correlation-Id": { description: "What the audit log knows the request by", schema: text },
  ETag: { description: "Of a single resource, for If-Match", schema: text },
  "Idempotency-Replayed": {
    description: "`true` where this Idempotency-Key was answered before: nothing was done now",
    schema: { const: "true" },
  },
  "Retry-After": { description: "Seconds", schema: { type: "integer" } },
  "WWW-Authenticate": { schema: text },
};

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
const camel = (words: string) =>
  words
    .split("-")
    .map((word, index) => (index === 0 ? word : capital(word)))
    .join("");
const one = (many: string) => capital(camel(many.replace(/ies$/, "y").replace(/s$/, "")));

/** `/flags/{flag}` with patch is updateFlag, `/flags` with get listFlags, `/flags/{flag}/archive` with post archiveFlag. */
function nameOf(method: Method, path: string): string {
  const parts = path.split("/").filter((part) => part !== "");
  const last = parts.at(-1) ?? "";
  const verbs = { get: "read", put: "replace", post: "create", patch: "update", delete: "delete" };
  if (last.startsWith("{")) return verbs[method] + one(parts.at(-2) ?? "");
  if (method === "get") return `${last.endsWith("s") ? "list" : "read"}${capital(camel(last))}`;
  if (last.endsWith("s")) return verbs[method] + one(last);
  return camel(last) + one(parts.findLast((_, index) => parts[index + 1]?.startsWith("{")) ?? "");
}
