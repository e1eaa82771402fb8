import type { Context, Decision, Json } from "@bunting/core";
import type { EvaluatedFlag, PutMessage, ValuesMessage } from "@bunting/core/wire";
import type { BrowserClient, BrowserOptions, Listeners } from "./browser/contract.ts";
import { beacon, deviceStorage, watchPage } from "./browser/page.ts";
import { uuid } from "./browser/uuid.ts";
import { valueCache } from "./browser/value-cache.ts";
import { adviceOn } from "./client/advice.ts";
import { encodedName, VERSION } from "./client/credentials.ts";
import { emitter } from "./client/emitter.ts";
import type { FlagTypes, GivenContext } from "./client/flag-types.ts";
import { type Nullable, withoutNulls } from "./client/options.ts";
import { resolveAll, type Waiting, within } from "./client/waiting.ts";
import { warnOnce } from "./client/warnings.ts";
import { Events } from "./events/events.ts";
import { systemClock } from "./sync/clock.ts";
import { liveFeed } from "./sync/driver.ts";
import type { News } from "./sync/state.ts";
import { pollingTransport } from "./transports/polling.ts";
import { isServed, type Values, valuesProtocol } from "./transports/values-protocol.ts";
import { webSocketTransport } from "./transports/websocket.ts";

export type { Context, Decision, Json } from "@bunting/core";
export type { EvaluatedFlag } from "@bunting/core/wire";
export type { BrowserClient, BrowserEvents, BrowserOptions, BrowserStatus, Stream } from "./browser/contract.ts";
export type { DeviceStorage } from "./browser/value-cache.ts";
export type { FlagTypes } from "./client/flag-types.ts";
export type { EventOptions } from "./events/events.ts";
export type { Values } from "./transports/values-protocol.ts";

/** What a beacon may carry: browsers allow 64 KB for all that are under way. */
const MAX_BATCH_BYTES = 60_000;

/**
 * Flags for one visitor of a page, evaluated at the edge: every getter is synchronous, never throws and never waits.
 * @throws TypeError for options that can never work.
 */
