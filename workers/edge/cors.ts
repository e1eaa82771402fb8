import { isAllowedOrigin } from "../platform/origin.ts";
import type { KeyGrant } from "../store/outbox/change.ts";

/** What a page may send, beside what it may always. Tracing adds its headers to every request of a page. */
const REQUEST_HEADERS =
  "authorization,x-api-key,content-type,content-encoding,if-none-match,last-event-id,cache-control,x-bunting-client,traceparent,tracestate,baggage";
/** What a page may read. */
const RESPONSE_HEADERS = "etag,retry-after,x-bunting-stale,x-correlation-id";

/**
 * Pages everywhere may ask: a preflight does not bring the key, and which origins may use it is the key's own business
 * (403, which a page can then read). No answer depends on cookies.
 */
const PREFLIGHT = {
  "access-control-allow-origin": "*",
  "access-control-allow-methods": "GET,POST",
  "access-control-allow-headers": REQUEST_HEADERS,
  "access-control-max-age": "86400",
};

export const preflight = () => new Response(null, { status: 204, headers: PREFLIGHT });

export function letPagesRead(headers: Headers): void {
  headers.set("access-control-allow-origin", "*");
  headers.set("access-control-expose-headers", RESPONSE_HEADERS);
}

type Origins = Pick<KeyGrant, "kind" | "origins">;

export const hasOrigins = ({ kind, origins }: Origins): boolean => kind === "client" && origins.length > 0;

/** `origin` is null for what is no page: that is not to be told apart by origins. */
export const allowsOrigin = (grant: Origins, origin: string | null): boolean =>
  !hasOrigins(grant) || origin === null || isAllowedOrigin(grant.origins, origin);
