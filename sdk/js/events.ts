import type { Context, Decision, Flag, Ruleset } from "@bunting/core";
import { MAX_EVENTS, type TelemetryEvent } from "@bunting/core/wire";
import { encodeBatch, isFinal, MAX_NAME, MAX_UNIT, summaries } from "./batches.ts";
import type { Clock } from "./clock.ts";
import type { Endpoint } from "./credentials.ts";
import { isSampled, publicAttributes, unitOf } from "./exposures.ts";
import { messageOf, retryAfter } from "./transports.ts";

export type EventOptions = {
  /** Send the context's attributes with exposures. Off unless told. */
  sendAttributes?: boolean;
  /** Names of top-level attributes that never leave the process. */
  privateAttributes?: readonly string[];
  /** Most events kept while the server cannot be reached; the oldest go first. 10,000 unless told. */
  maxBuffered?: number;
};

/** A process that dies loses what it has not sent. */
const MIN_WINDOW_MS = 1_000;
const MAX_WINDOW_MS = 3_600_000;
const SEND_DEADLINE_MS = 10_000;
/** Longer than sending takes: a request that its platform has ended never settles, and must not hold the buffer for ever. */
const ABANDONED_MS = 2 * SEND_DEADLINE_MS;
const MAX_BUFFERED = 10_000;
/** Distinct (flag, variation, reason, version) in a window; a guard against keys made up at run time. */
const MAX_COUNTERS = 20_000;

type Counter = { variation: string | null; reason: string; flagVersion: number; count: number };
type Outcome = "sent" | "refused" | "retry";

/** Counts evaluations, keeps exposures and metrics, and sends them in batches that count once however often they are retried. */
export class Events {
  /** Events lost: dropped from a full buffer, or refused by the server as invalid. */
  dropped = 0;
  #exposureSampleRate = 1;
  #windowMs = 30_000;
  readonly #endpoint: Endpoint;
  readonly #clock: Clock;
  readonly #uuid: () => string;
  readonly #sendAttributes: boolean;
  readonly #private: ReadonlySet<string>;
  readonly #maxBuffered: number;
  readonly #onError: (message: string) => void;
  #queue: TelemetryEvent[] = [];
  #counters = new Map<string, Counter[]>();
  #counterCount = 0;
  #windowFrom: number | null = null;
  #exposed = new Set<string>();
  #batch: { body: string; size: number } | null = null;
  #sending: { since: number; done: Promise<void> } | null = null;
  #notBefore = 0;
  #failing = false;

  constructor(
    endpoint: Endpoint,
    clock: Clock,
    uuid: () => string,
    options: EventOptions,
    onError: (message: string) => void,
  ) {
    this.#endpoint = endpoint;
    this.#clock = clock;
    this.#uuid = uuid;
    this.#sendAttributes = options.sendAttributes ?? false;
    this.#private = new Set(options.privateAttributes);
    this.#maxBuffered = options.maxBuffered ?? MAX_BUFFERED;
    this.#onError = onError;
  }

  /** What the environment asks for: how many units' exposures, and how often a batch goes out. */
  configure({ exposureSampleRate, summarySeconds }: Ruleset["events"]): void {
    this.#exposureSampleRate = exposureSampleRate;
    this.#windowMs = Math.min(MAX_WINDOW_MS, Math.max(MIN_WINDOW_MS, summarySeconds * 1_000));
  }

  /** Milliseconds until the next flush, spread: what starts together must not send together. */
  nextWindow(random: () => number): number {
    return this.#windowMs * (0.8 + 0.4 * random());
  }

  get buffered(): number {
    return this.#queue.length + this.#counterCount + (this.#batch?.size ?? 0);
  }

  /** Full, or something has waited for a flush. */
  get isFull(): boolean {
    return this.#queue.length >= MAX_EVENTS || this.#exposed.size >= MAX_EVENTS;
  }

  get isSending(): boolean {
    return this.#sending !== null && this.#clock.elapsed() - this.#sending.since < ABANDONED_MS;
  }

