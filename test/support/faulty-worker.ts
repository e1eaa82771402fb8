/**
 * The real Worker with faulty bindings, never deployed. `POST /__faults` sets the faults. `GET /__hung` returns how
 * many calls hang, `GET /__calls` how often each part was called, and `GET /__events` the events in R2 as NDJSON.
 * `POST /__abort` aborts a hub or a relay.
 */

import type { Env } from "../../workers/env.ts";
import type { QueuedEvents } from "../../workers/events/message.ts";
import worker, {
  BigSegment as RealBigSegment,
  Due as RealDue,
  Hub as RealHub,
  Relay as RealRelay,
} from "../../workers/index.ts";
import { calls, type Faults, hanging, setFaults, withFaults } from "./faults.ts";

export { RateLimiter, Timer, WriteLine } from "../../workers/index.ts";

export class Due extends RealDue {
  constructor(ctx: ExecutionContext, env: Env) {
    super(ctx, withFaults(env));
  }
}

export class Hub extends RealHub {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, withFaults(env));
  }

  /** Ends it as the loss of its machine does: without finishing, and without what it has not stored. */
  abort(): void {
    this.ctx.abort("ended by a test");
  }
}

export class Relay extends RealRelay {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, withFaults(env));
  }

  /** Ends it as the loss of its machine does: without finishing, and without what it has not stored. */
  abort(): void {
    this.ctx.abort("ended by a test");
  }
}

export class BigSegment extends RealBigSegment {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, withFaults(env));
  }
}

export default {
  async fetch(request, env, ctx) {
    if (new URL(request.url).pathname === "/__faults") {
      setFaults((await request.json()) as Faults);
      return new Response(null, { status: 204 });
    }
    if (new URL(request.url).pathname === "/__hung") return Response.json(hanging());
    if (new URL(request.url).pathname === "/__calls") return Response.json(calls);
    if (new URL(request.url).pathname === "/__events") return new Response(await storedEvents(env.EVENTS_BUCKET));
    if (new URL(request.url).pathname === "/__abort") {
      const { binding, name } = (await request.json()) as { binding: "HUB" | "RELAY"; name: string };
      const objects = env[binding] as unknown as DurableObjectNamespace<Hub | Relay>;
      // The call ends with the object, and so always fails.
      await objects
        .get(objects.idFromName(name))
        .abort()
        .catch(() => {});
      return new Response(null, { status: 204 });
    }
    return worker.fetch(request, withFaults(env), ctx);
  },
  queue: (batch, env) => worker.queue(batch, withFaults(env)),
  scheduled: (controller, env) => worker.scheduled(controller, withFaults(env)),
} satisfies ExportedHandler<Env, QueuedEvents>;

async function storedEvents(bucket: R2Bucket): Promise<string> {
  const { objects } = await bucket.list({ prefix: "events/" });
  const texts = objects.map(async ({ key }) => {
    const object = await bucket.get(key);
    const unpacked = object?.body.pipeThrough(new DecompressionStream("gzip"));
    return new Response(unpacked ?? null).text();
  });
  return (await Promise.all(texts)).join("");
}
