/** The Worker and, beside it in the same isolate, the floor: a Worker that says hello. */
import worker from "../test/support/worker.ts";

export { BigSegment, Hub, RateLimiter, Relay, Timer, WriteLine } from "../test/support/worker.ts";

export default {
  ...worker,
  fetch(request: Request, ...rest: unknown[]): Response | Promise<Response> {
    if (request.url.endsWith("/hello")) return new Response("Hello World!");
    return (worker.fetch as (...all: unknown[]) => Response | Promise<Response>)(request, ...rest);
  },
};
