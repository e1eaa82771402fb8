/** What SDKs with a server key call: the ruleset, its streams, and events. */
import { type Context, Hono } from "hono";
import type { Env } from "../env.ts";
import { ApiError, badRequest, unavailable } from "../problem.ts";
import { authenticate, type Caller } from "./authenticate.ts";
import { acceptEvents } from "./events.ts";
import { filterResponse } from "./filters.ts";
import { FRESH_MS, notePoll, rulesetText } from "./isolate-ruleset.ts";
import { pastRuleset } from "./past-ruleset.ts";
import { limitReader } from "./read-limit.ts";
import { openEventStream, openSocket } from "./stream.ts";

/** Changes when the same revision would be answered in other words. */
const VIEW = "ruleset-1";
/** A revision of long ago may cost dozens of reads of R2 and 20 MB to parse. */
const HISTORIAN = { perSecond: 2, burst: 60 };

export const sdk = new Hono<{ Bindings: Env }>()
  .get("/ruleset", async (c) => {
    const caller = await authenticate(c, "server");
    if (c.req.query("exact") !== undefined) return exactly(c, caller, exactRevision(c.req.query("revision")));
    const { evaluator, checkedAt } = caller.ruleset;
    const etag = etagOf(caller, evaluator.revision);
    const polled = new RegExp(`"${VIEW}\\.${caller.environmentId}\\.(\\d{1,15})"`).exec(
      c.req.header("if-none-match") ?? "",
    );
    if (polled !== null) notePoll(caller.ruleset, Number(polled[1]));
    const headers: Record<string, string> = {
      etag,
      "cache-control": "private, max-age=0",
      vary: "authorization, x-api-key",
    };
    // The relay did not answer in time: what is served is the last that this isolate knows.
    if (Date.now() - checkedAt > 2 * FRESH_MS) headers["x-bunting-stale"] = String(Date.now() - checkedAt);
    if (matches(c.req.header("if-none-match"), etag)) return c.body(null, 304, headers);
    return c.body(rulesetText(caller.ruleset), 200, { ...headers, "content-type": "application/json" });
  })
  .get("/segments/:key/:generation", async (c) => {
    const { environmentId } = await authenticate(c, "server");
    return filterResponse(c.env, environmentId, c.req.param("key"), c.req.param("generation"));
  })
  .get("/stream", async (c) => openEventStream(await authenticate(c, "server"), c.req.raw))
  .get("/socket", async (c) => openSocket(await authenticate(c, "server"), c.req.raw))
  .post("/events", async (c) => {
    const { environmentId, grant, client }: Caller = await authenticate(c, "server");
    return acceptEvents(c.req.raw, c.env, {
      environmentId,
      keyId: grant.id,
      kind: grant.kind,
      clientHeader: `${client.sdk};instance=${client.instance};name=${client.name}`,
      now: Date.now(),
    });
  });

const etagOf = ({ environmentId }: Caller, revision: number) => `"${VIEW}.${environmentId}.${revision}"`;

function exactRevision(text: string | undefined): number {
  if (text !== undefined && /^\d{1,15}$/.test(text)) return Number(text);
  throw badRequest("exact asks for the revision that is named, and for no later one.", [
    { pointer: "/revision", code: "not-a-revision", message: "Send a revision: a whole number." },
  ]);
}

/** History: rebuilt for each who asks, so it has a limit of its own. Never changes once it is published. */
async function exactly(c: Context<{ Bindings: Env }>, caller: Caller, revision: number): Promise<Response> {
  const headers = { etag: etagOf(caller, revision), "cache-control": "private, max-age=0" };
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

function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((candidate) => candidate.trim().replace(/^W\//, "") === etag);
}
