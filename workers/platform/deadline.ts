/**
 * Every call between parts: how long it may take, and what happens then. One table, which docs/deadlines.md shows (a test
 * holds the two together) and which the constants are taken from.
 */
import { admit, type Breaking, CLOSED, settle } from "./breaker.ts";

type Deadline = { ms: number; call: string; otherwise: string; breaking?: Breaking };

/** `failures` in a row open a breaker (workers/platform/breaker.ts), because each call would cost the deadline. */
const D1_BREAKS: Breaking = { failures: 3, openMs: 1_000, maxOpenMs: 10_000 };
/** Short: it delays a kill by as much in remote evaluation once the relay is back. */
const RELAY_BREAKS: Breaking = { failures: 3, openMs: 500, maxOpenMs: 2_000 };
/** Around each relay: others have room, and polling goes on. */
const RELAY_OPEN_BREAKS: Breaking = { failures: 1, openMs: 1_000, maxOpenMs: 10_000 };

export const deadlines = {
  D1_FIRST_MS: {
    ms: 200,
    call: "D1 on the way of a kill: whose the token is, the environment's name, the mirror of the kill",
    otherwise: "KV, which mirrors the first two, is read; the kill is mirrored by the hub's alarm",
    breaking: D1_BREAKS,
  },
  D1_COLD_START_MS: {
    ms: 500,
    call: "D1 under a hub without state",
    otherwise: "it starts from KV's snapshot; without one it waits as for any read of D1",
  },
  D1_MS: {
    ms: 5_000,
    call: "D1 under a request or a hub",
    otherwise: "503 with Retry-After and nothing written; the hub's alarm tries again",
  },
  RACES_MS: {
    ms: 10_000,
    call: "all tries of a write that loses races",
    otherwise: "503 with Retry-After: with D1 slow, each try takes seconds",
  },
  LINE_ENTER_MS: {
    ms: 500,
    call: "the write line of a project, to be given a place",
    otherwise: "the write is made at once, and validated again if another one lands first",
    breaking: D1_BREAKS,
  },
  LINE_TURN_MS: {
    ms: 20_000,
    call: "the write line of a project, for the turn of a write",
    otherwise: "429 with Retry-After, which says how many writes wait; nothing is written",
  },
  HUB_PUBLISH_MS: {
    ms: 1_000,
    call: "the hub, to publish a change, to kill, or for a receipt",
    otherwise: "called once more (a receipt is 503); then a change is pending and the sweep delivers it, a kill is 503",
  },
  HUB_READ_MS: { ms: 500, call: "the hub, for kills that D1 may not have yet", otherwise: "D1's kills are used" },
  HUB_SNAPSHOT_MS: {
    ms: 5_000,
    call: "the snapshot of an environment, up to 20 MB, from the relay, its ancestors or the hub",
    otherwise: "an isolate serves what it has, marked stale; one that has nothing says 503",
  },
  HUB_REPLICATION_MS: {
    ms: 5_000,
    call: "replication by the hub's alarm: D1, KV and R2",
    otherwise: "it continues in the background, and the alarm goes on with its relays",
  },
  HUB_ATTACH_MS: {
    ms: 6_000,
    call: "a relay that attaches to the hub, which may have to cold-start first",
    otherwise: "clients are refused until the next attempt, or served what the relay has",
  },
  RELAY_ATTACH_MS: {
    ms: 1_000,
    call: "a relay that attaches to another",
    otherwise: "it attaches to the next ancestor, up to the hub",
  },
  RELAY_DELIVER_MS: {
    ms: 1_000,
    call: "a relay, to take a delivery",
    otherwise: "sent again by alarm after 2 s, then twice as long, up to a minute",
  },
  RELAY_CHECK_MS: {
    ms: 200,
    call: "a relay, for what is new; or its ancestors, called by a relay for its clients",
    otherwise: "what is there is served: by isolates marked stale, by relays as before",
    breaking: RELAY_BREAKS,
  },
  RELAY_OPEN_MS: {
    ms: 3_000,
    call: "a relay, to take a client's socket",
    otherwise: "another relay is tried, then the client polls",
    breaking: RELAY_OPEN_BREAKS,
  },
  RECEIPT_MS: {
    ms: 800,
    call: "the tree, for a receipt; each level has three quarters of it",
    otherwise: "a relay that takes longer counts as silent, with as many as it last reported",
  },
  TIMER_MS: {
    ms: 1_000,
    call: "the timer, to be woken in time for what is planned",
    otherwise: "cron does it within a minute",
  },
  SWEEP_MS: { ms: 15_000, call: "a hub, D1 or KV under the minutely sweep", otherwise: "done a minute later" },
  RATE_LIMITER_MS: {
    ms: 100,
    call: "a rate limiter",
    otherwise: "let pass: limits protect the service and must not stop it",
    breaking: D1_BREAKS,
  },
  KV_READ_MS: {
    ms: 1_000,
    call: "KV, to read, or to mirror a token or an environment",
    otherwise: "D1 or the hub is read, else the request is refused; the sweep mirrors again",
  },
  KV_WRITE_MS: {
    ms: 10_000,
    call: "KV, to write a snapshot of up to 25 MB, its pointer, or to delete one",
    otherwise: "the hub's alarm tries again, the pointer not before the late write has landed or a minute is over",
  },
  QUEUE_SEND_MS: {
    ms: 5_000,
    call: "the queue, to take events",
    otherwise: "503, and the SDK sends the same batch again; dead letters stay in R2",
  },
  R2_WRITE_MS: { ms: 15_000, call: "R2, for an object of events", otherwise: "the queue delivers the messages again" },
  R2_READ_MS: { ms: 5_000, call: "R2, for dead letters", otherwise: "the next sweep reads them" },
  SEGMENT_MS: {
    ms: 15_000,
    call: "a big segment's object, which may be committing a change",
    otherwise: "503 with Retry-After; called again by the next rebuild",
  },
  FILTER_WRITE_MS: {
    ms: 30_000,
    call: "R2, for a filter of up to 18 MB",
    otherwise: "the old filter and the list of changes stay; the segment's alarm tries again",
  },
  FILTER_READ_MS: {
    ms: 2_000,
    call: "R2, for the filters of an isolate's big segments",
    otherwise: "evaluated without the filter, which is read again",
  },
  HISTORY_READ_MS: {
    ms: 5_000,
    call: "history: R2, or what the hub has not archived yet",
    otherwise: "503 with Retry-After",
  },
  HISTORY_WRITE_MS: {
    ms: 15_000,
    call: "R2, for a piece of history of up to 20 MB",
    otherwise: "the hub's alarm tries again, its log keeps what is missing",
  },
} as const satisfies Record<string, Deadline>;

