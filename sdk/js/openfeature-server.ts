import type { Decision, Json } from "@bunting/core";
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
import type { Client } from "./client.ts";
import {
  contextOf,
  errorOf,
  isStructure,
  messageOf,
  metadataOf,
  type ResolutionError,
  reasonOf,
} from "./openfeature.ts";

/** What a provider asks of a client: those of `/node`, `/testing` and, as its `client`, `/workers` have it. */
export type ProviderClient = Pick<Client, "details" | "track" | "on" | "ready" | "status" | "close">;

export type ProviderOptions = {
  /** The longest that initialising waits for flags. 5,000 ms unless told. */
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
  /** Until then the SDK asks, and is not told: its READY would come after. */
  #initialised = false;
  /** The SDK has been told ERROR or STALE, and is to be told READY once that is over. */
  #impaired = false;

  constructor(client: ProviderClient, { readyMs = 5_000 }: ProviderOptions = {}) {
    this.#client = client;
    this.#readyMs = readyMs;
    client.on("change", ({ revision, flags, segments }) => {
      this.#recover();
      // Without the list all flags may have changed: a segment does not say which flags ask for it.
      const flagsChanged = segments.length === 0 ? { flagsChanged: flags } : {};
      this.events.emit(ProviderEvents.ConfigurationChanged, { ...flagsChanged, metadata: { revision } });
    });
    client.on("ready", () => this.#recover());
    client.on("connected", () => this.#recover());
    client.on("stale", ({ forMs }) =>
      this.#impair(ProviderEvents.Stale, `the flags have not been confirmed for ${Math.round(forMs)} ms`),
    );
    client.on("error", ({ code, message }) => {
      // Of the others UNREACHABLE becomes STALE in time, and what could not be used changes no flag.
      if (code === "REFUSED") this.#impair(ProviderEvents.Error, message);
    });
  }

  /**
   * Waits for flags. Last-known or bootstrap flags are as good as the server's to evaluate with: then the provider is
   * STALE, and not in error.
   * @throws ProviderFatalError where the server refuses the key, ProviderNotReadyError where it cannot be reached.
   */
  async initialize(): Promise<void> {
    const ready = await this.#client.ready({ timeoutMs: this.#readyMs });
    const { revision, refused } = this.#client.status();
    // The SDK says READY or ERROR as soon as this has settled, and would say it over what is said before.
    setTimeout(() => {
      this.#initialised = true;
      if (!ready && revision !== null) this.#impair(ProviderEvents.Stale, "the server has not confirmed the flags yet");
      this.#recover();
    }, 0);
    if (ready || revision !== null) return;
    this.#impaired = true;
    if (refused) throw new ProviderFatalError("Bunting refuses the server key: make a new one, or check the address");
    throw new ProviderNotReadyError(messageOf("PROVIDER_NOT_READY", "", ""));
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
    this.#client.track(metric, contextOf(context), details.value);
  }

  #resolve<Value extends JsonValue>(
    key: string,
    defaultValue: Value,
    context: EvaluationContext,
    type: "boolean" | "string" | "number" | "object",
  ): ResolutionDetails<Value> {
    if (this.#impaired) this.#recover();
    const decision = this.#client.details(key, defaultValue as Json, contextOf(context));
    const flagMetadata = metadataOf(decision);
    const error = this.#errorOf(decision, defaultValue as Json, type);
    if (error !== null) {
      const errorMessage = messageOf(error, key, type);
      return { value: defaultValue, reason: "ERROR", errorCode: ErrorCode[error], errorMessage, flagMetadata };
    }
    const value = decision.value as Value;
    const reason = reasonOf(decision);
    return decision.variation === null
      ? { value, reason, flagMetadata }
      : { value, reason, flagMetadata, variant: decision.variation };
  }

  #errorOf({ errorCode, value, variation }: Decision, defaultValue: Json, type: string): ResolutionError | null {
    if (errorCode === "FLAG_NOT_FOUND" && this.#client.status().revision === null) return "PROVIDER_NOT_READY";
    if (errorCode !== undefined) return errorOf(errorCode);
    const fits = type !== "object" || variation === null || isStructure(value, defaultValue);
    return fits ? null : "TYPE_MISMATCH";
  }

  #impair(event: ProviderEvents.Stale | ProviderEvents.Error, message: string): void {
    if (!this.#initialised) return;
    this.#impaired = true;
    this.events.emit(event, { message });
  }

  /** Also asked at each evaluation: a poll that finds nothing new is no event. */
  #recover(): void {
    if (!this.#impaired || !this.#initialised) return;
    const { ready, connected, stale } = this.#client.status();
    if (!ready || !connected || stale) return;
    this.#impaired = false;
    this.events.emit(ProviderEvents.Ready);
  }
}
