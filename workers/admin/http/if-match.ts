/** ETags of single resources, and If-Match: RFC 9110, 13.1.1. */
import { ApiError } from "../../platform/problem.ts";

export const etagOf = (version: number) => `"v${version}"`;

/** Strong comparison; without the header any version goes. */
export function isMatch(ifMatch: string | undefined, etag: string): boolean {
  if (ifMatch === undefined || ifMatch.trim() === "*") return true;
  return ifMatch.split(",").some((one) => one.trim() === etag);
}

/** `matches` is of a request: whether an ETag is one that its If-Match names. @throws ApiError 412 */
export function requireIfMatch({ matches }: { matches: (etag: string) => boolean }, etag: string): void {
  if (!matches(etag)) throw etagMismatch(etag);
}

/** `both`: what is there now, and what it would have become. */
export const etagMismatch = (etag: string, both: { current?: unknown; proposed?: unknown } = {}) =>
  new ApiError(412, "etag-mismatch", `It has changed since: it is ${etag} now.`, { etag, headers: { etag }, ...both });
