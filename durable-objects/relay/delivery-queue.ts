/**
 * Deliveries that a relay has received and not yet sent to its sockets. A single change is sent at once. In a storm of edits the
 * relay sends at a rate that its sockets allow, and merges what arrives between, so that a kill finds no backlog in front of it.
 */
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Delivery, Standing } from "../fan-out/delivery.ts";

/** Twice what a message and its acknowledgement cost a relay for each socket (bench/RESULTS.md, write-storm). */
const MS_PER_SOCKET = 0.25;
/** Well below RELAY_DELIVER_MS, which is how long the parent waits for an answer. */
const MAX_PAUSE_MS = 250;
/** In a storm a kill waits this long for further kills: a hundred of them are then not a hundred messages to each socket. */
const URGENT_PAUSE_MS = 20;
/** Changes in a row that are sent without a pause. */
const BURST = 2;

/** `sentTo` names the children that have the delivery already. */
export type QueuedDelivery = { delivery: Delivery; standing: Standing; sentTo: Set<string> | undefined };

export class DeliveryQueue {
  #queued: QueuedDelivery[] = [];
  #bucket: Bucket | null = null;
  #socketCount = 0;
  /** Shortens the pause that is under way. */
  #shortenPause: (() => void) | null = null;

  /** The newest revision in the queue. */
  get newest(): number | null {
    return this.#queued.at(-1)?.delivery.revision ?? null;
  }

  add(queued: QueuedDelivery): void {
    this.#queued.push(queued);
    if (queued.delivery.urgent) this.#shortenPause?.();
  }

  /** Empties the queue after the pause. Resolves with the unbroken run of deliveries on top of the revision that `sent` returns. */
  async next(sent: () => number | null): Promise<QueuedDelivery[]> {
    if (this.#queued.length === 0) return [];
    const pauseMs = this.#takePause();
    if (pauseMs > 0) {
      await this.#pause(pauseMs);
      this.#takePause();
    }
    let last = sent();
    return this.#queued.splice(0).filter(({ delivery: { previous, revision } }) => {
      if (previous !== last) return false;
      last = revision;
      return true;
    });
  }

  /** How many sockets the last message was sent to. */
  setSocketCount(count: number): void {
    this.#socketCount = count;
  }

  /** Only the first urgent delivery shortens a pause: with each one doing so, a stream of kills would put itself off. */
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

  /** Takes a token for one message; returns in how many ms there is one, 0 for now. */
  #takePause(): number {
    const pauseMs = Math.min(this.#socketCount * MS_PER_SOCKET, MAX_PAUSE_MS);
    if (pauseMs < 1) return 0;
    const limit = { perSecond: 1_000 / pauseMs, burst: BURST };
    const { bucket, retryAfterMs } = takeFrom(this.#bucket, 1, limit, Date.now());
    this.#bucket = bucket;
    // More only where the clock was set back.
    return Math.min(retryAfterMs, Math.ceil(pauseMs));
  }
}
