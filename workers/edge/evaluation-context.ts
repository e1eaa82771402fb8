/** Evaluation contexts from strangers: bounded, and told from what is none. */
import { ApiError } from "../platform/problem.ts";
import { parseJson, readJsonText } from "../platform/request-body.ts";

export type EvaluationContext = Record<string, unknown>;

/** UTF-8 bytes of the body. */
export const MAX_CONTEXT_BYTES = 256 * 1024;
/** A stream keeps its context in memory for as long as it lives. */
export const MAX_STREAM_CONTEXT_BYTES = 64 * 1024;
/** Of the JSON. URLs end up in logs and histories, and proxies cut long ones: for plain EventSource only. */
const MAX_QUERY_CONTEXT_BYTES = 4 * 1024;

/** The text as it was sent, by which an answer can be recognised without parsing it; `contextOf` reads it. */
export const readContext = (request: Request, maxBytes = MAX_CONTEXT_BYTES, fromPages = false): Promise<string> =>
  readJsonText(request, maxBytes, fromPages);

/** Of a body `{"context": {…}}`. 400 with a pointer for what is no context; what is odd inside it is evaluation's business (EV-10). */
export const contextOf = (body: string): EvaluationContext => checkContext(parseJson(body));

export function checkContext(body: unknown): EvaluationContext {
  const context = isObject(body) ? body.context : undefined;
  if (!isObject(context)) throw invalid("/context", 'The body must be {"context": {…}}.');
  return context;
}

/** `?context=`, base64url of a context's JSON; as the body that a POST would have. */
export function contextInQuery(request: Request): string {
  const encoded = new URL(request.url).searchParams.get("context");
  if (encoded === null) throw invalid("/context", "Send the context as ?context=, base64url of its JSON, or use POST.");
  if (encoded.length > Math.ceil((MAX_QUERY_CONTEXT_BYTES * 4) / 3) + 2) throw tooLong();
  if (!/^[\w-]*={0,2}$/.test(encoded)) throw invalid("/context", "The context must be base64url: A–Z a–z 0–9 - _.");
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(encoded.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    throw invalid("/context", "The context must be base64url, whole.");
  }
  if (bytes.byteLength > MAX_QUERY_CONTEXT_BYTES) throw tooLong();
  try {
    return `{"context":${new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)}}`;
  } catch {
    throw invalid("/context", "The context must be UTF-8.");
  }
}

const tooLong = () =>
  new ApiError(414, "context-too-long", 'A context in a URL has at most 4 KB. Send it by POST, as {"context": {…}}.');

function invalid(pointer: string, message: string): ApiError {
  return new ApiError(400, "invalid-context", message, { errors: [{ pointer, code: "invalid-context", message }] });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
