import { cors } from "hono/cors";

/**
 * Pages everywhere may ask: a preflight does not bring the key, and which origins may use it is the key's own business
 * (403, which a page can then read). No answer depends on cookies.
 */
export const fromAnyOrigin = () =>
  cors({
    origin: "*",
    allowMethods: ["GET", "POST"],
    allowHeaders: [
      "authorization",
      "x-api-key",
      "content-type",
      "content-encoding",
      "if-none-match",
      "last-event-id",
      "cache-control",
      "x-bunting-client",
    ],
    exposeHeaders: ["etag", "retry-after", "x-bunting-stale", "x-correlation-id"],
    maxAge: 86_400,
  });
