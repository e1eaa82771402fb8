import type { Context, Decision, Exposure, Ruleset } from "@bunting/core";
import { MAX_EVENT_BYTES, MAX_EVENTS, type TelemetryEvent } from "@bunting/core/wire";
import { type Nullable, withoutNulls } from "../client/options.ts";
import type { Clock } from "../sync/clock.ts";
import { messageOf, retryAfter } from "../transports/connection.ts";
import type { Post } from "../transports/protocol.ts";
import { encodeBatch, isFinal, MAX_NAME, MAX_UNIT, summaries } from "./batches.ts";
import { publicAttributes } from "./public-attributes.ts";

export type EventOptions = {
  /** Send the context's attributes with exposures. Off by default. */
  sendAttributes?: boolean;
  /** Names of top-level attributes that never leave the process. */
  privateAttributes?: readonly string[];
  /** Most events kept while the server cannot be reached; the oldest go first. 10,000 by default. */
  maxBuffered?: number;
};

/** A process that dies loses what it has not sent. */
const MIN_WINDOW_MS = 1_000;
const MAX_WINDOW_MS = 3_600_000;
const SEND_DEADLINE_MS = 10_000;
/** Longer than sending takes: a request that its platform has ended never resolves, and must not hold the buffer for ever. */
const ABANDONED_MS = 2 * SEND_DEADLINE_MS;
const MAX_BUFFERED = 10_000;
/** Distinct (flag, variation, reason, version) in a window; a guard against keys made up at run time. */
const MAX_COUNTERS = 20_000;
/** Exposures remembered. A window lasts until something can be sent, which after `Retry-After` may be an hour; a page as long as it is open. */
const MAX_EXPOSED = 20_000;

/** `maxBytes` of a batch; `forThePage`: an exposure goes out once while the page is open, and else once in each window. */
type Bounds = { maxBytes?: number; forThePage?: boolean };
type Counter = { flag: string; variation: string | null; reason: string; flagVersion: number; count: number };
type Outcome = "sent" | "refused" | "retry";

/** Counts evaluations, keeps exposures and metrics, and sends them in batches that count once however often they are retried. */
export class Events {
  /** Events lost: dropped from a full buffer, or refused by the server as invalid. */
  dropped = 0;
  #windowMs = 30_000;
  readonly #post: Post;
  readonly #clock: Clock;
  readonly #uuid: () => string;
  readonly #options: EventOptions;
  readonly #onError: (message: string) => void;
  readonly #maxBytes: number;
  readonly #forThePage: boolean;
  #queue: TelemetryEvent[] = [];
  #counters = new Map<string, Counter[]>();
  #counterCount = 0;
  #windowFrom: number | null = null;
  #exposed = new Set<string>();
  /** Of those dropped, as many as had been when the last window was closed. */
  #droppedBefore = 0;
  #batch: { body: string; size: number } | null = null;
  #sending: { since: number; done: Promise<void> } | null = null;
  #notBefore = 0;
  #failing = false;

  constructor(
    post: Post,
    clock: Clock,
    uuid: () => string,
    options: Nullable<EventOptions>,
    onError: (message: string) => void,
    { maxBytes = MAX_EVENT_BYTES, forThePage = false }: Bounds = {},
  ) {
    this.#post = post;
    this.#clock = clock;
    this.#uuid = uuid;
    this.#options = withoutNulls<EventOptions>(options);
    this.#onError = onError;
    this.#maxBytes = maxBytes;
    this.#forThePage = forThePage;
  }

