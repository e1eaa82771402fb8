export { UnleashClient } from "unleash-proxy-client";
