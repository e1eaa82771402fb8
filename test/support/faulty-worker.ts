/**
 * The real Worker behind faulty bindings. `POST /__faults` sets them, `GET /__hung` tells how many calls they have made hang,
 * `GET /__calls` how often each part was called, `GET /__events` reads back what landed in R2 as NDJSON, `POST /__abort` ends a
 * hub or a relay where it stands. This entry is never deployed.
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

  /** As when its machine is lost: whatever it is doing ends, whatever it has not stored is gone. */
  abort(): void {
    this.ctx.abort("ended by a test");
  }
}

export class Relay extends RealRelay {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, withFaults(env));
  }

  /** As when its machine is lost: whatever it is doing ends, whatever it has not stored is gone. */
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
    if (new URL(request.url).pathname === "/__events") return new Response(await landedEvents(env.EVENTS_BUCKET));
    if (new URL(request.url).pathname === "/__abort") {
      const { binding, name } = (await request.json()) as { binding: "HUB" | "RELAY"; name: string };
      const objects = env[binding] as unknown as DurableObjectNamespace<Hub | Relay>;
      // It never answers: the call ends with it.
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

async function landedEvents(bucket: R2Bucket): Promise<string> {
  const { objects } = await bucket.list({ prefix: "events/" });
  const texts = objects.map(async ({ key }) => {
    const object = await bucket.get(key);
    const unpacked = object?.body.pipeThrough(new DecompressionStream("gzip"));
    return new Response(unpacked ?? null).text();
  });
  return (await Promise.all(texts)).join("");
}