  evaluated(key: string, flag: Flag | undefined, decision: Decision, context: Context): void {
    this.#count(key, decision);
    if (flag === undefined || decision.variation === null || decision.reason === "ERROR") return;
    if (!flag.trackExposures && flag.experiment === null) return;
    const unit = unitOf(flag, decision, context);
    if (unit === null || unit.length > MAX_UNIT || !isSampled(unit, this.#exposureSampleRate)) return;
    const once = `${key}\n${decision.variation}\n${unit}`;
    if (this.#exposed.has(once)) return;
    this.#exposed.add(once);
    this.#push({
      kind: "exposure",
      at: this.#clock.now(),
      flag: key,
      flagVersion: decision.flagVersion,
      variation: decision.variation,
      reason: decision.reason,
      experiment: flag.experiment ?? null,
      unit,
      sampleRate: this.#exposureSampleRate,
      ...(this.#sendAttributes && { attributes: publicAttributes(context, this.#private) }),
    });
  }

  metric(metric: string, unit: string, value: number): void {
    if (typeof metric !== "string" || metric.length > MAX_NAME || unit.length > MAX_UNIT) this.dropped += 1;
    else this.#push({ kind: "metric", at: this.#clock.now(), metric, unit, value });
  }

  /** Sends what is buffered, as far as the server takes it. Never rejects: what was not taken stays for the next time. */
  flush(): Promise<void> {
    const now = this.#clock.elapsed();
    if (this.#sending !== null && this.isSending) return this.#sending.done;
    if (now < this.#notBefore) return Promise.resolve();
    const sending = { since: now, done: Promise.resolve() };
    sending.done = this.#sendAll().finally(() => {
      if (this.#sending === sending) this.#sending = null;
    });
    this.#sending = sending;
    return sending.done;
  }

  #count(key: string, { variation, reason, flagVersion }: Decision): void {
    if (typeof key !== "string" || key.length > MAX_NAME) return;
    this.#windowFrom ??= this.#clock.now();
    let counters = this.#counters.get(key);
    if (counters === undefined) {
      if (this.#counterCount >= MAX_COUNTERS) {
        this.dropped += 1;
        return;
      }
      counters = [];
      this.#counters.set(key, counters);
    }
    for (const counter of counters) {
      if (counter.variation === variation && counter.reason === reason && counter.flagVersion === flagVersion) {
        counter.count += 1;
        return;
      }
    }
    if (this.#counterCount >= MAX_COUNTERS) {
      this.dropped += 1;
      return;
    }
    this.#counterCount += 1;
    counters.push({ variation, reason, flagVersion, count: 1 });
  }

  #push(event: TelemetryEvent): void {
    this.#queue.push(event);
    if (this.#queue.length > this.#maxBuffered) {
      this.#queue.shift();
      this.dropped += 1;
    }
  }

  async #sendAll(): Promise<void> {
    this.#closeWindow();
    while (this.#batch !== null || this.#queue.length > 0) {
      this.#batch ??= this.#takeBatch();
      if (this.#batch === null) return;
      const { body, size } = this.#batch;
      const outcome = await this.#send(body);
      if (outcome === "retry") return;
      if (outcome === "refused") this.dropped += size;
      this.#batch = null;
    }
  }

  /** Turns the counts into summary events and lets every unit be exposed again. */
  #closeWindow(): void {
    this.#exposed.clear();
    if (this.#counterCount === 0) return;
    const counts = [...this.#counters].flatMap(([flag, counters]) => counters.map((counter) => ({ flag, ...counter })));
    const to = this.#clock.now();
    const from = this.#windowFrom ?? to;
    this.#counters = new Map();
    this.#counterCount = 0;
    this.#windowFrom = null;
    for (const summary of summaries(from, to, counts)) this.#push(summary);
  }

  #takeBatch(): { body: string; size: number } | null {
    const { body, taken, tooLarge } = encodeBatch(this.#uuid(), this.#queue);
    this.#queue.splice(0, taken);
    this.dropped += tooLarge;
    return taken === tooLarge ? null : { body, size: taken - tooLarge };
  }

  async #send(body: string): Promise<Outcome> {
    let response: Response;
    const abort = new AbortController();
    const cancel = this.#clock.timer(SEND_DEADLINE_MS, () => abort.abort(new Error("no answer in 10 s")));
    try {
      response = await this.#endpoint.fetch(`${this.#endpoint.url}/sdk/v1/events`, {
        method: "POST",
        headers: { ...this.#endpoint.headers(), "Content-Type": "application/json" },
        body,
        signal: abort.signal,
      });
      await response.body?.cancel();
    } catch (error) {
      return this.#failed("retry", messageOf(error));
    } finally {
      cancel();
    }
    if (response.ok) {
      this.#failing = false;
      return "sent";
    }
    const waitMs = retryAfter(response.headers.get("Retry-After"));
    if (waitMs !== null) this.#notBefore = this.#clock.elapsed() + waitMs;
    return this.#failed(isFinal(response.status) ? "refused" : "retry", `the server answered ${response.status}`);
  }

  /** One report for an outage, not one for each flush. */
  #failed(outcome: Outcome, reason: string): Outcome {
    if (!this.#failing)
      this.#onError(`events could not be sent (${outcome === "retry" ? "kept" : "dropped"}): ${reason}`);
    this.#failing = true;
    return outcome;
  }
}
