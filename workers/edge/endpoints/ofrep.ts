/** OFREP 0.3: evaluation for whoever speaks OpenFeature over HTTP. Errors have the shape that protocol gives them. */
import { type Decision, openFeatureReason } from "@bunting/core";
import { ApiError } from "../../platform/problem.ts";
import { authenticate, type Caller } from "../authenticate.ts";
import { answerUnlessKnown } from "../etag.ts";
import { contextOf, type EvaluationContext, readContext } from "../evaluation-context.ts";
import { decoded, type Incoming, Plane } from "../router.ts";
import { filtersReady } from "../ruleset/segment-filters.ts";
import { isVisible } from "../ruleset/visibility.ts";
import { bulkEtag, contextHashOf, dayOf, eventStreamPath, openRefetchStream } from "../streams/refetch-stream.ts";
import { refuseHead } from "../streams/ruleset-stream.ts";

export const ofrep = new Plane(
  "/ofrep/v1",
  {
    "/evaluate/flags": {
      POST: async (incoming) => {
        const caller = await authenticate(incoming, "server", "client");
        return inWordsOfOfrep({}, async () => answerAll(incoming, caller, await readContext(incoming.request)));
      },
    },
    // The rest of the path whatever it is: a client of OFREP's does not percent-encode keys.
    "/evaluate/flags/": {
      POST: async (incoming, rest) => {
        const key = decoded(rest);
        const caller = await authenticate(incoming, "server", "client");
        return inWordsOfOfrep({ key }, async () =>
          answerOne(caller, key, contextOf(await readContext(incoming.request))),
        );
      },
    },
    "/stream": {
      GET: (incoming) => {
        refuseHead(incoming.request);
        return openRefetchStream(incoming);
      },
    },
  },
  { forPages: true, problems: { type: "application/json", also: (errorDetails) => ({ errorDetails }) } },
);

/** What is wrong with a request, as OFREP's clients read it, beside what all our problems say. */
async function inWordsOfOfrep(about: { key?: string }, answer: () => Promise<Response>): Promise<Response> {
  try {
    return await answer();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 400) throw error;
    const errorCode = error.extra.errorCode ?? (error.code === "invalid-context" ? "INVALID_CONTEXT" : "PARSE_ERROR");
    const { status, code, message, extra } = error;
    throw new ApiError(status, code, message, { ...extra, ...about, errorCode });
  }
}

/** OFREP requires a targeting key of every context, though a flag may need none. */
function identified(context: EvaluationContext): EvaluationContext {
  const { targetingKey } = context;
  if (typeof targetingKey === "string" && targetingKey !== "") return context;
  const message = "The context has no targetingKey, which OFREP requires: send a string that is not empty.";
  throw new ApiError(400, "targeting-key-missing", message, {
    errorCode: "TARGETING_KEY_MISSING",
    errors: [{ pointer: "/context/targetingKey", code: "targeting-key-missing", message }],
  });
}

async function answerOne(
  { ruleset, grant, visit }: Caller,
  key: string,
  context: EvaluationContext,
): Promise<Response> {
  await filtersReady(visit, ruleset);
  const { evaluator } = ruleset;
  const flag = Object.hasOwn(evaluator.ruleset.flags, key) ? evaluator.ruleset.flags[key] : undefined;
  if (!isVisible(flag, grant.kind)) {
    const errorDetails = `There is no flag "${key}" for this key.`;
    return Response.json({ key, errorCode: "FLAG_NOT_FOUND", errorDetails }, { status: 404 });
  }
  const answer = inOfrep(key, evaluator.evaluate(key, identified(context), null));
  if ("errorCode" in answer) return Response.json(answer, { status: 400 });
  return Response.json({ ...answer, metadata: { ...answer.metadata, revision: evaluator.revision } });
}

/** `body` is the context as it was sent. */
async function answerAll(incoming: Incoming, caller: Caller, body: string): Promise<Response> {
  const { ruleset, environmentId, grant, visit } = caller;
  const contextHash = await contextHashOf(grant.id, body);
  const today = dayOf(Date.now());
  return answerUnlessKnown(
    incoming,
    ruleset,
    (revision) => bulkEtag(environmentId, revision, contextHash, today),
    async () => {
      const context = identified(contextOf(body));
      const isWhole = await filtersReady(visit, ruleset);
      const { evaluator } = ruleset;
      const { revision } = evaluator;
      const decisions = evaluator.all(context, { clientSide: grant.kind === "client" });
      const flags = Object.entries(decisions).map(([key, decision]) => inOfrep(key, decision));
      const requestUri = await eventStreamPath(caller, contextHash, today);
      // Without an origin: the provider then takes the one that it was given, and nobody's `Host` header is believed.
      const answer = { flags, metadata: { revision }, eventStreams: [{ type: "sse", endpoint: { requestUri } }] };
      return { revision, isWhole, text: JSON.stringify(answer) };
    },
  );
}

/** Metadata is flat, and says nothing that changes while the flag does not: clients compare it. */
function inOfrep(key: string, decision: Decision) {
  if (decision.reason === "ERROR") {
    const errorCode = decision.errorCode === "TARGETING_KEY_MISSING" ? decision.errorCode : "GENERAL";
    return { key, errorCode, errorDetails: `The flag cannot be evaluated: ${decision.errorCode}.` };
  }
  // OFREP's list of reasons is closed and has no DEFAULT.
  const word = openFeatureReason(decision);
  const reason = word === "DEFAULT" ? "UNKNOWN" : word;
  const metadata = { flagVersion: decision.flagVersion, buntingReason: decision.reason };
  // An omitted value means the code's default: an off variation of null.
  if (decision.variation === null) return { key, reason, metadata };
  return { key, value: decision.value, variant: decision.variation, reason, metadata };
}
