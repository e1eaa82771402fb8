export { initialize } from "launchdarkly-js-client-sdk";
