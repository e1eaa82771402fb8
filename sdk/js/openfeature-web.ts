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
} from "@openfeature/web-sdk";
import type { BrowserClient } from "./browser.ts";
import type { Nullable } from "./client/options.ts";
import {
  CLOSED,
  Health,
  isOfObject,
  MISMATCH,
  NOT_READY,
  REFUSED,
  resolutionOf,
  type Type,
} from "./openfeature/resolution.ts";

/** What a provider needs of a client: those of `/browser` and `/testing` have it. */
export type WebProviderClient = Pick<
  BrowserClient,
  "all" | "shown" | "track" | "on" | "ready" | "status" | "close" | "setContext"
>;

export type WebProviderOptions = {
  /** The longest that initialising, or a new context, waits for values. 5,000 ms by default. */
  readyMs?: number;
};

/**
 * Bunting as a provider for `@openfeature/web-sdk`:
 *
 *     await OpenFeature.setContext({ targetingKey: "user-42" });
 *     await OpenFeature.setProviderAndWait(new BuntingWebProvider(createClient({ clientKey, url })));
 *
 * OpenFeature's context is the client's, unless it is empty: then the client keeps its own. The provider owns its client:
 * `OpenFeature.close()`, or another provider in its place, closes it.
 */
export class BuntingWebProvider implements Provider {
  readonly metadata = { name: "bunting" } as const;
  readonly runsOn = "client";
  /** One visitor at a time. */
  readonly domainScoped = true;
  readonly events = new OpenFeatureEventEmitter();
  readonly #client: WebProviderClient;
  readonly #readyMs: number;
  readonly #health: Health;

  constructor(client: WebProviderClient, options?: Nullable<WebProviderOptions> | null) {
    this.#client = client;
    this.#readyMs = options?.readyMs ?? 5_000;
    this.#health = new Health(
      () => {
        const { ready, connected, stale } = client.status();
        return ready && connected && !stale;
      },
      (event, message) => this.events.emit(ProviderEvents[event], message === undefined ? {} : { message }),
    );
    client.on("change", ({ revision, flags }) => {
      this.#health.recover();
      this.events.emit(ProviderEvents.ConfigurationChanged, { flagsChanged: flags, metadata: { revision } });
    });
    client.on("ready", () => this.#health.recover());
    client.on("connected", () => this.#health.recover());
    client.on("stale", ({ forMs }) =>
      this.#health.impair("Stale", `the values have not been confirmed for ${Math.round(forMs)} ms`),
    );
    client.on("error", ({ code, message }) => {
      if (code === "REFUSED") this.#health.impair("Error", message);
    });
  }

  /**
   * Waits for the values of the context. Those of last time or of a bootstrap will do: then the provider is STALE.
   * @throws ProviderFatalError where the server refuses the key or the client is closed, ProviderNotReadyError where it cannot be reached.
   */
  async initialize(context: EvaluationContext = {}): Promise<void> {
    if (this.#client.status().closed) throw new ProviderFatalError(CLOSED);
    const isOwn = Object.keys(context).length === 0;
    const arrived = isOwn ? this.#client.ready({ timeoutMs: this.#readyMs }) : this.#become(context);
    const ready = await arrived;
    const { revision, refused } = this.#client.status();
    const failed = !ready && revision === null;
    this.#health.initialised(ready || failed ? null : "the server has not confirmed the values yet");
    if (!failed) return;
    this.#health.failed();
    throw refused ? new ProviderFatalError(REFUSED) : new ProviderNotReadyError(NOT_READY);
  }

  /**
   * Until the values for the new context are here, the previous context's are served.
   * @throws ProviderNotReadyError where they do not come in time; they are served as soon as they do. TypeError for a
   * context that is not JSON.
   */
  async onContextChange(_before: EvaluationContext, context: EvaluationContext): Promise<void> {
    let arrived = false;
    try {
      arrived = await this.#become(context);
    } finally {
      if (!arrived) this.#health.failed();
    }
    if (arrived) return;
    throw new ProviderNotReadyError(
      "the values for the new context have not arrived: those of the previous one are served",
    );
  }

  async onClose(): Promise<void> {
    await this.#client.close();
  }

  resolveBooleanEvaluation(key: string, defaultValue: boolean) {
    return this.#resolve(key, defaultValue, "boolean");
  }

  resolveStringEvaluation(key: string, defaultValue: string) {
    return this.#resolve(key, defaultValue, "string");
  }

  resolveNumberEvaluation(key: string, defaultValue: number) {
    return this.#resolve(key, defaultValue, "number");
  }

  resolveObjectEvaluation<Value extends JsonValue>(key: string, defaultValue: Value) {
    return this.#resolve(key, defaultValue, "object");
  }

  /** A metric of the visitor. OpenFeature's further details have no place in it. */
  track(metric: string, _context: EvaluationContext, details: TrackingEventDetails = {}): void {
    this.#client.track(metric, details.value);
  }

  /** Whether the values for this context came in time. */
  async #become(context: EvaluationContext): Promise<boolean> {
    const came = await this.#client.setContext(context as Context, { timeoutMs: this.#readyMs });
    return came && this.#client.status().ready;
  }

  #resolve<Value extends JsonValue>(key: string, defaultValue: Value, type: Type): ResolutionDetails<Value> {
    this.#health.recover();
    const flag = this.#client.all()[key];
    // What a getter of objects does not answer, nobody is shown.
    const isMisfit = type === "object" && flag && !isOfObject(flag.value, defaultValue);
    const answered = isMisfit ? { ...flag, variation: null, reason: "ERROR" as const, errorCode: MISMATCH } : flag;
    const decision = this.#client.shown(key, answered, defaultValue as Json);
    const isEmpty = decision.errorCode === "FLAG_NOT_FOUND" && this.#client.status().revision === null;
    const { error, ...resolution } = resolutionOf(decision, { key, defaultValue, type, isEmpty });
    if (error === undefined) return resolution;
    return { ...resolution, errorCode: ErrorCode[error.code], errorMessage: error.message };
  }
}
