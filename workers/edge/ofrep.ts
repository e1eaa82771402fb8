/** OFREP: evaluation for whoever speaks OpenFeature over HTTP. Errors have the shape that protocol gives them. */
import type { Decision } from "@bunting/core";
import { Hono } from "hono";
import { cors } from "hono/cors";
import type { Env } from "../env.ts";
import { ApiError } from "../problem.ts";
import { readJson } from "../request-body.ts";
import { authenticate } from "./authenticate.ts";
import { filtersReady } from "./filters.ts";

const MAX_CONTEXT_BYTES = 256 * 1024;

/** OpenFeature's words for why (docs/evaluation.md, "The order"). OFREP's list is closed and has no DEFAULT. */
function openFeatureReason({ reason, bucket }: Decision): string {
  if (bucket !== undefined) return "SPLIT";
  switch (reason) {
    case "OFF":
    case "KILLED":
    case "PREREQUISITE_FAILED":
      return "DISABLED";
    case "TARGET_MATCH":
    case "RULE_MATCH":
      return "TARGETING_MATCH";
    case "FALLTHROUGH":
      return "UNKNOWN";
    default:
      return reason;
  }
}

export const ofrep = new Hono<{ Bindings: Env }>()
  .use(
    cors({
      origin: "*",
      allowHeaders: ["authorization", "x-api-key", "content-type", "if-none-match"],
      maxAge: 86_400,
    }),
  )
  .post("/evaluate/flags/:key", async (c) => {
    const key = c.req.param("key");
    const caller = await authenticate(c, "server", "client");
    const context = await contextOf(c.req.raw, key);
    await filtersReady(caller.visit, caller.ruleset);
    const { evaluator } = caller.ruleset;
    const flag = Object.hasOwn(evaluator.ruleset.flags, key) ? evaluator.ruleset.flags[key] : undefined;
    if (flag === undefined || (caller.grant.kind === "client" && !flag.clientSide)) {
      return c.json({ key, errorCode: "FLAG_NOT_FOUND", errorDetails: `There is no flag "${key}" for this key.` }, 404);
    }
    const decision = evaluator.evaluate(key, context, null);
    if (decision.reason === "ERROR") {
      const errorCode = decision.errorCode === "TARGETING_KEY_MISSING" ? decision.errorCode : "GENERAL";
      return c.json({ key, errorCode, errorDetails: `The flag cannot be evaluated: ${decision.errorCode}.` }, 400);
    }
    const metadata = {
      flagVersion: decision.flagVersion,
      revision: evaluator.revision,
      buntingReason: decision.reason,
    };
    const reason = openFeatureReason(decision);
    // An omitted value means the code's default: an off variation of null.
    if (decision.variation === null) return c.json({ key, reason, metadata });
    return c.json({ key, value: decision.value, variant: decision.variation, reason, metadata });
  });

async function contextOf(request: Request, key: string): Promise<Record<string, unknown>> {
  const refuse = (errorCode: string, errorDetails: string) =>
    new ApiError(400, errorCode.toLowerCase().replaceAll("_", "-"), errorDetails, { key, errorCode, errorDetails });
  let body: unknown;
  try {
    body = await readJson(request, MAX_CONTEXT_BYTES);
  } catch (error) {
    if (error instanceof ApiError && error.status === 400) throw refuse("PARSE_ERROR", error.message);
    throw error;
  }
  const context = isObject(body) ? body.context : undefined;
  if (!isObject(context)) throw refuse("INVALID_CONTEXT", 'The body must be {"context": {…}}.');
  const { targetingKey } = context;
  if (Object.hasOwn(context, "targetingKey") && (typeof targetingKey !== "string" || targetingKey === "")) {
    throw refuse("INVALID_CONTEXT", "The targetingKey must be a string that is not empty, or be left out.");
  }
  return context;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
