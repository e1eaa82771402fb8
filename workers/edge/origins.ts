import type { MiddlewareHandler } from "hono";
import type { KeyGrant } from "../store/changes.ts";

/** What a page may send, beside what it may always. */
const REQUEST_HEADERS =
  "authorization,x-api-key,content-type,content-encoding,if-none-match,last-event-id,cache-control,x-bunting-client";
/** What a page may read. */
const RESPONSE_HEADERS = "etag,retry-after,x-bunting-stale,x-correlation-id";

const PREFLIGHT = {
  "access-control-allow-origin": "*",
  "access-control-allow-methods": "GET,POST",
  "access-control-allow-headers": REQUEST_HEADERS,
  "access-control-max-age": "86400",
};

/**
 * Pages everywhere may ask: a preflight does not bring the key, and which origins may use it is the key's own business
 * (403, which a page can then read). No answer depends on cookies. Not Hono's `cors`, which makes a response beforehand
 * and copies it into each answer: that costs as much as the rest of a 304.
 */
export const fromAnyOrigin: MiddlewareHandler = async (c, next) => {
  if (c.req.method === "OPTIONS") return new Response(null, { status: 204, headers: PREFLIGHT });
  await next();
  c.res.headers.set("access-control-allow-origin", "*");
  c.res.headers.set("access-control-expose-headers", RESPONSE_HEADERS);
};

/** `origin` is null for what is no page: that is not to be told apart by origins. */
export const allowsOrigin = ({ kind, origins }: Pick<KeyGrant, "kind" | "origins">, origin: string | null): boolean =>
  kind !== "client" || origins.length === 0 || origin === null || origins.includes(origin);
