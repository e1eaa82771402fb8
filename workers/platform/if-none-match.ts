/** RFC 9110, 13.1.2: a list, compared weakly, since what is known is known however it was encoded; `*` is anything. */
export function isKnown(ifNoneMatch: string | null | undefined, etag: string): boolean {
  if (ifNoneMatch === null || ifNoneMatch === undefined) return false;
  if (ifNoneMatch === etag || ifNoneMatch.trim() === "*") return true;
  return ifNoneMatch.split(",").some((candidate) => opaque(candidate.trim()) === opaque(etag));
}

const opaque = (etag: string) => etag.replace(/^W\//, "");
