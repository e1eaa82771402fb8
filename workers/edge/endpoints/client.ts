/** What browsers and phones call with a client key: values of the flags that are for them, streams of these, and events. */
import { VERSION, xxh32 } from "@bunting/core";
import { authenticate, type Caller } from "../authenticate.ts";
import { answerUnlessKnown, etagOf } from "../etag.ts";
import {
  contextInQuery,
  contextOf,
  MAX_CONTEXT_BYTES,
  MAX_STREAM_CONTEXT_BYTES,
  readContext,
} from "../evaluation-context.ts";
import { acceptEvents, senderOf } from "../events/intake.ts";
import { type Incoming, Plane } from "../router.ts";
import { filtersReady } from "../ruleset/segment-filters.ts";
import { refuseHead } from "../streams/ruleset-stream.ts";
import { openValueSocket, openValueStream } from "../streams/value-stream.ts";
import { valuesFor } from "../values.ts";

/** Changes when the same values would be said in other words. */
const VIEW = "values-2";

export const client = new Plane(
  "/client/v1",
  {
    "/flags": {
      GET: async (incoming) =>
        answerFlags(incoming, await authenticate(incoming, "client"), contextInQuery(incoming.request)),
      POST: async (incoming) => {
        const caller = await authenticate(incoming, "client");
        return answerFlags(incoming, caller, await readContext(incoming.request, MAX_CONTEXT_BYTES, true));
      },
    },
    "/stream": {
      GET: async (incoming) => {
        const { request } = incoming;
        refuseHead(request);
        const caller = await authenticate(incoming, "client");
        return openValueStream(caller, request, contextOf(contextInQuery(request)));
      },
      POST: async (incoming) => {
        const { request } = incoming;
        const caller = await authenticate(incoming, "client");
        return openValueStream(caller, request, contextOf(await readContext(request, MAX_STREAM_CONTEXT_BYTES, true)));
      },
    },
    "/socket": { GET: async (incoming) => openValueSocket(await authenticate(incoming, "client"), incoming.request) },
    "/events": {
      POST: async (incoming) =>
        acceptEvents(incoming.request, incoming.env, senderOf(await authenticate(incoming, "client"))),
    },
  },
  { forPages: true },
);

/** `body` is the context as it was sent. */
function answerFlags(
  incoming: Incoming,
  { ruleset, environmentId, visit }: Caller,
  body: string,
): Response | Promise<Response> {
  const hash = hashOf(body);
  return answerUnlessKnown(
    incoming,
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

/**
 * 64 bits that tell one client's contexts apart. No secret and no proof: whoever makes two contexts that collide has the
 * values of the one confirmed for the other, in a client that was its own to begin with. By chance that takes billions.
 */
const hashOf = (body: string): string => `${xxh32(body, 0).toString(36)}.${xxh32(body, 1).toString(36)}`;
