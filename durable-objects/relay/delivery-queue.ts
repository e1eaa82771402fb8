/**
 * The deliveries that a relay has received and not yet sent to its sockets. A single change is sent at once. During a
 * storm of edits the queue sends at a rate that the sockets allow and merges what arrived meanwhile, so that a kill
 * never waits behind a backlog.
 */
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Delivery, EnvironmentOccupancy } from "../fan-out/delivery.ts";

/** Twice the CPU time of a message to one socket and its acknowledgement. Measured: bench/RESULTS.md, write-storm. */
const MS_PER_SOCKET = 0.25;
/** Far below the parent's deadline for a delivery, RELAY_DELIVER_MS. */
const MAX_PAUSE_MS = 250;
/** In a storm a kill waits this long for more kills: a hundred of them are then not a hundred messages per socket. */
const URGENT_PAUSE_MS = 20;
/** This many changes in a row are sent without a pause. */
const BURST = 2;

/** `sentTo`: the children that were already sent it. */
export type QueuedDelivery = { delivery: Delivery; occupancy: EnvironmentOccupancy; sentTo: Set<string> | undefined };

export class DeliveryQueue {
  #queued: QueuedDelivery[] = [];
  #bucket: Bucket | null = null;
  #socketCount = 0;
  /** Shortens the pause in progress. */
  #shortenPause: (() => void) | null = null;

  /** The newest revision in the queue. */
  get newest(): number | null {
    return this.#queued.at(-1)?.delivery.revision ?? null;
  }

  add(queued: QueuedDelivery): void {
    this.#queued.push(queued);
    if (queued.delivery.urgent) this.#shortenPause?.();
  }

  /**
   * Waits for the pause to end, which an urgent delivery shortens, then empties the queue. Returns the unbroken run
   * that follows `newestSent()`; what does not follow is dropped, and an attach brings it.
   */
  async next(newestSent: () => number | null): Promise<QueuedDelivery[]> {
    if (this.#queued.length === 0) return [];
    const pauseMs = this.#takePause();
    if (pauseMs > 0) {
      await this.#pause(pauseMs);
      this.#takePause();
    }
    let last = newestSent();
    return this.#queued.splice(0).filter(({ delivery: { previous, revision } }) => {
      if (previous !== last) return false;
      last = revision;
      return true;
    });
  }

  /** How many sockets the last run was sent to: the pause grows with them. */
  setSocketCount(count: number): void {
    this.#socketCount = count;
  }

  /** Only the first urgent delivery shortens a pause: if each one did, a stream of kills would never be sent. */
  #pause(pauseMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pauseMs);
      this.#shortenPause = () => {
        this.#shortenPause = null;
        clearTimeout(timer);
        setTimeout(resolve, Math.min(URGENT_PAUSE_MS, pauseMs));
      };
      if (this.#queued.some(({ delivery }) => delivery.urgent)) this.#shortenPause();
    }).then(() => {
      this.#shortenPause = null;
    });
  }

  /** Takes a token. Returns how many ms the next run has to wait. */
  #takePause(): number {
    const pauseMs = Math.min(this.#socketCount * MS_PER_SOCKET, MAX_PAUSE_MS);
    if (pauseMs < 1) return 0;
    const limit = { perSecond: 1_000 / pauseMs, burst: BURST };
    const { bucket, retryAfterMs } = takeFrom(this.#bucket, 1, limit, Date.now());
    this.#bucket = bucket;
    // It is longer only if the clock was set back.
    return Math.min(retryAfterMs, Math.ceil(pauseMs));
  }
}
