export { Hub } from "../../durable-objects/hub.ts";
export { RateLimiter } from "../../durable-objects/rate-limiter.ts";
export { Relay } from "../../durable-objects/relay.ts";
export default { fetch: () => new Response("ok") };
