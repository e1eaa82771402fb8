/** What all entries share, as types. Clients come from the entry of a platform. */
export type { Context, Decision, ErrorCode, Json, Reason, Ruleset } from "@bunting/core";
export type { BrowserClient, BrowserOptions } from "./browser/contract.ts";
export type { BoundFlags } from "./client/bound-flags.ts";
export type { Client, ClientEvents, Status } from "./client/client.ts";
export type { Change } from "./client/current-ruleset.ts";
export type { FlagTypes, GivenContext } from "./client/flag-types.ts";
export type { Logger } from "./client/warnings.ts";
export type { EventOptions } from "./events/events.ts";

/**
 * @deprecated Import it from the entry of your platform.
 * @throws Error always, which names the entries.
 */
export function createClient(): never {
  throw new Error(
    "Bunting: import createClient from the entry of your platform: @bunting/sdk/node, @bunting/sdk/workers or @bunting/sdk/browser",
  );
}
