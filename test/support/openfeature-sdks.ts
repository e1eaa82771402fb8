/** OpenFeature's SDKs for servers and browsers, with Bunting's providers and real clients. */
import { type BrowserClient, type BrowserOptions, createClient } from "@bunting/sdk/browser";
import { BuntingProvider, type ProviderClient } from "@bunting/sdk/openfeature-server";
import { BuntingWebProvider } from "@bunting/sdk/openfeature-web";
import {
  AsyncLocalStorageTransactionContextPropagator,
  type EvaluationContext,
  type Client as ServerClient,
  type Hook as ServerHook,
  OpenFeature as ServerOpenFeature,
} from "@openfeature/server-sdk";
import { type Client as WebClient, type Hook as WebHook, OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { expect, onTestFinished, vi } from "vitest";
import type { AnyHook, Details, Evaluation, ProviderState, Sdk } from "./openfeature-steps.ts";
import { rulesetOf } from "./peer.ts";
import { client as buntingClient } from "./sdk.ts";

/** URLs for the providers' clients: a server, one that never answers (`silent`), and one where none listens. */
export type Place = { url: string; silent: string; unreachable: string; serverKey: string; clientKey: string };

export class ServerSdk implements Sdk {
  readonly #place: Place;
  readonly #levels: Record<string, EvaluationContext> = {};
  #client: ServerClient | undefined;
  #with: EvaluationContext = {};

  constructor(place: Place) {
    this.#place = place;
  }

  async provide(state: ProviderState): Promise<void> {
    await ServerOpenFeature.clearProviders();
    await ServerOpenFeature.setContext({});
    const { url, serverKey, silent, unreachable } = this.#place;
    const made = {
      stable: () => buntingClient({ url, serverKey, streams: [] }),
      "not ready": () => buntingClient({ url: silent, serverKey, streams: [] }),
      error: () => buntingClient({ url: unreachable, serverKey }),
      fatal: () => buntingClient({ url, serverKey: `${serverKey}x` }),
      stale: () => buntingClient({ url: unreachable, serverKey, bootstrap: rulesetOf(1, []) }),
    }[state]();
    const provider = new BuntingProvider(this.#recording(made), { readyMs: state === "not ready" ? 60_000 : 2_000 });
    if (state === "not ready") ServerOpenFeature.setProvider(provider);
    else await ServerOpenFeature.setProviderAndWait(provider).catch(() => {});
    this.#client = ServerOpenFeature.getClient();
    if (state === "stale") await vi.waitFor(() => expect(this.status()).toBe("STALE"));
  }

  #recording(client: ProviderClient): ProviderClient {
    return {
      details: (key, defaultValue, context = {}) => {
        this.#with = context as EvaluationContext;
        return client.details(key, defaultValue, context);
      },
      track: client.track.bind(client),
      on: client.on.bind(client),
      ready: client.ready.bind(client),
      status: client.status.bind(client),
      close: client.close.bind(client),
    };
  }

  status = () => this.#client!.providerStatus;
  addHooks = (...hooks: AnyHook[]) => void this.#client!.addHooks(...(hooks as ServerHook[]));
  addToLevel(level: string, entry: EvaluationContext): void {
    this.#levels[level] = { ...this.#levels[level], ...entry };
  }

  evaluatedWith = () => this.#with;

  evaluate({ type, key, fallback }: Evaluation, context: EvaluationContext, hooks: AnyHook[]): Promise<Details> {
    const client = this.#client!;
    const { API = {}, Transaction, Client: ofClient = {}, Invocation = {}, "Before Hooks": fromHook } = this.#levels;
    ServerOpenFeature.setContext(API);
    client.setContext(ofClient);
    const before: ServerHook = { before: () => fromHook };
    const options = { hooks: [...(hooks as ServerHook[]), ...(fromHook === undefined ? [] : [before])] };
    const whole = Object.keys(Invocation).length === 0 ? context : { ...context, ...Invocation };
    const resolve = (): Promise<Details> => {
      if (type === "boolean") return client.getBooleanDetails(key, fallback as boolean, whole, options);
      if (type === "string") return client.getStringDetails(key, fallback as string, whole, options);
      if (type === "number") return client.getNumberDetails(key, fallback as number, whole, options);
      return client.getObjectDetails(key, fallback, whole, options);
    };
    if (Transaction === undefined) return resolve();
    ServerOpenFeature.setTransactionContextPropagator(new AsyncLocalStorageTransactionContextPropagator());
    return new Promise((done, fail) =>
      ServerOpenFeature.setTransactionContext(Transaction, () => resolve().then(done, fail)),
    );
  }
}

export class WebSdk implements Sdk {
  readonly #place: Place;
  #client: WebClient | undefined;
  #api: EvaluationContext = {};
  #with: EvaluationContext = {};

  constructor(place: Place) {
    this.#place = place;
  }

  async provide(state: ProviderState): Promise<void> {
    await WebOpenFeature.clearProviders();
    await WebOpenFeature.setContext({});
    const { url, clientKey, silent, unreachable } = this.#place;
    const made = {
      stable: () => this.#made({ url, clientKey }),
      "not ready": () => this.#made({ url: silent, clientKey }),
      error: () => this.#made({ url: unreachable, clientKey }),
      fatal: () => this.#made({ url, clientKey: `${clientKey}x` }),
      stale: () => this.#made({ url: unreachable, clientKey, bootstrap: { revision: 1, flags: {} } }),
    }[state]();
    const provider = new BuntingWebProvider(made, { readyMs: state === "not ready" ? 60_000 : 2_000 });
    if (state === "not ready") WebOpenFeature.setProvider(provider);
    else await WebOpenFeature.setProviderAndWait(provider).catch(() => {});
    this.#client = WebOpenFeature.getClient();
    if (state === "stale") await vi.waitFor(() => expect(this.status()).toBe("STALE"));
  }

  #made(options: BrowserOptions): BrowserClient {
    const logger = { warn() {}, error() {} };
    const client = createClient({ cache: false, streams: [], events: false, logger, ...options });
    onTestFinished(() => client.close());
    const { setContext } = client;
    client.setContext = (context, options) => {
      this.#with = context as EvaluationContext;
      return setContext(context, options);
    };
    return client;
  }

  status = () => this.#client!.providerStatus;
  addHooks = (...hooks: AnyHook[]) => void this.#client!.addHooks(...(hooks as WebHook[]));
  evaluatedWith = () => this.#with;

  addToLevel(level: string, entry: EvaluationContext): void {
    if (level !== "API") throw new Error(`OpenFeature's SDK for browsers has no level "${level}"`);
    this.#api = { ...this.#api, ...entry };
  }

  /** Synchronous, unless the context changes. */
  evaluate(
    { type, key, fallback }: Evaluation,
    given: EvaluationContext,
    hooks: AnyHook[],
  ): Details | Promise<Details> {
    const client = this.#client!;
    const options = { hooks: hooks as WebHook[] };
    const resolve = (): Details => {
      if (type === "boolean") return client.getBooleanDetails(key, fallback as boolean, options);
      if (type === "string") return client.getStringDetails(key, fallback as string, options);
      if (type === "number") return client.getNumberDetails(key, fallback as number, options);
      return client.getObjectDetails(key, fallback, options);
    };
    const context = { ...this.#api, ...given };
    const had = WebOpenFeature.getContext();
    if (Object.keys(context).length === 0 && Object.keys(had).length === 0) return resolve();
    return WebOpenFeature.setContext(context).then(resolve);
  }
}
