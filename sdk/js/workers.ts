import type { Ruleset } from "@bunting/core";
import { Client, type FlagTypes, type Logger } from "./client/client.ts";
import { checkUrl, clientHeader, environmentOf, validateServerKey } from "./client/credentials.ts";
import { type Nullable, withoutNulls } from "./client/options.ts";
import { Filters } from "./client/segment-filters.ts";
import { type EventOptions, Events } from "./events/events.ts";
import { type Clock, pause, systemClock } from "./sync/clock.ts";
import { pollingTransport } from "./transports/polling.ts";
import type { Endpoint, Fetch } from "./transports/protocol.ts";
import { postEvents, rulesetProtocol } from "./transports/ruleset-protocol.ts";
import { inDataCentre, inKV, type KVBinding, RulesetCache } from "./workers/cache.ts";
import { type RequestContext, Revalidator, type Take } from "./workers/revalidator.ts";

export type { Context, Decision, Json, Ruleset } from "@bunting/core";
export type { Client, ClientEvents, FlagTypes, Logger, Status } from "./client/client.ts";
export type { Change, Origin } from "./client/current-ruleset.ts";
export type { RequestContext } from "./workers/revalidator.ts";

export type WorkersOptions = {
  /** The environment's server key (`bnt_srv_…`): a secret of your Worker. */
  serverKey: string;
  /** A service binding to the Bunting Worker, in the same account. */
  binding?: { fetch: Fetch };
  /** Its address, where there is no binding. */
  url?: string;
  /** The application's name, as receipts show it. */
  name?: string;
  /** Evaluated with until the server has answered. */
  bootstrap?: Ruleset;
  /**
   * Where the last ruleset is kept for isolates that start while Bunting is slow or away: a KV namespace of yours, for
   * all places; by default the Cache API, for each data centre (on workers.dev that keeps nothing); `false` for none.
   */
  cache?: { kv: KVBinding } | false;
  /** The shortest time between two requests in the background, while requests come. 1,000 ms by default. */
  revalidateMs?: number;
  /** A ruleset not verified for longer is verified before use. 5,000 ms by default. */
  verifyMs?: number;
  /** The longest that a request waits for that; then the last-known ruleset is used. 50 ms by default. */
  waitMs?: number;
  /** The longest that a request waits for the first ruleset of an isolate. 2,000 ms by default. */
  startMs?: number;
  /** How long events are gathered before they are sent; below the 30 s that `waitUntil` grants. 10,000 ms by default. */
  flushMs?: number;
  /** What is recorded about evaluations; `false` sends nothing at all. */
  events?: EventOptions | false;
  logger?: Logger;
};

/** Within what a request may outlive its response, and short enough for the next attempt to be worth making. */
const DEADLINE_MS = 10_000;

/**
 * Flags for a Worker: made once, at module level, and shared by all requests of the isolate.
 *
 *     const bunting = createClient({ serverKey: env.BUNTING_SERVER_KEY, binding: env.BUNTING });
 *     …
 *     const flags = await bunting.forRequest(ctx);
 *     flags.boolean("new-checkout", false, { targetingKey: user.id });
 *
 * `env` at module level is `import { env } from "cloudflare:workers"`.
 * @throws TypeError that says what is wrong and what to do, for options that can never work.
 */
export function createClient<Flags extends object = FlagTypes>(
  options: Nullable<WorkersOptions>,
): WorkersClient<Flags> {
  return new WorkersClient<Flags>(withoutNulls<WorkersOptions>(options), systemClock, Math.random);
}

export class WorkersClient<Flags extends object = FlagTypes> {
  readonly #client: Client<Flags>;
  readonly #events: Events | null;
  readonly #revalidator: Revalidator;
  readonly #cache: RulesetCache | null;
  readonly #clock: Clock;
  readonly #flushMs: number;
  /** When the request that will send the events began to wait. */
  #flushSince: number | null = null;

