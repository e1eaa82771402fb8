/** Every error an API of ours can answer with: RFC 9457 problem details with a stable `code`. */
import { errorStack, errorText } from "./error-text.ts";

export type ValidationError = { pointer: string; code: string; message: string };

type Extra = { errors?: ValidationError[]; headers?: Record<string, string>; [field: string]: unknown };

/** Thrown by handlers, turned into a response in one place (`problemResponse`). */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly extra: Extra;

  constructor(status: number, code: string, detail: string, extra: Extra = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.extra = extra;
  }
}

const titles: Record<number, string> = {
  400: "Bad request",
  401: "Not authenticated",
  403: "Not allowed",
  404: "Not found",
  405: "Method not allowed",
  409: "Conflict",
  412: "Precondition failed",
  413: "Content too large",
  414: "URL too long",
  415: "Unsupported media type",
  422: "Unprocessable",
  429: "Too many requests",
  500: "Internal error",
  503: "Unavailable",
};

/** The media type, and members that go beside the usual ones, made of the error's sentence. */
export type ProblemForm = { type: string; also: (detail: string) => object };

const PROBLEM: ProblemForm = { type: "application/problem+json", also: () => ({}) };

export function problemResponse(error: unknown, correlationId: string, { type, also } = PROBLEM): Response {
  const known = error instanceof ApiError ? error : internal(error, correlationId);
  const { headers, ...members } = known.extra;
  const body = {
    type: `urn:bunting:problem:${known.code}`,
    title: titles[known.status] ?? "Error",
    status: known.status,
    code: known.code,
    detail: known.message,
    ...also(known.message),
    ...members,
    correlationId,
  };
  return new Response(JSON.stringify(body), {
    status: known.status,
    headers: { "content-type": type, "x-correlation-id": correlationId, ...headers },
  });
}

/** What went wrong inside is logged and never told. */
function internal(error: unknown, correlationId: string): ApiError {
  console.error(JSON.stringify({ level: "error", correlationId, error: errorText(error), stack: errorStack(error) }));
  return new ApiError(
    500,
    "internal-error",
    "Something failed on our side. Quote the correlation id when you report it.",
  );
}

export const badRequest = (detail: string, errors?: ValidationError[]) =>
  new ApiError(400, "invalid-request", detail, errors === undefined ? {} : { errors });

export const unauthenticated = (detail: string) =>
  new ApiError(401, "unauthenticated", detail, { headers: { "www-authenticate": 'Bearer realm="bunting"' } });

export const forbidden = (detail: string) => new ApiError(403, "forbidden", detail);

export const methodNotAllowed = (allowed: string[]) =>
  new ApiError(405, "method-not-allowed", `This route takes ${allowed.join(", ")}.`, {
    headers: { allow: allowed.join(", ") },
  });

export const notFound = (what: string) => new ApiError(404, "not-found", `${what} does not exist.`);

export const conflict = (code: string, detail: string, extra: Extra = {}) => new ApiError(409, code, detail, extra);

export const tooLarge = (limit: string) => new ApiError(413, "body-too-large", `The body is larger than ${limit}.`);

export const tooMany = (retryAfterSeconds: number, detail: string, extra: Extra = {}) =>
  new ApiError(429, "too-many-requests", detail, { ...extra, headers: { "retry-after": String(retryAfterSeconds) } });

export const unavailable = (detail: string, retryAfterSeconds = 2) =>
  new ApiError(503, "unavailable", detail, { headers: { "retry-after": String(retryAfterSeconds) } });
