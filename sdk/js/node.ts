import { randomUUID } from "node:crypto";
import type { Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import { Client, type FlagTypes, type Logger } from "./client/client.ts";
import { checkUrl, clientHeader, environmentOf, validateServerKey } from "./client/credentials.ts";
import { type Nullable, withoutNulls } from "./client/options.ts";
import { Filters } from "./client/segment-filters.ts";
import { type EventOptions, Events } from "./events/events.ts";
import { FilterFiles, RulesetFile } from "./node/cache.ts";
import { outlivedBy } from "./node/process.ts";
import { openSocket } from "./node/socket.ts";
import { sseTransport } from "./sse.ts";
import { systemClock } from "./sync/clock.ts";
import { liveFeed, type Transports } from "./sync/driver.ts";
import { pollingTransport } from "./transports/polling.ts";
import type { Endpoint, Fetch } from "./transports/protocol.ts";
import { acknowledgement, postEvents, type RulesetMessage, rulesetProtocol } from "./transports/ruleset-protocol.ts";
import { webSocketTransport } from "./transports/websocket.ts";

export type { Context, Decision, Json, Ruleset } from "@bunting/core";
export type { Client, ClientEvents, FlagTypes, Logger, Status } from "./client/client.ts";
export type { Change, Origin } from "./client/current-ruleset.ts";

/** How soon a process notices that it was stopped, or its machine asleep. */
const LOOK_MS = 1_000;

export type NodeOptions = {
  /** The environment's server key (`bnt_srv_…`): a secret. */
  serverKey: string;
  /** The address of your Bunting Worker. */
  url: string;
  /** The application's name, as receipts show it. */
  name?: string;
  /** Evaluated with until the server answers: the answer of an earlier `GET /sdk/v1/ruleset`, from a file of yours. */
  bootstrap?: Ruleset;
  /**
   * Keeps the last ruleset in a file of this directory, one for each environment, and the filters of its big segments;
   * any number of processes may share it. A process that starts while nothing can be reached evaluates with it. None by default.
   */
  cache?: { directory: string };
  /** Streams to use, WebSocket first; polling every 30 s is always the last resort. */
  streams?: readonly ("websocket" | "sse")[];
  /** What is recorded about evaluations; `false` sends nothing at all. */
  events?: EventOptions | false;
  logger?: Logger;
  fetch?: Fetch;
};

/**
 * A client for Node 20 and later, Bun and Deno, which starts at once and without blocking: `await client.ready()` waits
 * for flags. It holds no process: one that has nothing else to do closes it and ends. Behind a proxy, Node wants
 * `NODE_USE_ENV_PROXY=1`.
 * @throws TypeError that says what is wrong and what to do, for options that can never work.
 */
export function createClient<Flags extends object = FlagTypes>(given: Nullable<NodeOptions>): Client<Flags> {
  const options = withoutNulls<NodeOptions>(given);
  const problem = validateServerKey(options.serverKey);
  if (problem !== null) throw new TypeError(`Bunting: ${problem}`);
  const instance = randomUUID();
  const headers = {
    Authorization: `Bearer ${options.serverKey}`,
    "X-Bunting-Client": clientHeader("bunting-node", instance, options.name),
  };
  const endpoint: Endpoint = {
    url: checkUrl(options.url),
    headers: () => headers,
    fetch: options.fetch ?? ((url, init) => fetch(url, init)),
  };
  const logger = options.logger ?? console;
  const report = (message: string) => logger.error(`Bunting: ${message}`);
  const events =
    options.events === false
      ? null
      : new Events(postEvents(endpoint), systemClock, randomUUID, options.events ?? {}, report);
  const kept = cacheFor(options, logger);
  const wiring = {
    clock: systemClock,
    logger,
    events,
    filters: new Filters(endpoint, systemClock, Math.random, report, kept?.filters),
    timers: true,
    cached: kept?.ruleset.read() ?? null,
    bootstrap: options.bootstrap,
    ...(kept && { keep: kept.ruleset }),
  };
  const transports = transportsFor(endpoint, options.streams ?? ["websocket", "sse"]);
  let releaseProcess = () => {};
  const client = new Client<Flags>(wiring, (store) => {
    const feed = liveFeed(store, transports, systemClock, Math.random, { lookMs: LOOK_MS, lateMs: LOOK_MS });
    const close = () => {
      releaseProcess();
      feed.close();
    };
    return { ...feed, close };
  });
  releaseProcess = outlivedBy(instance, () => client.close());
  return client;
}

type Kept = { ruleset: RulesetFile; filters: FilterFiles };

function cacheFor({ cache, serverKey }: NodeOptions, logger: Logger): Kept | null {
  if (cache === undefined) return null;
  if (typeof cache.directory !== "string" || cache.directory === "")
    throw new TypeError("Bunting: cache.directory is missing: pass a directory that this user may write to");
  const warn = (message: string) => logger.warn(`Bunting: ${message}`);
  const environment = environmentOf(serverKey);
  return {
    ruleset: new RulesetFile(cache.directory, environment, systemClock, warn),
    filters: new FilterFiles(cache.directory, environment, warn),
  };
}

function transportsFor(endpoint: Endpoint, streams: readonly string[]): Transports<RulesetMessage, PatchMessage> {
  const protocol = rulesetProtocol(endpoint, openSocket);
  return {
    polling: pollingTransport(protocol, systemClock),
    streams: {
      ...(streams.includes("websocket") && { websocket: webSocketTransport(protocol) }),
      ...(streams.includes("sse") && { sse: sseTransport(protocol) }),
    },
    acknowledgement,
  };
}
