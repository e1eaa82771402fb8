/** The filters of big segments (EV-20): fetched apart from the ruleset, since millions of members would not fit it. */
import type { Evaluator, MissingFilter } from "@bunting/core";
import type { Clock } from "../sync/clock.ts";
import { messageOf } from "../transports/connection.ts";
import type { Endpoint } from "../transports/protocol.ts";

/** 18 MB for five million members, over a slow line. */
const DEADLINE_MS = 60_000;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

/** Doubles from a second to a minute; half of it is chance, so that clients do not come back together. */
export const retryAfterMs = (failures: number, random: () => number): number =>
  Math.min(RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS) * (0.5 + random() / 2);

/** Where filters outlive the process; `read` at once. */
export type KeptFilters = {
  read(missing: MissingFilter): Uint8Array | null;
  write(missing: MissingFilter, filter: Uint8Array): Promise<void>;
};

/** One fetch at a time: at most one filter more is in memory than is evaluated with. */
export class Filters {
  readonly #endpoint: Endpoint;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #report: (message: string) => void;
  readonly #kept: KeptFilters | null;
  #evaluator: Evaluator | null = null;
  #arrived: (segment: string) => void = () => {};
  #fetchingSince: number | null = null;
  #failures = 0;
  #cancelRetry: (() => void) | null = null;
  #abort: (() => void) | null = null;
  #closed = false;

  constructor(
    endpoint: Endpoint,
    clock: Clock,
    random: () => number,
    report: (message: string) => void,
    kept: KeptFilters | null = null,
  ) {
    this.#endpoint = endpoint;
    this.#clock = clock;
    this.#random = random;
    this.#report = report;
    this.#kept = kept;
  }

  /** Whether some segment cannot be answered for at all: not even by an older filter. */
  get lacksFirst(): boolean {
    return this.#evaluator?.missingFilters().some(({ first }) => first) ?? false;
  }

  /** Called after each filter that has been set. */
  onArrival(arrived: (segment: string) => void): void {
    this.#arrived = arrived;
  }

  /** The evaluator to serve from now on; one that was compiled on top of the last keeps its filters. */
  serve(evaluator: Evaluator): void {
    this.#evaluator = evaluator;
  }

  /** Fetches in the background until nothing is missing, for platforms with timers. */
  async keepFetching(): Promise<void> {
    if (this.#cancelRetry !== null || this.#closed) return;
    const complete = await this.fetchMissing();
    if (complete || this.#closed || this.#cancelRetry !== null || this.#fetchingSince !== null) return;
    this.#cancelRetry = this.#clock.timer(retryAfterMs(this.#failures, this.#random), () => {
      this.#cancelRetry = null;
      void this.keepFetching();
    });
  }

  /** One attempt at all that is missing: whether nothing is missing any more. Never rejects. */
  async fetchMissing(): Promise<boolean> {
    const now = this.#clock.elapsed();
    // In Workers the request that fetches may be ended: after its deadline it counts for nothing.
    if (this.#fetchingSince !== null && now - this.#fetchingSince < DEADLINE_MS) return false;
    if (this.#next() === undefined) return true;
    this.#fetchingSince = now;
    return this.#fetchAll();
  }

  /** Perhaps by a request that has been ended meanwhile. */
  get isFetching(): boolean {
    return this.#fetchingSince !== null;
  }

  async #fetchAll(): Promise<boolean> {
    try {
      for (let missing = this.#next(); missing !== undefined && !this.#closed; missing = this.#next()) {
        if (this.#set(missing, this.#kept?.read(missing))) continue;
        this.#fetchingSince = this.#clock.elapsed();
        const filter = await this.#fetch(missing);
        if (this.#set(missing, filter)) void this.#kept?.write(missing, filter);
        else if (this.#next()?.url === missing.url) throw new Error("it is not as its segment says");
      }
      this.#failures = 0;
      return true;
    } catch (error) {
      this.#failures += 1;
      if (this.#failures === 1) this.#report(`the filter of a big segment could not be fetched: ${messageOf(error)}`);
      return false;
    } finally {
      this.#fetchingSince = null;
    }
  }

  #set({ segment, generation }: MissingFilter, filter: Uint8Array | null | undefined): boolean {
    if (!filter || !this.#evaluator?.setFilter(segment, generation, filter)) return false;
    this.#arrived(segment);
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#abort?.();
  }

  #next(): MissingFilter | undefined {
    return this.#evaluator?.missingFilters()[0];
  }

  async #fetch({ url, bytes }: MissingFilter): Promise<Uint8Array> {
    // The server key goes along: only to where the ruleset came from.
    if (!/^\/[^/]/.test(url)) throw new Error(`${url} is no path`);
    const controller = new AbortController();
    this.#abort = () => controller.abort(new Error("closed"));
    const late = () => controller.abort(new Error(`no answer in ${DEADLINE_MS / 1000} s`));
    const cancel = this.#clock.timer(DEADLINE_MS, late);
    try {
      const { signal } = controller;
      const response = await this.#endpoint.fetch(`${this.#endpoint.url}${url}`, {
        headers: this.#endpoint.headers(),
        signal,
      });
      if (response.status !== 200 || response.body === null) {
        await response.body?.cancel();
        throw new Error(`the server answered ${response.status}`);
      }
      return await readExactly(response.body, bytes);
    } finally {
      cancel();
      this.#abort = null;
    }
  }
}

/** Into one array that is made once; a body of another length is refused as soon as that shows. */
async function readExactly(body: ReadableStream<Uint8Array>, bytes: number): Promise<Uint8Array> {
  const whole = new Uint8Array(bytes);
  const reader = body.getReader();
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (length + value.length > bytes) {
      await reader.cancel();
      throw new Error(`it is longer than ${bytes} bytes`);
    }
    whole.set(value, length);
    length += value.length;
  }
  if (length !== bytes) throw new Error(`it has ${length} of ${bytes} bytes`);
  return whole;
}