  /** Applications call `createClient` instead. */
  constructor(options: WorkersOptions, clock: Clock, random: () => number) {
    const direct = endpointOf(options);
    const cache = cacheOf(options, clock, random);
    const endpoint = cache === null ? direct : { ...direct, fetch: cache.remembering(direct.fetch) };
    this.#cache = cache;
    const logger = options.logger ?? console;
    const report = (message: string) => logger.error(`Bunting: ${message}`);
    const limits = {
      revalidateMs: options.revalidateMs ?? 1_000,
      verifyMs: options.verifyMs ?? 5_000,
      waitMs: options.waitMs ?? 50,
      startMs: options.startMs ?? 2_000,
    };
    this.#clock = clock;
    this.#flushMs = options.flushMs ?? 10_000;
    this.#events =
      options.events === false
        ? null
        : new Events(postEvents(endpoint), clock, () => crypto.randomUUID(), options.events ?? {}, report);
    const filters = new Filters(endpoint, clock, random, report);
    const wiring = {
      clock,
      logger,
      events: this.#events,
      filters,
      timers: false,
      bootstrap: options.bootstrap,
      ...(cache && { keep: cache }),
    };
    let revalidator: Revalidator | undefined;
    this.#client = new Client<Flags>(wiring, (store) => {
      const polling = pollingTransport(rulesetProtocol(endpoint), clock, DEADLINE_MS);
      const restore = cache && ((take: Take) => cache.read(take));
      revalidator = new Revalidator(store, polling, restore, filters, clock, limits, random);
      return revalidator;
    });
    this.#revalidator = revalidator!;
  }

  /**
   * The flags, as fresh as the limits require: at once while they have lately been verified, else after a short wait.
   * Never rejects; without any ruleset the getters answer their defaults.
   */
  async forRequest(ctx: RequestContext): Promise<Client<Flags>> {
    await this.#revalidator.prepare(ctx);
    this.#cache?.keep(ctx);
    this.#sendLater(ctx);
    return this.#client;
  }

  /** Waits for the first ruleset of this isolate, `startMs` at most: whether there is one, if only from a cache. */
  async ready(ctx: RequestContext): Promise<boolean> {
    await this.#revalidator.prepare(ctx);
    return this.#client.status().revision !== null;
  }

  /** Requests the ruleset now and waits for the response: whether the server confirmed it. */
  refresh(ctx: RequestContext): Promise<boolean> {
    return this.#revalidator.refresh(ctx);
  }

  /** The client without any waiting, for listeners and `status()`. */
  get client(): Client<Flags> {
    return this.#client;
  }

  /** One request in each window outlives its response to send what all have gathered: an idle isolate has no timers. */
  #sendLater(ctx: RequestContext): void {
    const events = this.#events;
    if (events === null) return;
    const now = this.#clock.elapsed();
    if (events.isFull && !events.isSending) ctx.waitUntil(events.flush());
    // The request that was to send may have been ended: after twice its time another one takes over.
    if (this.#flushSince !== null && now - this.#flushSince < 2 * this.#flushMs) return;
    this.#flushSince = now;
    const send = async () => {
      await pause(this.#clock, this.#flushMs);
      this.#flushSince = null;
      await events.flush();
    };
    ctx.waitUntil(send());
  }
}

function cacheOf({ cache, serverKey }: WorkersOptions, clock: Clock, random: () => number): RulesetCache | null {
  if (cache === false) return null;
  const environment = environmentOf(serverKey);
  if (cache !== undefined) return new RulesetCache(inKV(cache.kv, environment), clock, random);
  if (typeof caches === "undefined") return null;
  return new RulesetCache(inDataCentre(caches, environment), clock, random);
}

function endpointOf(options: WorkersOptions): Endpoint {
  const problem = validateServerKey(options.serverKey);
  if (problem !== null) throw new TypeError(`Bunting: ${problem}`);
  const { binding } = options;
  // A service binding ignores the host, but a URL must have one.
  const url = binding !== undefined && options.url === undefined ? "https://bunting" : checkUrl(options.url);
  // Random values may not be made at module level.
  let instance: string | null = null;
  return {
    url,
    headers() {
      instance ??= crypto.randomUUID();
      return {
        Authorization: `Bearer ${options.serverKey}`,
        "X-Bunting-Client": clientHeader("bunting-workers", instance, options.name),
      };
    },
    fetch: binding === undefined ? (to, init) => fetch(to, init) : (to, init) => binding.fetch(to, init),
  };
}
