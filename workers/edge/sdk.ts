/** What SDKs with a server key call: the ruleset, its streams, and events. */
import { Hono } from "hono";
import type { Env } from "../env.ts";
import { authenticate, type Caller } from "./authenticate.ts";
import { acceptEvents } from "./events.ts";
import { filterResponse } from "./filters.ts";
import { FRESH_MS, rulesetText } from "./isolate-ruleset.ts";
import { openEventStream, openSocket } from "./stream.ts";

/** Changes when the same revision would be answered in other words. */
const VIEW = "ruleset-1";

export const sdk = new Hono<{ Bindings: Env }>()
  .get("/ruleset", async (c) => {
    const caller = await authenticate(c, "server");
    const { evaluator, checkedAt } = caller.ruleset;
    const etag = `"${VIEW}.${caller.environmentId}.${evaluator.revision}"`;
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

function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((candidate) => candidate.trim().replace(/^W\//, "") === etag);
}