export function createClient<Flags extends object = FlagTypes>(given: Nullable<BrowserOptions>): BrowserClient<Flags> {
  const options = withoutNulls<BrowserOptions>(given);
  const { clientKey, url, name, logger = console, streams = ["websocket"] } = options;
  const say = (message: string) => `Bunting: ${message}`;
  if (!/^bnt_cli_/.test(clientKey)) throw new TypeError(say("clientKey must be a client key (bnt_cli_…)"));
  if (!/^https?:/.test(url)) throw new TypeError(say("url must be the address of your Bunting Worker (https://…)"));

  const { offline } = options;
  // What a server draws is for many visitors, and some servers have a localStorage.
  const storage = offline || options.cache === false ? undefined : (options.cache ?? deviceStorage());
  const cache = valueCache(clientKey, storage, uuid);
  // Nobody is identified where a server draws, perhaps at module level, where Workers may draw no random numbers.
  const anonymousId = offline ? undefined : cache.anonymousId();
  const events = emitter<Listeners<FlagTypes>>((_, error) => logger.error(say(`a listener failed: ${error}`)));
  const warn = warnOnce(logger);
  /** Callers that wait for the first answer, and callers that wait for the newest context's values. */
  const waiting: Waiting = new Set();
  const pending: Waiting = new Set();
  /** The values are still the previous context's. */
  let isForeign = false;
  /** Whose value each flag is, those included that have been replaced and may still be on the page. */
  const contexts = new WeakMap<EvaluatedFlag, Context>();
  let context: Context;
  let body: string;
  let values: Values = bare();
  let revision: number | null = null;
  let isReady = false;
  let refused = false;
  let closed = false;

  become(options.context);
  const cached = cache.read(body!);
  const { bootstrap = cached } = options;
  const first = cached && bootstrap && cached.revision > bootstrap.revision ? cached : bootstrap;
  own(bootstrap?.flags);
  if (first) hold(first.flags, first.revision);

  const client = `bunting-browser/${VERSION};instance=${offline ? "" : uuid()}${name ? `;name=${encodedName(name)}` : ""}`;
  const protocol = valuesProtocol(
    url.replace(/\/+$/, ""),
    clientKey,
    client,
    options.fetch ?? ((to, init) => fetch(to, init)),
    () => body,
  );
  const telemetry =
    offline || options.events === false
      ? null
      : new Events(
          // Without `keepalive`, whose 64 KB a second batch would exceed: a page that is left hands over what is under way.
          (batch, signal) => protocol.fetch(protocol.eventsUrl, { method: "POST", body: batch, signal }),
          systemClock,
          uuid,
          options.events ?? {},
          (message) => report({ type: "error", code: "EVENTS", message }),
          { maxBytes: MAX_BATCH_BYTES, forThePage: true },
        );
  const custom = streams.find((stream) => typeof stream === "function");
  const feed = liveFeed<PutMessage, ValuesMessage>(
    {
      // What came with the page gives way to whatever the server says.
      revision: first === cached ? revision : null,
      install: answer,
      apply: ({ flags, revision }) => hold(flags, revision, flags),
      confirm: arrived,
      report,
    },
    {
      polling: pollingTransport(protocol, systemClock),
      streams: {
        ...(streams.includes("websocket") && { websocket: webSocketTransport(protocol) }),
        ...(custom && { sse: custom(protocol) }),
      },
    },
    systemClock,
    Math.random,
  );
  let unwatch = () => {};
  let cancelFlush = () => {};
  if (!offline) {
    feed.start();
    unwatch = watchPage({
      leave: () => telemetry?.handOver((batch) => beacon(protocol.eventsUrl, batch)),
      sleep: () => feed.notify("sleep"),
      wake: () => feed.notify("wake"),
    });
    flushLater();
  }

  function flushLater(): void {
    if (!telemetry) return;
    cancelFlush = systemClock.timer(telemetry.nextWindow(Math.random), () => {
      void telemetry.flush();
      flushLater();
    });
  }

  function become(given?: GivenContext): void {
    const next = { ...(anonymousId && { anonymousId }), ...given } as Context;
    if (typeof next.targetingKey !== "string" || !next.targetingKey) next.targetingKey = anonymousId;
    body = JSON.stringify({ context: next });
    context = next;
  }

  /** All values of the newest context. A listener that sets another context waits for that context's values. */
  function answer({ flags, revision }: Pick<PutMessage, "flags" | "revision">): void {
    const waitingNow = [...pending];
    isForeign = false;
    hold(flags, revision);
    resolveAll(waitingNow, true);
  }

  /** What is as it was stays the same object, so that nobody draws it again; null and absent is gone. */
  function hold(given: ValuesMessage["flags"], to: number, touched: object = { ...values, ...given }): void {
    const changed: string[] = [];
    const next = bare(given);
    const kept = bare(values);
    for (const key in touched) {
      const now = next[key] ?? undefined;
      if (seen(now) === seen(values[key])) {
        // A change that is not this visitor's. A bootstrap may be frozen: it then keeps its old version.
        if (now) Reflect.set(values[key]!, "version", now.version);
        continue;
      }
      changed.push(key);
      if (now) kept[key] = now;
      else delete kept[key];
    }
    revision = to;
    if (changed.length) values = kept;
    own(values);
    cache.write(body, { revision: to, flags: values });
    if (!changed.length) return;
    const change = { revision: to, flags: changed };
    events.emit("change", change);
    for (const key of changed) events.emit(`change:${key}`, change);
  }

  function own(flags: Values = {}): void {
    for (const key in flags) if (flags[key] instanceof Object) contexts.set(flags[key], context);
  }

  function arrived(): void {
    refused = false;
    if (isReady) return;
    isReady = true;
    events.emit("ready", { revision: revision! });
    resolveAll(waiting, true);
  }

  /** Without a response for this context, its cached values are better than another context's. Returns whether its own values are served. */
  function recall(): boolean {
    const kept = isForeign && !closed && cache.read(body);
    if (kept) answer(kept);
    return !isForeign;
  }

  function report(news: News | { type: "error"; code: "EVENTS"; message: string }): void {
    const { type, ...detail } = news;
    if (news.type === "error") {
      logger.error(say(`${news.code}, ${news.message}`));
      if (news.code === "REFUSED") {
        refused = true;
        resolveAll(waiting, false);
        resolveAll(pending, false);
      } else if (news.code !== "EVENTS") recall();
    }
    events.emit(type, detail as never);
  }

  function decide(key: string, flag: EvaluatedFlag | undefined, defaultValue: Json, type: string): Decision {
    let decision: Decision = {
      value: defaultValue,
      variation: null,
      reason: "ERROR",
      errorCode: "FLAG_NOT_FOUND",
      flagVersion: 0,
    };
    if (flag) {
      const { value, variation, reason, version: flagVersion, errorCode } = flag;
      if (isServed(flag, type)) decision = { value, variation, reason, flagVersion };
      else if (variation === null) decision = { ...decision, reason, errorCode, flagVersion };
      else decision = { ...decision, errorCode: "TYPE_MISMATCH", flagVersion };
    }
    const { errorCode } = decision;
    if (errorCode && revision !== null)
      warn(
        errorCode + key,
        errorCode === "FLAG_NOT_FOUND"
          ? `flag "${key}" is not served to pages: create it, check its spelling, or make it clientSide. Its default is used.`
          : `${adviceOn(errorCode, key, type)}. Its default is used.`,
      );
    const exposure = decision.variation === null ? null : flag?.exposure;
    if (!closed) telemetry?.evaluated(key, decision, contexts.get(flag!) ?? context, exposure);
    return decision;
  }

  const shown = (key: string, flag: EvaluatedFlag | undefined, defaultValue: Json = null) =>
    decide(key, flag, defaultValue, typeof defaultValue);
  const getter = (type: string) => (key: string, defaultValue: Json) =>
    decide(key, values[key], defaultValue, type).value as never;

  const close = async () => {
    if (closed) return;
    closed = true;
    cancelFlush();
    feed.close();
    resolveAll(waiting, false);
    resolveAll(pending, false);
    await telemetry?.flush();
    unwatch();
  };

  return {
    boolean: getter("boolean"),
    string: getter("string"),
    number: getter("number"),
    json: getter("object") as never,
    details: (key, defaultValue) => shown(key, values[key], defaultValue as Json) as never,
    all: () => values,
    shown,
    bootstrap: bare(options.bootstrap?.flags),
    track(metric, value = 1) {
      if (!closed && Number.isFinite(value)) telemetry?.metric(metric, String(context.targetingKey), value);
    },
    get context() {
      return context;
    },
    setContext(given, wait) {
      become(typeof given === "function" ? given(context) : given);
      if (closed || offline) return Promise.resolve(false);
      isForeign = true;
      const confirmed = within(wait?.timeoutMs ?? 5_000, pending);
      feed.notify("forget");
      return confirmed.then((came) => came || recall());
    },
    on: events.on as never,
    once: events.once as never,
    ready: async (wait) =>
      isReady || refused || closed || offline ? isReady && !closed : within(wait?.timeoutMs ?? 5_000, waiting),
    status: () => ({
      ...feed.status(),
      ready: isReady && !closed,
      refused,
      revision,
      closed,
      events: { buffered: telemetry?.buffered ?? 0, dropped: telemetry?.dropped ?? 0 },
    }),
    flush: async () => telemetry?.flush(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A copy without a prototype: a flag may be called `valueOf`. */
const bare = <Flags extends object = Values>(flags?: Flags): Flags =>
  ({ __proto__: null, ...flags }) as unknown as Flags;

/** What makes a flag another one for its visitor: all of it but the version, which rises with changes for others too. */
const seen = (flag: EvaluatedFlag | undefined) => flag && JSON.stringify({ ...flag, version: 0 });
