import { PING } from "@bunting/core/wire";
import type { Clock } from "./clock.ts";
import { ASLEEP_MS, lookAt, sleep } from "./sleep.ts";
import {
  type Effect,
  initialState,
  type News,
  type Patch,
  type Put,
  type StreamName,
  type SyncEvent,
  type SyncState,
  type TimerName,
} from "./state.ts";
import { transition } from "./sync.ts";
import type { Transport } from "./transport.ts";

/** What a feed keeps up to date. */
export type Store<P extends Put = Put, D extends Patch = Patch> = {
  /** What the server's revisions follow on. */
  readonly revision: number | null;
  /** Both throw when they cannot take it, and then keep what they had. */
  install(put: P): void;
  apply(patch: D): void;
  /** The server has this revision. */
  confirm(): void;
  report(news: News): void;
};

export type FeedStatus = {
  /** How changes arrive now. */
  transport: StreamName | "polling";
  /** A stream is up, or the last poll succeeded. */
  connected: boolean;
  stale: boolean;
  /** Milliseconds since the server last confirmed the revision; null before the first time. */
  verifiedAgeMs: number | null;
  /** What has failed and how often in a row, to be tried again after the milliseconds given. */
  circuits: Partial<Record<StreamName | "polling", { failures: number; openForMs: number }>>;
  /** Messages that could not be read, since the client started. */
  invalidResponses: number;
};

/** What keeps a store up to date. */
export type Feed = { start(): void; close(): void; status(): FeedStatus };

/** A feed that can be suspended, resumed and restarted for another context. */
export type LiveFeed = Feed & { notify(event: "sleep" | "wake" | "forget"): void };

export type Transports<P extends Put = Put, D extends Patch = Patch> = {
  polling: Transport<P, D>;
  streams: Partial<Record<StreamName, Transport<P, D>>>;
  /** What to say of a revision that is applied, over WebSocket. */
  acknowledgement?(revision: number, waitedMs: number): string;
};

/** How often the clocks are looked at. */
const LOOK_MS = 5_000;

/** Carries out what sync.ts decides. `lateMs`: a look at the clocks that is later than this means that the process was stopped. */
export function liveFeed<P extends Put, D extends Patch>(
  store: Store<P, D>,
  { polling, streams, acknowledgement }: Transports<P, D>,
  clock: Clock,
  random: () => number,
  { lookMs = LOOK_MS, lateMs = Number.POSITIVE_INFINITY } = {},
): LiveFeed {
  const order = (["websocket", "sse"] as const).filter((name) => streams[name]);
  let state = initialState(order, store.revision) as SyncState<D>;
  let invalidResponses = 0;
  let open: Transport<P, D> | undefined;
  let cancelTimer = () => {};
  let cancelLook = () => {};
  let clocks = lookAt(clock);
  const queue: SyncEvent<P, D>[] = [];
  let draining = false;

  /** One at a time: an effect may dispatch again, and must not run inside another transition. */
  function dispatch(...event: SyncEvent<P, D>): void {
    queue.push(event);
    if (draining) return;
    draining = true;
    try {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const { verifiedAt } = state;
        const [after, effects] = transition(state, next, clock.elapsed(), random);
        state = after;
        for (const effect of effects) carryOut(effect);
        if (state.verifiedAt !== null && state.verifiedAt !== verifiedAt) store.confirm();
      }
    } finally {
      draining = false;
    }
    cancelTimer();
    const [soonest] = (Object.entries(state.due) as [TimerName, number][]).sort((one, other) => one[1] - other[1]);
    if (soonest)
      cancelTimer = clock.timer(Math.max(0, soonest[1] - clock.elapsed()), () => dispatch("timer", soonest[0]));
  }

  function carryOut([type, detail, more]: Effect<P, D>): void {
    switch (type) {
      case "fetch": {
        let delivered = false;
        polling.open(
          { since: state.revision, atLeast: detail },
          {
            message(message) {
              delivered = true;
              dispatch("fetched", message);
            },
            closed: (end) => delivered || dispatch("failed", end),
          },
        );
        break;
      }
      case "abort":
        polling.close();
        break;
      case "open":
        open = streams[detail]!;
        open.open(
          { since: more, atLeast: null },
          {
            message(message) {
              if (message.type === "invalid" && ++invalidResponses === 1) complain("a message could not be read");
              dispatch("message", message);
            },
            closed: (end) => dispatch("closed", end),
          },
        );
        break;
      case "disconnect":
        open?.close();
        break;
      case "install":
        attempt(() => store.install(detail));
        break;
      case "apply":
        attempt(() => store.apply(detail));
        break;
      case "acknowledge":
        if (acknowledgement) open?.send?.(acknowledgement(detail, more));
        break;
      case "ping":
        open?.send?.(PING);
        break;
      case "report":
        store.report(detail);
    }
  }

  const complain = (message: string) => store.report({ type: "error", code: "INVALID_RESPONSE", message });

  function attempt(change: () => void): void {
    try {
      change();
    } catch (error) {
      complain(`a change could not be applied: ${error}`);
      dispatch("rejected", store.revision);
    }
  }

  /** Before anything else that is done after a sleep: until then everything looks as it did before. */
  function look(): void {
    const before = clocks;
    clocks = lookAt(clock);
    const { sleptMs, missedMs } = sleep(before, clocks, lateMs);
    if (sleptMs >= ASLEEP_MS) dispatch("slept", missedMs);
  }

  function keepLooking(): void {
    cancelLook = clock.timer(lookMs, () => {
      look();
      keepLooking();
    });
  }

  return {
    start() {
      clocks = lookAt(clock);
      keepLooking();
      dispatch("start");
    },
    close() {
      cancelLook();
      dispatch("close");
    },
    notify: (event) => dispatch(event),
    status() {
      look();
      const now = clock.elapsed();
      const { stream, verifiedAt, stale } = state;
      const live = stream !== null && stream.helloAt !== null;
      const circuits: FeedStatus["circuits"] = {};
      for (const name of order) {
        const { failures, openUntil } = state.circuits[name];
        if (failures > 0) circuits[name] = { failures, openForMs: Math.max(0, openUntil - now) };
      }
      const { fetchFailures: failures, due } = state;
      if (failures > 0) circuits.polling = { failures, openForMs: Math.max(0, (due.fetch ?? now) - now) };
      return {
        transport: live ? stream.name : "polling",
        connected: !state.closed && (live || (verifiedAt !== null && !state.fetchFailures && !state.refused)),
        stale,
        verifiedAgeMs: verifiedAt === null ? null : Math.round(now - verifiedAt),
        circuits,
        invalidResponses,
      };
    },
  };
}
