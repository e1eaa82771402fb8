/** A Worker of yours that asks Bunting: by service binding in the same account, by address elsewhere. */
import { createClient, type WorkersClient } from "@bunting/sdk/workers";

type Env = { BUNTING?: Fetcher; BUNTING_URL?: string; BUNTING_SERVER_KEY: string };

// Shared by all requests of the isolate.
let bunting: WorkersClient | undefined;

export default {
  async fetch(request, env, ctx) {
    bunting ??= createClient({
      serverKey: env.BUNTING_SERVER_KEY,
      name: "shop",
      ...(env.BUNTING ? { binding: env.BUNTING } : { url: env.BUNTING_URL ?? "http://localhost:8787" }),
    });
    const flags = await bunting.forRequest(ctx);
    const user = new URL(request.url).searchParams.get("user") ?? "nobody";
    const { value, reason } = flags.details("new-checkout", false, { targetingKey: user });
    return Response.json({ user, "new-checkout": value, reason, revision: flags.status().revision });
  },
} satisfies ExportedHandler<Env>;
