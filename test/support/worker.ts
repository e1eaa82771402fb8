/** What the tests in workerd run: the real Worker. */
export { BigSegment, Due, default, Hub, RateLimiter, Relay, Timer, WriteLine } from "../../workers/index.ts";
