/** The shop of ../node by OpenFeature's API: BUNTING_SERVER_KEY=… npx node examples/openfeature-node/index.ts, then http://localhost:3000/?user=ada. */
import { createServer } from "node:http";
import { createClient } from "@bunting/sdk/node";
import { BuntingProvider } from "@bunting/sdk/openfeature-server";
import { OpenFeature, ProviderEvents } from "@openfeature/server-sdk";

const bunting = createClient({
  serverKey: process.env.BUNTING_SERVER_KEY ?? "",
  url: process.env.BUNTING_URL ?? "http://localhost:8787",
  name: "shop",
});

// Rejects where no flags came in time; the shop then opens with the defaults below, and has the flags once they are there.
await OpenFeature.setProviderAndWait(new BuntingProvider(bunting, { readyMs: 2_000 })).catch(() => {});

const features = OpenFeature.getClient();
features.addHandler(ProviderEvents.ConfigurationChanged, (details) => console.log("changed", details?.flagsChanged));

const server = createServer(async (request, response) => {
  const user = new URL(request.url ?? "/", "http://shop").searchParams.get("user") ?? "nobody";
  const context = { targetingKey: user, visitedAt: new Date() };
  const { value, variant, reason, flagMetadata } = await features.getBooleanDetails("new-checkout", false, context);
  if (value) features.track("checkout-opened", context);
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ user, "new-checkout": value, variant, reason, version: flagMetadata.flagVersion }));
});
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => console.log("open"));

process.once("SIGTERM", async () => {
  server.close();
  // Closes the client too, which sends what it has counted and tracked.
  await OpenFeature.close();
});
