import type { Context, Json } from "@bunting/core";
import {
  ErrorCode,
  type EvaluationContext,
  type JsonValue,
  OpenFeatureEventEmitter,
  type Provider,
  ProviderEvents,
  ProviderFatalError,
  ProviderNotReadyError,
  type ResolutionDetails,
  type TrackingEventDetails,
} from "@openfeature/server-sdk";
import type { Client } from "./client/client.ts";
import type { Nullable } from "./client/options.ts";
import { CLOSED, Health, NOT_READY, REFUSED, resolutionOf, type Type } from "./openfeature/resolution.ts";

/** What a provider needs of a client: those of `/node`, `/testing` and, as its `client`, `/workers` have it. */
export type ProviderClient = Pick<Client, "details" | "track" | "on" | "ready" | "status" | "close">;

export type ProviderOptions = {
  /** The longest that initialising waits for flags. 5,000 ms by default. */
  readyMs?: number;
};

/**
 * Bunting as a provider for `@openfeature/server-sdk`:
 *
 *     await OpenFeature.setProviderAndWait(new BuntingProvider(createClient({ serverKey, url })));
 *
 * The provider owns its client: `OpenFeature.close()`, or another provider in its place, closes it.
 */
export class BuntingProvider implements Provider {
  readonly metadata = { name: "bunting" } as const;
  readonly runsOn = "server";
  readonly events = new OpenFeatureEventEmitter();
  readonly #client: ProviderClient;
  readonly #readyMs: number;
  readonly #health: Health;

  constructor(client: ProviderClient, options?: Nullable<ProviderOptions> | null) {
    this.#client = client;
    this.#readyMs = options?.readyMs ?? 5_000;
    this.#health = new Health(
      () => {
        const { ready, connected, stale } = client.status();
        return ready && connected && !stale;
      },
      (event, message) => this.events.emit(ProviderEvents[event], message === undefined ? {} : { message }),
    );
    client.on("change", ({ revision, flags, segments }) => {
      this.#health.recover();
      // Without the list all flags may have changed: a segment does not say which flags depend on it.
      const flagsChanged = segments.length === 0 ? { flagsChanged: flags } : {};
      this.events.emit(ProviderEvents.ConfigurationChanged, { ...flagsChanged, metadata: { revision } });
    });
    client.on("ready", () => this.#health.recover());
    client.on("connected", () => this.#health.recover());
    client.on("stale", ({ forMs }) =>
      this.#health.impair("Stale", `the flags have not been confirmed for ${Math.round(forMs)} ms`),
    );
    client.on("error", ({ code, message }) => {
      // Of the others UNREACHABLE becomes STALE in time, and what could not be used changes no flag.
      if (code === "REFUSED") this.#health.impair("Error", message);
    });
  }

  /**
   * Waits for flags. Last-known or bootstrap flags suffice to evaluate with: then the provider is
   * STALE, and not in error.
   * @throws ProviderFatalError where the server refuses the key or the client is closed, ProviderNotReadyError where it cannot be reached.
   */
  async initialize(): Promise<void> {
    if (this.#client.status().closed) throw new ProviderFatalError(CLOSED);
    const ready = await this.#client.ready({ timeoutMs: this.#readyMs });
    const { revision, refused } = this.#client.status();
    const failed = !ready && revision === null;
    this.#health.initialised(ready || failed ? null : "the server has not confirmed the flags yet");
    if (!failed) return;
    this.#health.failed();
    throw refused ? new ProviderFatalError(REFUSED) : new ProviderNotReadyError(NOT_READY);
  }

  async onClose(): Promise<void> {
    await this.#client.close();
  }

  async resolveBooleanEvaluation(key: string, defaultValue: boolean, context: EvaluationContext) {
    return this.#resolve(key, defaultValue, context, "boolean");
  }

  async resolveStringEvaluation(key: string, defaultValue: string, context: EvaluationContext) {
    return this.#resolve(key, defaultValue, context, "string");
  }

  async resolveNumberEvaluation(key: string, defaultValue: number, context: EvaluationContext) {
    return this.#resolve(key, defaultValue, context, "number");
  }

  async resolveObjectEvaluation<Value extends JsonValue>(key: string, defaultValue: Value, context: EvaluationContext) {
    return this.#resolve(key, defaultValue, context, "object");
  }

  /** A metric of the unit that the targeting key names. OpenFeature's further details have no place in it. */
  track(metric: string, context: EvaluationContext, details: TrackingEventDetails = {}): void {
    this.#client.track(metric, context as Context, details.value);
  }

  #resolve<Value extends JsonValue>(
    key: string,
    defaultValue: Value,
    context: EvaluationContext,
    type: Type,
  ): ResolutionDetails<Value> {
    this.#health.recover();
    // The client checks the type, so that a mismatch is also counted as one and makes no exposure.
    const fits = type === "object" && typeof defaultValue === "object" ? isObject : undefined;
    const decision = this.#client.details(key, defaultValue as Json, context as Context, fits);
    const isEmpty = decision.errorCode === "FLAG_NOT_FOUND" && this.#client.status().revision === null;
    const { error, ...resolution } = resolutionOf(decision, { key, defaultValue, type, isEmpty });
    if (error === undefined) return resolution;
    return { ...resolution, errorCode: ErrorCode[error.code], errorMessage: error.message };
  }
}

/** A list or null too. */
const isObject = (value: Json): boolean => typeof value === "object";
