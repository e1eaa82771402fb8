/** The Worker as deployed, and beside it `POST /__sql`: statements and their parameters, in one batch of D1. */
import worker from "../test/support/worker.ts";
import type { Env } from "../workers/env.ts";

export { BigSegment, Hub, RateLimiter, Relay, Timer, WriteLine } from "../test/support/worker.ts";

export default {
  ...worker,
  async fetch(
    request: Request<unknown, IncomingRequestCfProperties>,
    env: Env,
    ctx: ExecutionContext,
  ): Promise<Response> {
    if (new URL(request.url).pathname !== "/__sql") return worker.fetch(request, env, ctx);
    const asked = (await request.json()) as [sql: string, ...parameters: (string | number)[]][];
    const batch = asked.map(([sql, ...parameters]) => env.DB.prepare(sql).bind(...parameters));
    const answers = await env.DB.batch(batch);
    return Response.json(answers.map(({ results }) => results));
  },
};
