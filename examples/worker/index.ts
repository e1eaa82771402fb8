/** A Worker of yours that asks Bunting: by service binding in the same account, by address elsewhere. */
import { createClient, type WorkersClient } from "@bunting/sdk/workers";

type Env = { BUNTING?: Fetcher; BUNTING_URL?: string; BUNTING_SERVER_KEY: string; FLAGS_KV?: KVNamespace };

// Shared by all requests of the isolate.
let bunting: WorkersClient | undefined;

export default {
  async fetch(request, env, ctx) {
    bunting ??= createClient({
      serverKey: env.BUNTING_SERVER_KEY,
      name: "shop",
      ...(env.BUNTING ? { binding: env.BUNTING } : { url: env.BUNTING_URL ?? "http://localhost:8787" }),
      // For isolates that start while Bunting cannot be reached: a namespace of yours, else the Cache API.
      ...(env.FLAGS_KV && { cache: { kv: env.FLAGS_KV } }),
    });
    const flags = await bunting.forRequest(ctx);
    const user = new URL(request.url).searchParams.get("user") ?? "nobody";
    const { value, reason } = flags.details("new-checkout", false, { targetingKey: user });
    const { revision, source, stale } = flags.status();
    return Response.json({ user, "new-checkout": value, reason, revision, source, stale });
  },
} satisfies ExportedHandler<Env>;
