/** Composition only: mounts the planes, wires queue and cron, re-exports the Durable Objects. */
import { WorkerEntrypoint } from "cloudflare:workers";
import { wakeAt } from "./admin/write/timer-client.ts";
import { client } from "./edge/endpoints/client.ts";
import { ofrep } from "./edge/endpoints/ofrep.ts";
import { sdk } from "./edge/endpoints/sdk.ts";
import { answerFrom, Incoming, Plane } from "./edge/router.ts";
import type { Env } from "./env.ts";
import { consume } from "./events/consumer.ts";
import { DEAD_LETTERS, keepDeadLetters } from "./events/dead-letters.ts";
import type { QueuedEvents } from "./events/message.ts";

export { Hub } from "../durable-objects/hub/hub.ts";
export { RateLimiter } from "../durable-objects/rate-limiter.ts";
export { Relay } from "../durable-objects/relay/relay.ts";
export { BigSegment } from "../durable-objects/segment/big-segment.ts";
export { Timer } from "../durable-objects/timer.ts";
export { WriteLine } from "../durable-objects/write-line/write-line.ts";

/** Evaluating management takes many times what the data plane takes: an isolate does it when it is asked for. */
const management = () => import("./admin/management.ts");

/** For the timer, which may not import what is due. */
export class Due extends WorkerEntrypoint<Env> {
  run(): Promise<number | null> {
    return runDue(this.env);
  }
}

const health = new Plane("", {
  "/healthz": { GET: () => Response.json({ status: "ok" }) },
  "/readyz": { GET: async ({ env }) => (await import("./readiness.ts")).readiness(env) },
});
const data = [sdk, client, ofrep, health];

export default {
  fetch: (request, env, ctx) => {
    const incoming = new Incoming(request, env, ctx);
    return incoming.path.startsWith("/api/")
      ? management().then((loaded) => loaded.management.fetch(request, env, ctx))
      : answerFrom(data, incoming);
  },
  queue: (batch, env) => (batch.queue === DEAD_LETTERS ? keepDeadLetters(batch, env) : consume(batch, env)),
  // Side by side: none waits for what another cannot reach.
  scheduled: async (controller, env) => {
    const [{ sweep }, { unlessUnmigrated }] = await Promise.all([import("./sweep.ts"), import("./readiness.ts")]);
    const due = runDue(env).then((at) => wakeAt(env, at));
    await Promise.all([sweep(env, controller.scheduledTime), due].map(unlessUnmigrated));
  },
} satisfies ExportedHandler<Env, QueuedEvents>;

const runDue = async (env: Env) => (await management()).runDue(env, Date.now);
