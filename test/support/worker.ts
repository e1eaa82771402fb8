/** What the tests in workerd run: the real Worker. */
export { BigSegment, default, Hub, RateLimiter, Relay } from "../../workers/index.ts";
