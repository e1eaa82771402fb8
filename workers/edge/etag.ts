/** ETags: strong, and opaque to clients. An ETag holds everything that its answer depends on, so a 304 is decided without building the answer. */

import { isKnown } from "../platform/if-none-match.ts";
import type { Incoming } from "./router.ts";
import { notePoll, staleFor } from "./ruleset/cache.ts";
import type { IsolateRuleset } from "./ruleset/isolate-ruleset.ts";

/** `isWhole` is false where the same revision may be answered otherwise in a moment. */
export type Answer = { revision: number; text: string; isWhole: boolean };

/** 304, which costs no answer and waits for nothing, or what `make` answers. */
export function answerUnlessKnown(
  incoming: Incoming,
  ruleset: IsolateRuleset,
  etagAt: (revision: number) => string,
  make: () => Answer | Promise<Answer>,
): Response | Promise<Response> {
  const headers: Record<string, string> = { "cache-control": "private, max-age=0", vary: "authorization, x-api-key" };
  const staleMs = staleFor(ruleset);
  if (staleMs > 0) headers["x-bunting-stale"] = String(staleMs);
  const current = ruleset.evaluator.revision;
  const etag = etagAt(current);
  const known = incoming.headers.get("if-none-match");
  const had = known === etag ? current : revisionOfEtag(known, ruleset.environmentId);
  // One that was never answered is made up, and would be counted as a client that has a revision.
  if (had !== null && (known === etag || isKnown(known, etagAt(had)))) notePoll(ruleset, had);
  if (isKnown(known, etag)) {
    headers.etag = etag;
    return new Response(null, { status: 304, headers });
  }
  return answered(headers, etagAt, make);
}

async function answered(
  headers: Record<string, string>,
  etagAt: (revision: number) => string,
  make: () => Answer | Promise<Answer>,
): Promise<Response> {
  // Meanwhile the ruleset may move on.
  const { revision, text, isWhole } = await make();
  if (isWhole) headers.etag = etagAt(revision);
  headers["content-type"] = "application/json";
  return new Response(text, { headers });
}

/** Change `view` when the format of the answer changes. */
export function etagOf(view: string, environmentId: string, revision: number, ...more: (string | number)[]): string {
  return `"${[view, environmentId, revision, ...more].join("|")}"`;
}

/** The revision in one of our ETags, weak or strong. */
export function revisionOfEtag(etag: string | null, environmentId: string): number | null {
  if (etag === null) return null;
  const [, environment, revision = ""] = etag.split("|", 3);
  return environment === environmentId && /^\d{1,15}"?$/.test(revision) ? Number.parseInt(revision, 10) : null;
}
