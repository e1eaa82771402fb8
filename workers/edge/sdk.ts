/** What SDKs with a server key call: the ruleset, its streams, and events. */
import { type Context, Hono } from "hono";
import type { Env } from "../env.ts";
import { ApiError, unavailable } from "../problem.ts";
import { authenticate, type Caller, notARevision, revisionIn } from "./authenticate.ts";
import { answerUnlessKnown, etagOf, matches } from "./etag.ts";
import { acceptEvents, senderOf } from "./events.ts";
import { filterResponse } from "./filters.ts";
import { rulesetText } from "./isolate-ruleset.ts";
import { refuseOtherMethods } from "./methods.ts";
import { pastRuleset } from "./past-ruleset.ts";
import { limitReader } from "./read-limit.ts";
import { openEventStream, openSocket } from "./stream.ts";

/** Changes when the same revision would be answered in other words. */
const VIEW = "ruleset-1";
/** A revision of long ago may cost dozens of reads of R2 and 20 MB to parse. */
const HISTORIAN = { perSecond: 2, burst: 60 };

const routes = new Hono<{ Bindings: Env }>()
  .get("/ruleset", async (c) => {
    const caller = await authenticate(c, "server");
    if (c.req.query("exact") !== undefined) return exactly(c, caller);
    const { ruleset } = caller;
    return answerUnlessKnown(c, ruleset, etagIn(caller), () => ({
      revision: ruleset.evaluator.revision,
      text: rulesetText(ruleset),
      isWhole: true,
    }));
  })
  .get("/segments/:key/:generation", async (c) => {
    const { environmentId } = await authenticate(c, "server");
    return filterResponse(c.env, environmentId, c.req.param("key"), c.req.param("generation"));
  })
  .get("/stream", async (c) => openEventStream(await authenticate(c, "server"), c.req.raw))
  .get("/socket", async (c) => openSocket(await authenticate(c, "server"), c.req.raw))
  .post("/events", async (c) => acceptEvents(c.req.raw, c.env, senderOf(await authenticate(c, "server"))));

export const sdk = refuseOtherMethods(routes);

const etagIn = (caller: Caller) => (revision: number) => etagOf(VIEW, caller.environmentId, revision);

/** History: rebuilt for each who asks, so it has a limit of its own. Never changes once it is published. */
async function exactly(c: Context<{ Bindings: Env }>, caller: Caller): Promise<Response> {
  const revision = revisionIn(c.req.query("revision") ?? null, "revision");
  if (revision === null) throw notARevision("revision");
  const headers = { etag: etagIn(caller)(revision), "cache-control": "private, max-age=0" };
  if (matches(c.req.header("if-none-match"), headers.etag)) return c.body(null, 304, headers);
  const { ruleset, environmentId, keyHash } = caller;
  await limitReader(c.env, keyHash, "history", HISTORIAN);
  const isCurrent = ruleset.evaluator.revision === revision;
  const text = isCurrent
    ? rulesetText(ruleset)
    : await pastRuleset(c.env, environmentId, revision).catch((error: unknown) => {
        console.warn(JSON.stringify({ level: "warn", message: "no history", environmentId, error: String(error) }));
        throw unavailable("History cannot be read at the moment.", 5);
      });
  if (text === null)
    throw new ApiError(404, "unknown-revision", `Revision ${revision} was never published, or is no longer kept.`);
  return c.body(text, 200, { ...headers, "content-type": "application/json" });
}
