/** What SDKs with a server key call: the ruleset, its streams, and events. */
import { isKnown } from "../../platform/if-none-match.ts";
import { ApiError, notFound, unavailable } from "../../platform/problem.ts";
import { authenticate, type Caller, notARevision, revisionIn } from "../authenticate.ts";
import { answerUnlessKnown, etagOf } from "../etag.ts";
import { acceptEvents, senderOf } from "../events/intake.ts";
import { limitReader } from "../read-limit.ts";
import { decoded, type Incoming, Plane } from "../router.ts";
import { rulesetText } from "../ruleset/cache.ts";
import { pastRuleset } from "../ruleset/past-revision.ts";
import { filterResponse } from "../ruleset/segment-filters.ts";
import { openEventStream, openSocket } from "../streams/ruleset-stream.ts";

/** Changes when the same revision would be answered in other words. */
const VIEW = "ruleset-1";
/** A revision of long ago may cost dozens of reads of R2 and 20 MB to parse. */
const HISTORIAN = { perSecond: 2, burst: 60 };

export const sdk = new Plane("/sdk/v1", {
  "/ruleset": {
    GET: async (incoming) => {
      const caller = await authenticate(incoming, "server");
      if (incoming.query("exact") !== null) return exactly(incoming, caller);
      const { ruleset } = caller;
      return answerUnlessKnown(incoming, ruleset, etagIn(caller), () => ({
        revision: ruleset.evaluator.revision,
        text: rulesetText(ruleset),
        isWhole: true,
      }));
    },
  },
  "/segments/": {
    GET: async (incoming, rest) => {
      const [key = "", generation = "", ...more] = rest.split("/");
      if (key === "" || generation === "" || more.length > 0) throw notFound(`The filter ${rest}`);
      const { environmentId } = await authenticate(incoming, "server");
      return filterResponse(incoming.env, environmentId, decoded(key), decoded(generation));
    },
  },
  "/stream": { GET: async (incoming) => openEventStream(await authenticate(incoming, "server"), incoming.request) },
  "/socket": { GET: async (incoming) => openSocket(await authenticate(incoming, "server"), incoming.request) },
  "/events": {
    POST: async (incoming) =>
      acceptEvents(incoming.request, incoming.env, senderOf(await authenticate(incoming, "server"))),
  },
});

const etagIn = (caller: Caller) => (revision: number) => etagOf(VIEW, caller.environmentId, revision);

/** History: rebuilt for each who asks, so it has a limit of its own. Never changes once it is published. */
async function exactly(incoming: Incoming, caller: Caller): Promise<Response> {
  const revision = revisionIn(incoming.query("revision"), "revision");
  if (revision === null) throw notARevision("revision");
  const headers = { etag: etagIn(caller)(revision), "cache-control": "private, max-age=0" };
  if (isKnown(incoming.headers.get("if-none-match"), headers.etag)) return new Response(null, { status: 304, headers });
  const { ruleset, environmentId, keyHash } = caller;
  // No instance's name begins so: what is sent for one has no semicolon.
  limitReader(incoming, keyHash, ";history", HISTORIAN);
  const isCurrent = ruleset.evaluator.revision === revision;
  const text = isCurrent
    ? rulesetText(ruleset)
    : await pastRuleset(incoming.env, environmentId, revision).catch((error: unknown) => {
        console.warn(JSON.stringify({ level: "warn", message: "no history", environmentId, error: String(error) }));
        throw unavailable("History cannot be read at the moment.", 5);
      });
  if (text === null)
    throw new ApiError(404, "unknown-revision", `Revision ${revision} was never published, or is no longer kept.`);
  return new Response(text, { headers: { ...headers, "content-type": "application/json" } });
}
