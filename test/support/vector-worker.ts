/** A customer's Worker that evaluates one conformance vector per request. */
import type { Context, Json } from "@bunting/core";
import { createClient, type WorkersClient } from "@bunting/sdk/workers";

type Env = { BUNTING_URL: string; BUNTING_SERVER_KEY: string };
const logger = { warn: () => {}, error: () => {} };
let bunting: WorkersClient | undefined;

export default {
  async fetch(request, env, ctx) {
    bunting ??= createClient({
      url: env.BUNTING_URL,
      serverKey: env.BUNTING_SERVER_KEY,
      events: false,
      cache: false,
      logger,
    });
    const { flag, context, defaultValue } = (await request.json()) as {
      flag: string;
      context: Context;
      defaultValue: Json;
    };
    await bunting.refresh(ctx);
    return Response.json(bunting.client.details(flag, defaultValue, context));
  },
} satisfies ExportedHandler<Env>;
