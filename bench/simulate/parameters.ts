/** What the simulation takes as given: a new measurement changes one line here. Sources stand beside the figures. */
import type { Region } from "../../durable-objects/fan-out/tree.ts";

type Parameter = { value: number; unit: string; what: string; source: string };

const FAN_OUT = "measured: bench/RESULTS.md, Fan-out";

export const parameters = {
  nodeMs: {
    value: 2.4,
    unit: "ms",
    what: "a hub or a relay takes a change and passes it on",
    source: `${FAN_OUT}: 1 client, p50; that is hub, relay and client together, so too much for each`,
  },
  socketMs: {
    value: (50.2 - 2.4) / 999,
    unit: "ms",
    what: "a relay writes one socket more",
    source: `${FAN_OUT}: last of 1,000 clients − 1 client, ÷ 999; with the clients on the same cores, so too much`,
  },
  spread: {
    value: Math.log(95.3 / 50.2) / 2.326,
    unit: "σ of a lognormal",
    what: "how much a node's time varies",
    source: `${FAN_OUT}: 1,000 clients, p99 ÷ median of the last client, taken as the 99th percentile`,
  },
  childMs: {
    value: 0.36,
    unit: "ms",
    what: "a node sends to one node more below it",
    source: "measured: bench/RESULTS.md, One node more; that node's own work and answer included, so too much",
  },
  wakeMs: { value: 100, unit: "ms", what: "a hibernated object wakes, before its first message", source: "assumed" },
  acceptMs: {
    value: 1,
    unit: "ms",
    what: "a relay takes a socket or a question",
    source: "Cloudflare, Durable Objects limits: soft limit of 1,000 requests a second an object",
  },
  handshakeTrips: { value: 3, unit: "round trips", what: "TCP, TLS and the upgrade", source: "RFC 8446, RFC 6455" },
  openMs: {
    value: 3_000,
    unit: "ms",
    what: "a Worker tries another relay after",
    source: "workers/platform/deadline.ts",
  },
  trustedMs: {
    value: 30_000,
    unit: "ms",
    what: "a relay asks upwards if it heard nothing for",
    source: "durable-objects/relay/relay.ts",
  },
  roundMs: {
    value: 60_000,
    unit: "ms",
    what: "a relay reports upwards every",
    source: "durable-objects/relay/relay.ts",
  },
  retryAfterMs: {
    value: 30_000,
    unit: "ms",
    what: "who finds no room comes again after",
    source: "workers/edge/relays/address.ts",
  },
  freshMs: {
    value: 1_000,
    unit: "ms",
    what: "an isolate asks a relay again after",
    source: "workers/edge/ruleset/cache.ts",
  },
  isolatePerSecond: {
    value: 200,
    unit: "requests/s",
    what: "one Worker isolate serves, so that so many are started",
    source: "assumed",
  },
  kvReads: {
    value: 2,
    unit: "reads",
    what: "a cold isolate reads: pointer and snapshot",
    source: "workers/store/kv-snapshot.ts",
  },
  cap: { value: 2_500, unit: "sockets", what: "a relay holds at most", source: "wrangler.toml, RELAY_CAP" },
  fanOut: { value: 100, unit: "nodes", what: "stand below a node at most", source: "wrangler.toml, RELAY_FAN_OUT" },
} satisfies Record<string, Parameter>;

export type Costs = Record<keyof typeof parameters, number>;

export const costs = Object.fromEntries(
  Object.entries(parameters).map(([name, { value }]) => [name, value] as const),
) as Costs;

/**
 * Round trips in ms, medians of 30 days: "Azure network round-trip latency statistics",
 * https://learn.microsoft.com/en-us/azure/networking/azure-network-latency, data set of 30 July 2026, read on
 * 21 November 2026; rows are sources. One Azure region stands for each of the platform's location hints.
 */
export const places: Record<
  Region,
  { azure: string; tripsMs: number[]; acrossMs: number; across: string; share: number }
> = {
  // `acrossMs`: the round trip to the region's far end, from the same table; `share` of all SDKs is assumed.
  wnam: {
    azure: "West US 2",
    tripsMs: [0, 73, 177, 142, 160, 162, 160, 279, 240],
    acrossMs: 40,
    across: "West US 3",
    share: 0.17,
  },
  enam: {
    azure: "East US",
    tripsMs: [71, 0, 117, 83, 100, 224, 201, 219, 174],
    acrossMs: 35,
    across: "South Central US",
    share: 0.22,
  },
  sam: {
    azure: "Brazil South",
    tripsMs: [177, 118, 0, 185, 203, 331, 295, 321, 277],
    acrossMs: 40,
    across: "assumed: no second region",
    share: 0.06,
  },
  weur: {
    azure: "West Europe",
    tripsMs: [143, 85, 185, 0, 23, 169, 265, 166, 111],
    acrossMs: 27,
    across: "Spain Central",
    share: 0.22,
  },
  eeur: {
    azure: "Poland Central",
    tripsMs: [160, 102, 203, 22, 0, 184, 278, 186, 119],
    acrossMs: 27,
    across: "Italy North",
    share: 0.07,
  },
  apac: {
    azure: "Southeast Asia",
    tripsMs: [162, 224, 330, 169, 184, 0, 95, 177, 83],
    acrossMs: 73,
    across: "Jio India West",
    share: 0.18,
  },
  oc: {
    azure: "Australia East",
    tripsMs: [161, 202, 295, 264, 278, 95, 0, 328, 172],
    acrossMs: 28,
    across: "New Zealand North",
    share: 0.03,
  },
  afr: {
    azure: "South Africa North",
    tripsMs: [280, 220, 321, 166, 185, 177, 328, 0, 103],
    acrossMs: 20,
    across: "South Africa West",
    share: 0.02,
  },
  me: {
    azure: "UAE North",
    tripsMs: [241, 176, 274, 111, 116, 83, 173, 103, 0],
    acrossMs: 119,
    across: "Israel Central",
    share: 0.03,
  },
};

export const regions = Object.keys(places) as Region[];

export const roundTripMs = (from: Region, to: Region): number => places[from].tripsMs[regions.indexOf(to)] as number;

/** Half a millisecond is the least between two machines that are not the same. */
export const NEAREST_MS = 0.5;
