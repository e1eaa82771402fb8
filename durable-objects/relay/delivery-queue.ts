/**
 * What a relay has received and not yet sent to its sockets. Single changes are sent at once. Of a storm of edits its sockets are
 * sent, at a rate that they can take, what has come meanwhile as one patch, so that a kill finds no backlog before it.
 */
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Delivery, EnvironmentOccupancy } from "../fan-out/delivery.ts";

/** What a message costs a relay for each socket, its acknowledgement included, times two. Ms; bench/RESULTS.md, write-storm. */
const MS_A_SOCKET = 0.2;
/** Far less than whoever delivers waits for an answer. */
const MAX_PAUSE_MS = 250;
/** So many changes in a row are no storm yet. */
const BURST = 3;

/** `told`: the children that have it already. */
export type Queued = { delivery: Delivery; occupancy: EnvironmentOccupancy; told: Set<string> | undefined };

export class DeliveryQueue {
  #queued: Queued[] = [];
  #bucket: Bucket | null = null;
  #sockets = 0;
  #urgent: (() => void) | null = null;

  /** The newest revision that waits here. */
  get newest(): number | null {
    return this.#queued.at(-1)?.delivery.revision ?? null;
  }

  add(queued: Queued): void {
    this.#queued.push(queued);
    if (queued.delivery.urgent) this.#urgent?.();
  }

  /** Everything that waits and follows what was sent, once it may be sent: at once, where something urgent is among it. */
  async next(sent: () => number | null): Promise<Queued[]> {
    if (this.#queued.length === 0) return [];
    const pauseMs = this.#take();
    if (pauseMs > 0 && !this.#queued.some(({ delivery }) => delivery.urgent)) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        this.#urgent = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#urgent = null;
      this.#take();
    }
    let last = sent();
    return this.#queued.splice(0).filter(({ delivery: { previous, revision } }) => {
      if (previous !== last) return false;
      last = revision;
      return true;
    });
  }

  /** To how many sockets the last ones went. */
  sent(sockets: number): void {
    this.#sockets = sockets;
  }

  /** In how many ms the next may be sent. */
  #take(): number {
    const pauseMs = Math.min(this.#sockets * MS_A_SOCKET, MAX_PAUSE_MS);
    if (pauseMs < 1) return 0;
    const { bucket, retryAfterMs } = takeFrom(
      this.#bucket,
      1,
      { perSecond: 1_000 / pauseMs, burst: BURST },
      Date.now(),
    );
    this.#bucket = bucket;
    return retryAfterMs;
  }
}
