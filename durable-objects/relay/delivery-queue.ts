/**
 * The deliveries that a relay has received and not yet sent to its sockets. Single changes are sent at once. During a
 * storm of edits the queue paces sending and merges what arrived meanwhile, so that a kill never waits behind a
 * backlog.
 */
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Delivery, EnvironmentOccupancy } from "../fan-out/delivery.ts";

/** Twice the CPU time of a message to one socket and its acknowledgement. Measured: bench/RESULTS.md, write-storm. */
const MS_PER_SOCKET = 0.2;
/** Far below the parent's deadline for a delivery, RELAY_DELIVER_MS. */
const MAX_PAUSE_MS = 250;
/** This many changes in a row are sent without a pause. */
const BURST = 3;

/** `sentTo`: the children that were already sent it. */
export type QueuedDelivery = { delivery: Delivery; occupancy: EnvironmentOccupancy; sentTo: Set<string> | undefined };

export class DeliveryQueue {
  #queued: QueuedDelivery[] = [];
  #bucket: Bucket | null = null;
  #socketCount = 0;
  #endPause: (() => void) | null = null;

  /** The newest revision that waits here. */
  get newest(): number | null {
    return this.#queued.at(-1)?.delivery.revision ?? null;
  }

  add(queued: QueuedDelivery): void {
    this.#queued.push(queued);
    if (queued.delivery.urgent) this.#endPause?.();
  }

  /**
   * Waits for the pause to end, which something urgent ends at once, then empties the queue. Returns the unbroken run
   * that follows `newestSent()`; what does not follow is dropped, and an attach brings it.
   */
  async next(newestSent: () => number | null): Promise<QueuedDelivery[]> {
    if (this.#queued.length === 0) return [];
    const pauseMs = this.#takePause();
    if (pauseMs > 0 && !this.#queued.some(({ delivery }) => delivery.urgent)) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        this.#endPause = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#endPause = null;
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
  setSocketCount(sockets: number): void {
    this.#socketCount = sockets;
  }

  /** Takes a token. Returns how many ms the next run has to wait. */
  #takePause(): number {
    const pauseMs = Math.min(this.#socketCount * MS_PER_SOCKET, MAX_PAUSE_MS);
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
