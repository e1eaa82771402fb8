/** What every request goes through first: a correlation id, and a body that is bounded, JSON and harmless. */
import type { Context, MiddlewareHandler } from "hono";
import { ApiError, badRequest, type Mistake } from "../../platform/problem.ts";
import { parseJson, readText } from "../../platform/request-body.ts";
import { openDatabase } from "../../store/database.ts";
import { MAX_BODY_BYTES } from "../limits.ts";
import type { AdminEnv } from "./context.ts";
import { operationOf } from "./query.ts";
import { fieldsWithoutPlace, mistaken, pointer } from "./validation-errors.ts";

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

/** Members by the million: read as they come, a line at a time, and taken twice without harm. */
export const isUpload = (c: Context<AdminEnv>) =>
  c.req.method === "POST" && /\/segments\/[^/]+\/members$/.test(c.req.path);

/** Replaces the request by one whose body has been read and found good, so that all that follows sees plain JSON. */
export const bodyChecked: MiddlewareHandler<AdminEnv> = async (c, next) => {
  const { method, headers, url, body } = c.req.raw;
  if (method === "GET" || method === "HEAD" || isUpload(c)) return next();
  if (Number(headers.get("content-length")) > MAX_BODY_BYTES) await swallow(body);
  let text = await readText(body, MAX_BODY_BYTES, headers.get("content-length"));
  const type = headers.get("content-type");
  if (text !== "" || type !== null) requireJson(type);
  // Where all that a POST can say is optional, it may say nothing.
  if (text === "" && method === "POST") text = "{}";
  const clean = new Headers(headers);
  clean.delete("content-length");
  if (text === "" && method === "DELETE") clean.delete("content-type");
  else {
    const document = parseJson(text);
    if (typeof document !== "object" || document === null || Array.isArray(document)) {
      throw badRequest("The body must be a JSON object.", [
        { pointer: "", code: "invalid-type", message: "Not an object." },
      ]);
    }
    // A context is a customer's data: what is strange in it is missing, as it is to an SDK (EV-10).
    const mistakes = c.req.path.endsWith("/evaluate") ? [] : hostile(document, []);
    if (mistakes.length === 0 && !operationOf(c).hasBody) mistakes.push(...fieldsWithoutPlace(Object.keys(document)));
    if (mistakes.length > 0) throw mistaken("The body holds what JSON cannot carry safely.", mistakes);
    clean.set("content-type", "application/json");
  }
  c.req.raw = new Request(url, { method, headers: clean, body: text === "" ? null : text });
  await next();
};

/** A client that is cut off while it sends may never read why: what is not absurd is let in, and forgotten. */
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
function hostile(value: unknown, path: (string | number)[]): Mistake[] {
  const mistake = (code: string, message: string) => [{ pointer: pointer(path), code, message }];
  if (typeof value === "number") {
    return Number.isFinite(value) ? [] : mistake("number-too-large", "The number does not fit a 64-bit float.");
  }
  if (typeof value === "string") {
    return value.isWellFormed() ? [] : mistake("lone-surrogate", "Half of a character: not valid Unicode.");
  }
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item, index) => hostile(item, [...path, index]));
  return Object.entries(value).flatMap(([name, inner]) => {
    if (name === "__proto__") {
      return [{ pointer: pointer([...path, name]), code: "reserved-name", message: "A field cannot have this name." }];
    }
    if (!name.isWellFormed()) return mistake("lone-surrogate", "A field's name is not valid Unicode.");
    return hostile(inner, [...path, name]);
  });
}
