/** Every call between parts has a deadline; the numbers stand here, in milliseconds, side by side. */
import { admit, type Breaking, CLOSED, settle } from "./breaker.ts";

/** D1 on the kill path: KV mirrors what is needed there, so waiting longer only delays the kill. */
export const D1_FIRST_MS = 200;
/** D1 under a hub without state, where KV has a snapshot to start from: a kill may be waiting for it. */
export const D1_BIRTH_MS = 500;
/** A publish that the hub has not confirmed by then is asked once more, then answered as pending. */
export const HUB_PUBLISH_MS = 1_000;
/** A hub or KV under the sweep; what is late is done a minute later. */
export const SWEEP_MS = 15_000;
/** What a hub's alarm does besides telling its relays; after that it goes on by itself, and the next alarm may come. */
export const HUB_FOLLOW_MS = 5_000;
/** What a hub knows that D1 may not have been told of yet; after that D1's word is taken. */
export const HUB_READ_MS = 500;
/** An isolate's check with its relay; after that it serves what it has, marked stale. */
export const RELAY_CHECK_MS = 200;
/** A relay's confirmation of a delivery to the node above; a slower one is told again by alarm. */
export const RELAY_DELIVER_MS = 1_000;
/** A relay that attaches to another, then to the next above that; a client may be waiting. */
export const RELAY_ATTACH_MS = 1_000;
/** A relay that attaches to the hub, which may first have to be born, from D1 or KV. */
export const HUB_ATTACH_MS = 6_000;
/** A relay's answer to a client that wants a socket; after that the Worker tries another. */
export const RELAY_OPEN_MS = 3_000;
/** The tree's answer to who has a revision, less than what asks the hub; a relay that takes longer counts as silent. */
export const RECEIPT_MS = 800;
/** Each level has this part of the time of the one above, which then still hears who of those below was silent. */
export const RECEIPT_LEVEL = 0.75;
/** The whole of an environment from its hub, of up to 20 MB, where KV has nothing or not enough. */
export const HUB_SNAPSHOT_MS = 5_000;
/** Limits protect the service, so a limiter that does not answer must not stop it. */
export const RATE_LIMITER_MS = 100;
/** Being woken in time: a write has landed and its answer is waiting. */
export const TIMER_MS = 1_000;
export const KV_READ_MS = 1_000;
/** A snapshot of up to 25 MB; after that the hub's alarm tries again. */
export const KV_WRITE_MS = 10_000;
/** A batch of events into the Queue: its sender waits in the background and sends the same batch again after a 503. */
export const QUEUE_SEND_MS = 5_000;
/** One object of events: after that its messages are delivered again. */
export const R2_WRITE_MS = 15_000;
/** Dead letters, in the background. */
export const R2_READ_MS = 5_000;
/** A step of a big segment's object stands before a question to it; a change is also committed and published. */
export const SEGMENT_MS = 15_000;
/** A filter of 5 million members is 18 MB. Put, or looked at again before it is published. */
export const FILTER_WRITE_MS = 30_000;
/** An isolate's first evaluation waits for the filters of its big segments, then answers without those that are late. */
export const FILTER_READ_MS = 2_000;
/** History in R2: a page of names, or one object of it. */
export const HISTORY_READ_MS = 5_000;
/** A base of up to 20 MB, packed; after that the hub's alarm tries again. */
export const HISTORY_WRITE_MS = 15_000;
/** Ordinary management reads and writes. */
export const D1_MS = 5_000;
/** A write that lost a race after so long is not tried again: with D1 slow, each try takes seconds. */
export const RACES_MS = 10_000;

/** When a caller stops asking for a while (workers/breaker.ts), because asking costs its deadline each time. */
export const D1_BREAKING = { failures: 3, openMs: 1_000, maxOpenMs: 10_000 };
/** Short: it delays a kill by as much in remote evaluation once the relay is back. */
export const RELAY_BREAKING = { failures: 3, openMs: 500, maxOpenMs: 2_000 };
/** Around each relay that clients want a socket of: another takes them, or they poll. */
export const RELAY_OPEN_BREAKING = { failures: 1, openMs: 1_000, maxOpenMs: 10_000 };
export const RATE_LIMITER_BREAKING = { failures: 3, openMs: 1_000, maxOpenMs: 10_000 };

export class DeadlineExceeded extends Error {
  override name = "DeadlineExceeded";
}

/** Settles as `promise` does, or rejects with DeadlineExceeded after `ms`. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineExceeded(`${what} took longer than ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
    // A late failure has nobody left to tell.
    promise.catch(() => {});
  }
}

/** Not asked, because it has kept failing. */
class CircuitOpen extends Error {
  override name = "CircuitOpen";
}

/** One breaker around the calls to one part. */
export class Circuit {
  readonly #what: string;
  readonly #rule: Breaking;
  #state = CLOSED;

  constructor(what: string, rule: Breaking) {
    this.#what = what;
    this.#rule = rule;
  }

  /** Rejects with CircuitOpen without calling, or settles as the call does. */
  async through<T>(call: () => Promise<T>): Promise<T> {
    const { admitted, next } = admit(this.#state, this.#rule, Date.now());
    this.#state = next;
    if (!admitted) throw new CircuitOpen(`${this.#what} is not asked: it has kept failing`);
    try {
      const result = await call();
      this.#settle(true);
      return result;
    } catch (error) {
      this.#settle(false);
      throw error;
    }
  }

  #settle(succeeded: boolean): void {
    this.#state = settle(this.#state, this.#rule, succeeded, Date.now(), Math.random());
  }
}
