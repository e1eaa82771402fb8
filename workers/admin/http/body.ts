/** What every request goes through first: a correlation id, and a body that is bounded, JSON and harmless. */
import type { MiddlewareHandler } from "hono";
import { ApiError, badRequest, type ValidationError } from "../../platform/problem.ts";
import { parseJson, readText } from "../../platform/request-body.ts";
import { openDatabase } from "../../store/database.ts";
import { MAX_BODY_BYTES } from "../limits.ts";
import type { AdminContext, AdminEnv } from "./context.ts";
import { fieldsWithoutPlace, invalid, pointer } from "./validation-errors.ts";

export const traced =
  (now: () => number): MiddlewareHandler<AdminEnv> =>
  async (c, next) => {
    const given = c.req.header("x-correlation-id") ?? "";
    c.set("correlationId", /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID());
    c.set("now", now);
    c.set("db", openDatabase(c.env.DB));
    await next();
    c.res.headers.set("x-correlation-id", c.var.correlationId);
  };

type Body = { method: string; body: unknown; takesAnyJson?: boolean };

/** Empty where nothing is sent to a POST or a DELETE: all that it can say is optional. */
export type SentBody = { text: string; json: object };
const NOTHING: SentBody = { text: "", json: {} };

/** The body, bounded, well-formed and harmless. @throws ApiError 400, 413, 415 */
export async function readBody(c: AdminContext, operation: Body): Promise<SentBody> {
  const { headers, body } = c.req.raw;
  if (operation.method === "get") return NOTHING;
  if (Number(headers.get("content-length")) > MAX_BODY_BYTES) await swallow(body);
  const text = await readText(body, MAX_BODY_BYTES, headers.get("content-length"));
  const type = headers.get("content-type");
  const mayBeEmpty = operation.method === "post" || operation.method === "delete";
  if (text !== "" || (type !== null && operation.method !== "delete")) requireJson(type);
  if (text === "" && mayBeEmpty) return NOTHING;
  const json = parseJson(text);
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw badRequest("The body must be a JSON object.", [
      { pointer: "", code: "invalid-type", message: "Not an object." },
    ]);
  }
  const errors = operation.takesAnyJson === true ? [] : hostile(json, []);
  if (errors.length > 0) throw invalid("The body has names or values that are not accepted.", errors);
  const fields = Object.keys(json);
  if (operation.body === null && fields.length > 0) {
    throw invalid("This operation takes no body.", fieldsWithoutPlace(fields));
  }
  return { text, json };
}

/** Reads and discards a body that is too large, up to 16 times the limit: a client that is cut off while it sends may never read the answer. */
async function swallow(body: ReadableStream<Uint8Array> | null): Promise<void> {
  let left = 16 * MAX_BODY_BYTES;
  for await (const chunk of body ?? []) {
    left -= chunk.byteLength;
    if (left < 0) return;
  }
}

function requireJson(type: string | null): void {
  if (type === null || !/^application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new ApiError(415, "unsupported-media-type", "Send JSON, with Content-Type: application/json.");
  }
}

/** What would not come back as it was sent: numbers beyond doubles, half characters; and names that pollute. */
function hostile(value: unknown, path: (string | number)[]): ValidationError[] {
  const found = (code: string, message: string) => [{ pointer: pointer(path), code, message }];
  if (typeof value === "number") {
    return Number.isFinite(value) ? [] : found("number-too-large", "The number does not fit a 64-bit float.");
  }
  if (typeof value === "string") {
    return value.isWellFormed() ? [] : found("lone-surrogate", "Half of a character: not valid Unicode.");
  }
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item, index) => hostile(item, [...path, index]));
  return Object.entries(value).flatMap(([name, inner]) => {
    if (name === "__proto__") {
      return [{ pointer: pointer([...path, name]), code: "reserved-name", message: "A field cannot have this name." }];
    }
    if (!name.isWellFormed()) return found("lone-surrogate", "A field's name is not valid Unicode.");
    return hostile(inner, [...path, name]);
  });
}
