export { getClient } from "@configcat/sdk/browser";
