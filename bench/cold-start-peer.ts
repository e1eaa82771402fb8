/** The Worker of a customer that bench/cold-start.ts starts again and again. */
import { createClient, type WorkersClient } from "@bunting/sdk/workers";

type Env = { BUNTING_URL: string; BUNTING_SERVER_KEY: string; CACHED: string };
let bunting: WorkersClient | undefined;

export default {
  async fetch(request, env, ctx) {
    const flag = new URL(request.url).searchParams.get("flag");
    if (flag === null) return new Response("no flags yet");
    bunting ??= createClient({
      serverKey: env.BUNTING_SERVER_KEY,
      url: env.BUNTING_URL,
      events: false,
      logger: { warn: () => {}, error: () => {} },
      ...(env.CACHED === "no" && { cache: false }),
    });
    const flags = await bunting.forRequest(ctx);
    const { value, reason } = flags.details(flag, null, { targetingKey: "user-42", plan: "pro", version: "1.2.3" });
    const { revision, source } = flags.status();
    return Response.json({ value, reason, revision, source });
  },
} satisfies ExportedHandler<Env>;
