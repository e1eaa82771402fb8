/** What the tests in workerd run: the real Worker. */
export { BigSegment, Due, default, Hub, RateLimiter, Relay, Timer } from "../../workers/index.ts";
