/** What browsers and phones call with a client key: values of the flags that are for them, streams of these, and events. */
import { VERSION } from "@bunting/core";
import { type Context, Hono } from "hono";
import type { Env } from "../env.ts";
import { sha256 } from "../store/credentials.ts";
import { authenticate, type Caller } from "./authenticate.ts";
import { openValueSocket, openValueStream } from "./client-stream.ts";
import { contextInQuery, contextOf, MAX_STREAM_CONTEXT_BYTES, readContext } from "./context.ts";
import { answerUnlessKnown, etagOf } from "./etag.ts";
import { acceptEvents, senderOf } from "./events.ts";
import { filtersReady } from "./filters.ts";
import { refuseOtherMethods } from "./methods.ts";
import { fromAnyOrigin } from "./origins.ts";
import { refuseHead } from "./stream.ts";
import { valuesFor } from "./values.ts";

/** Changes when the same values would be said in other words. */
const VIEW = "values-1";

const routes = new Hono<{ Bindings: Env }>()
  .use(fromAnyOrigin)
  .get("/flags", async (c) => answerFlags(c, await authenticate(c, "client"), contextInQuery(c.req.raw)))
  .post("/flags", async (c) => {
    const caller = await authenticate(c, "client");
    return answerFlags(c, caller, await readContext(c.req.raw));
  })
  .get("/stream", async (c) => {
    refuseHead(c.req.raw);
    const caller = await authenticate(c, "client");
    return openValueStream(caller, c.req.raw, contextOf(contextInQuery(c.req.raw)));
  })
  .post("/stream", async (c) => {
    const caller = await authenticate(c, "client");
    return openValueStream(caller, c.req.raw, contextOf(await readContext(c.req.raw, MAX_STREAM_CONTEXT_BYTES)));
  })
  .get("/socket", async (c) => openValueSocket(await authenticate(c, "client"), c.req.raw))
  .post("/events", async (c) => acceptEvents(c.req.raw, c.env, senderOf(await authenticate(c, "client"))));

export const client = refuseOtherMethods(routes);

/** `body` is the context as it was sent. */
async function answerFlags(c: Context, { ruleset, environmentId, visit }: Caller, body: string): Promise<Response> {
  const hash = await sha256(body);
  return answerUnlessKnown(
    c,
    ruleset,
    (revision) => etagOf(VIEW, environmentId, revision, VERSION, hash),
    async () => {
      const context = contextOf(body);
      const isWhole = await filtersReady(visit, ruleset);
      const { revision } = ruleset.evaluator;
      return { revision, isWhole, text: JSON.stringify({ flags: valuesFor(ruleset, context), revision }) };
    },
  );
}
