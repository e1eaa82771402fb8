/** ETags: strong, and opaque to clients. Whatever an answer depends on is in its name, so that a 304 makes no answer. */
import type { Context } from "hono";
import { type IsolateRuleset, notePoll, staleness } from "./isolate-ruleset.ts";

/** `isWhole` is false where the same revision may be answered otherwise in a moment. */
export type Answer = { revision: number; text: string; isWhole: boolean };

/** 304, which costs no answer, or what `make` answers. */
export async function answerUnlessKnown(
  c: Context,
  ruleset: IsolateRuleset,
  etagAt: (revision: number) => string,
  make: () => Answer | Promise<Answer>,
): Promise<Response> {
  const headers: Record<string, string> = {
    "cache-control": "private, max-age=0",
    vary: "authorization, x-api-key",
    ...staleness(ruleset),
  };
  const etag = etagAt(ruleset.evaluator.revision);
  const had = revisionOfEtag(c.req.header("if-none-match"), ruleset.environmentId);
  if (had !== null) notePoll(ruleset, had);
  if (matches(c.req.header("if-none-match"), etag))
    return new Response(null, { status: 304, headers: { ...headers, etag } });
  // Meanwhile the ruleset may move on.
  const { revision, text, isWhole } = await make();
  if (isWhole) headers.etag = etagAt(revision);
  return c.body(text, 200, { ...headers, "content-type": "application/json" });
}

/** `view` changes when the same would be said in other words. */
export function etagOf(view: string, environmentId: string, revision: number, ...more: (string | number)[]): string {
  return `"${[view, environmentId, revision, ...more].join("|")}"`;
}

/** Of one of ours, by whichever way it came back. */
export function revisionOfEtag(etag: string | undefined, environmentId: string): number | null {
  if (etag === undefined) return null;
  const [, environment, revision = ""] = etag.split("|", 3);
  return environment === environmentId && /^\d{1,15}"?$/.test(revision) ? Number.parseInt(revision, 10) : null;
}

/** If-None-Match: a list, in which weak ones count too. */
export function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header === etag) return true;
  return header.split(",").some((candidate) => candidate.trim().replace(/^W\//, "") === etag);
}