const milliseconds = Object.fromEntries(Object.entries(deadlines).map(([name, { ms }]) => [name, ms])) as {
  [Name in keyof typeof deadlines]: number;
};

export const {
  D1_FIRST_MS,
  D1_COLD_START_MS,
  D1_MS,
  RACES_MS,
  LINE_ENTER_MS,
  LINE_TURN_MS,
  HUB_PUBLISH_MS,
  HUB_READ_MS,
  HUB_SNAPSHOT_MS,
  HUB_REPLICATION_MS,
  HUB_ATTACH_MS,
  RELAY_ATTACH_MS,
  RELAY_DELIVER_MS,
  RELAY_CHECK_MS,
  RELAY_OPEN_MS,
  RECEIPT_MS,
  TIMER_MS,
  SWEEP_MS,
  RATE_LIMITER_MS,
  KV_READ_MS,
  KV_WRITE_MS,
  QUEUE_SEND_MS,
  R2_WRITE_MS,
  R2_READ_MS,
  SEGMENT_MS,
  FILTER_WRITE_MS,
  FILTER_READ_MS,
  HISTORY_READ_MS,
  HISTORY_WRITE_MS,
} = milliseconds;

/** Each level has this part of its parent's time, so that the parent can still respond, with silent children counted. */
export const RECEIPT_LEVEL = 0.75;

export const D1_BREAKING = deadlines.D1_FIRST_MS.breaking;
export const RELAY_BREAKING = deadlines.RELAY_CHECK_MS.breaking;
export const RELAY_OPEN_BREAKING = deadlines.RELAY_OPEN_MS.breaking;
export const WRITE_LINE_BREAKING = deadlines.LINE_ENTER_MS.breaking;
export const RATE_LIMITER_BREAKING = deadlines.RATE_LIMITER_MS.breaking;

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
    // A failure after the deadline must not become an unhandled rejection.
    promise.catch(() => {});
  }
}

/** Thrown instead of a call to a part that has kept failing. */
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
    if (!admitted) throw new CircuitOpen(`${this.#what} is not called: it has kept failing`);
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