  /** Applies the environment's setting of how often a batch is sent. */
  configure({ summarySeconds }: Ruleset["events"]): void {
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

  evaluated(flag: string, decision: Decision, context: Context, exposure?: Exposure | null): void {
    this.#count(flag, decision);
    const { variation, reason, flagVersion } = decision;
    if (!exposure || exposure.unit.length > MAX_UNIT) return;
    // An experiment that starts while somebody is shown its flag needs an exposure of its own.
    const once = `${flag}\n${variation}\n${exposure.experiment}\n${exposure.unit}`;
    if (this.#exposed.has(once)) return;
    if (this.#exposed.size >= MAX_EXPOSED) this.#exposed.clear();
    this.#exposed.add(once);
    const { sendAttributes, privateAttributes = [] } = this.#options;
    const attributes = sendAttributes && { attributes: publicAttributes(context, privateAttributes) };
    const at = this.#clock.now();
    this.#push({ kind: "exposure", at, flag, flagVersion, variation, reason, ...exposure, ...attributes });
  }

  metric(metric: string, unit: string, value: number): void {
    if (typeof metric !== "string" || metric.length > MAX_NAME || unit.length > MAX_UNIT) this.dropped += 1;
    else this.#push({ kind: "metric", at: this.#clock.now(), metric, unit, value });
  }

  /** Sends what is buffered, as far as the server takes it. Never rejects: what was not taken stays for the next time. */
  flush(): Promise<void> {
    const since = this.#clock.elapsed();
    if (this.#sending !== null && this.isSending) return this.#sending.done;
    if (since < this.#notBefore) return Promise.resolve();
    const sending = { since, done: Promise.resolve() };
    sending.done = this.#sendAll().finally(() => {
      if (this.#sending === sending) this.#sending = null;
    });
    this.#sending = sending;
    return sending.done;
  }

  /** Hands everything to `post`, which cannot say how it went, as far as it takes it. What is being sent goes again: it counts once. */
  handOver(post: (body: string) => boolean): void {
    this.#closeWindow();
    while (this.#nextBatch() && post(this.#batch!.body)) this.#batch = null;
  }

  #count(flag: string, { variation, reason, flagVersion }: Decision): void {
    if (typeof flag !== "string" || flag.length > MAX_NAME) return;
    this.#windowFrom ??= this.#clock.now();
    const counters = this.#counters.get(flag) ?? [];
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
    counters.push({ flag, variation, reason, flagVersion, count: 1 });
    this.#counters.set(flag, counters);
  }

  #push(event: TelemetryEvent): void {
    this.#queue.push(event);
    if (this.#queue.length > (this.#options.maxBuffered ?? MAX_BUFFERED)) {
      this.#queue.shift();
      this.dropped += 1;
    }
  }

  async #sendAll(): Promise<void> {
    this.#closeWindow();
    while (this.#nextBatch()) {
      const batch = this.#batch!;
      const outcome = await this.#send(batch.body);
      if (outcome === "retry") return;
      // It may have been handed over meanwhile.
      if (this.#batch === batch) this.#batch = null;
      if (outcome === "refused") this.dropped += batch.size;
    }
  }

  /** Turns the counts into summary events. Units can be exposed again, in a page only where events were lost. */
  #closeWindow(): void {
    if (!this.#forThePage || this.dropped > this.#droppedBefore) this.#exposed.clear();
    this.#droppedBefore = this.dropped;
    const to = this.#clock.now();
    const counts = [...this.#counters.values()].flat();
    for (const summary of summaries(this.#windowFrom ?? to, to, counts)) this.#push(summary);
    this.#counters = new Map();
    this.#counterCount = 0;
    this.#windowFrom = null;
  }

  /** Whether there is one. */
  #nextBatch(): boolean {
    if (this.#batch === null && this.#queue.length > 0) {
      const { body, taken, tooLarge } = encodeBatch(this.#uuid(), this.#queue, this.#maxBytes);
      this.#queue.splice(0, taken);
      this.dropped += tooLarge;
      if (taken > tooLarge) this.#batch = { body, size: taken - tooLarge };
    }
    return this.#batch !== null;
  }

  async #send(body: string): Promise<Outcome> {
    const abort = new AbortController();
    const cancel = this.#clock.timer(SEND_DEADLINE_MS, () => abort.abort(new Error("no answer in 10 s")));
    try {
      const response = await this.#post(body, abort.signal);
      await response.body?.cancel();
      if (response.ok) {
        this.#failing = false;
        return "sent";
      }
      const { status, headers } = response;
      const waitMs = retryAfter(headers.get("Retry-After"));
      if (waitMs !== null) this.#notBefore = this.#clock.elapsed() + waitMs;
      return this.#failed(isFinal(status) ? "refused" : "retry", `the server answered ${status}`);
    } catch (error) {
      return this.#failed("retry", messageOf(error));
    } finally {
      cancel();
    }
  }

  /** One report for an outage, not one for each flush. */
  #failed(outcome: Outcome, reason: string): Outcome {
    if (!this.#failing)
      this.#onError(`events could not be sent (${outcome === "retry" ? "kept" : "dropped"}): ${reason}`);
    this.#failing = true;
    return outcome;
  }
}
