/**
 * Why a flag answers what it does, for development: apart from the clients, so that nobody's bundle grows.
 *
 *     import { explain } from "@bunting/sdk/explain";
 *     console.log(explain(client, "new-checkout", { targetingKey: "user-42", plan: "free" }).steps.join("\n"));
 */
import type { Context, Decision, Evaluator, Json } from "@bunting/core";
import { explain as explainDecision } from "@bunting/core/explain";

export type Explanation = {
  decision: Decision;
  /** Sentences, in the order of evaluation. */
  steps: string[];
};

/**
 * Of a client that evaluates rules: `/node`, or `/workers` by `forRequest` or `client`. Takes up to a thousand times as
 * long as evaluating, counts nothing and makes no exposure. Steps show the context's values.
 */
export function explain(
  client: { readonly evaluator: Evaluator | null },
  key: string,
  context: Context = {},
  defaultValue: Json = null,
): Explanation {
  if (client.evaluator !== null) return explainDecision(client.evaluator, key, context, defaultValue);
  const decision: Decision = {
    value: defaultValue,
    variation: null,
    reason: "ERROR",
    errorCode: "FLAG_NOT_FOUND",
    flagVersion: 0,
  };
  return { decision, steps: ["the client has no ruleset yet: the caller's default is served"] };
}
