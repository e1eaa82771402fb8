/** What the tests in workerd run: the real Worker. */
export { default, Hub, RateLimiter, Relay } from "../../workers/index.ts";
