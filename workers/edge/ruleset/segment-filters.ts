/** Filters of big segments: handed to SDKs as they are, and held by isolates that evaluate. */

import type { Env } from "../../env.ts";
import { FILTER_READ_MS, within } from "../../platform/deadline.ts";
import { errorText } from "../../platform/error-text.ts";
import { notFound, unavailable } from "../../platform/problem.ts";
import { filterName } from "../../store/big-segments.ts";
import { evict } from "./cache.ts";
import type { IsolateRuleset, Visit } from "./isolate-ruleset.ts";

const YEAR_SECONDS = 31_536_000;
/** R2 failed a moment ago: not every request has to find that out. */
const RETRY_MS = 1_000;

/** A generation never changes: whoever has it need not ask again. */
export async function filterResponse(env: Env, environmentId: string, key: string, generation: string) {
  const what = `The filter ${generation} of the segment ${key}`;
  if (!/^\d{1,15}$/.test(generation)) throw notFound(what);
  const name = filterName({ environmentId, key }, Number(generation));
  const object = await within(env.SEGMENTS_BUCKET.get(name), FILTER_READ_MS, "R2").catch(() => {
    throw unavailable("The filters of big segments cannot be read at the moment.");
  });
  if (object === null) throw notFound(what);
  return new Response(object.body, {
    headers: {
      "content-type": "application/octet-stream",
      "content-length": String(object.size),
      "cache-control": `private, max-age=${YEAR_SECONDS}, immutable`,
      etag: object.httpEtag,
    },
  });
}

const fetching = new WeakMap<IsolateRuleset, { at: number; done: Promise<void> }>();

/**
 * What an evaluation needs beyond the ruleset. The first filter of a segment is waited for, a bounded time; while a later
 * one is on its way, the one before it answers. False where a segment cannot be answered yet: then the answers are for now.
 */
export async function filtersReady(visit: Visit, ruleset: IsolateRuleset): Promise<boolean> {
  const missing = ruleset.evaluator.missingFilters();
  if (missing.length === 0) return true;
  const known = fetching.get(ruleset);
  const done = known !== undefined && known.at > Date.now() - RETRY_MS ? known.done : fetchFilters(visit, ruleset);
  // The fetch may be another request's, which may end without it.
  if (!missing.some(({ first }) => first)) return true;
  await within(done, FILTER_READ_MS, "R2").catch(() => {});
  return !ruleset.evaluator.missingFilters().some(({ first }) => first);
}

function fetchFilters(visit: Visit, ruleset: IsolateRuleset): Promise<void> {
  const done = (async () => {
    for (const { segment, generation } of ruleset.evaluator.missingFilters()) {
      const name = filterName({ environmentId: ruleset.environmentId, key: segment }, generation);
      const object = await visit.env.SEGMENTS_BUCKET.get(name);
      if (object === null) continue;
      // By now the evaluator may be another.
      ruleset.evaluator.setFilter(segment, generation, new Uint8Array(await object.arrayBuffer()));
    }
    evict();
  })().catch((error: unknown) => {
    const message = "filters cannot be read";
    console.warn(
      JSON.stringify({ level: "warn", message, environment: ruleset.environmentId, error: errorText(error) }),
    );
  });
  fetching.set(ruleset, { at: Date.now(), done });
  visit.ctx.waitUntil(done);
  return done;
}
