/** A shop on Node: BUNTING_SERVER_KEY=… npx node examples/node/index.ts, with `npm start` running; then http://localhost:3000/?user=ada. */
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { createClient } from "@bunting/sdk/node";

/** The flags of this application: a misspelt key, or a value of another type, does not compile. */
type Flags = { "new-checkout": boolean; "pricing-page": string };

const bunting = createClient<Flags>({
  serverKey: process.env.BUNTING_SERVER_KEY ?? "",
  url: process.env.BUNTING_URL ?? "http://localhost:8787",
  name: "shop",
  // A shop that starts while nothing can be reached has the flags of last time.
  cache: { directory: process.env.BUNTING_CACHE ?? tmpdir() },
});
bunting.on("change", ({ revision, flags }) => console.log(`revision ${revision} changed ${flags.join(", ")}`));

// Without flags in time the shop opens all the same, with the defaults below.
await bunting.ready({ timeoutMs: 2_000 });

const server = createServer((request, response) => {
  const user = new URL(request.url ?? "/", "http://shop").searchParams.get("user") ?? "nobody";
  const context = { targetingKey: user };
  const { value, reason } = bunting.details("new-checkout", false, context);
  const pricing = bunting.string("pricing-page", "table", context);
  if (value) bunting.track("checkout-opened", context);
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ user, "new-checkout": value, reason, "pricing-page": pricing }));
});
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => console.log("open"));

process.once("SIGTERM", async () => {
  server.close();
  // What has been counted and tracked is sent before the process ends.
  await bunting.close();
});
