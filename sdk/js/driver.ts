import type { Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import { type AppliedMessage, PING } from "@bunting/core/wire";
import type { Clock } from "./clock.ts";
import { transition } from "./sync.ts";
import {
  type Effect,
  initialState,
  type StreamName,
  type SyncEvent,
  type SyncState,
  type TimerName,
} from "./sync-state.ts";
import type { Transport } from "./transports.ts";

/** What a feed keeps up to date. */
export type Store = {
  /** What the server's revisions follow on. */
  readonly revision: number | null;
  /** There is nothing to evaluate with, not even from elsewhere. */
  readonly isEmpty: boolean;
  /** From a cache: whether it was taken, which it never is in place of what the server has sent. */
  restore(ruleset: Ruleset): boolean;
  /** Both throw when the evaluator cannot take it, and then keep what they had. */
  install(ruleset: Ruleset): void;
  apply(patch: PatchMessage): void;
  /** The server has this revision. */
  confirm(): void;
  report(news: News): void;
};

export type News =
  | { type: "connected"; transport: StreamName }
  | { type: "disconnected"; transport: StreamName; reason: string }
  | { type: "stale"; forMs: number }
  | { type: "error"; code: "REFUSED" | "UNREACHABLE" | "GARBAGE"; message: string };

export type FeedStatus = {
  /** How rulesets arrive now. */
  transport: StreamName | "polling";
  /** A stream is up, or the last poll succeeded. */
  connected: boolean;
  stale: boolean;
  /** Milliseconds since the server last confirmed the revision; null before the first time. */
  verifiedAgeMs: number | null;
  /** What has failed and how often in a row, to be tried again after the milliseconds given. */
  circuits: Partial<Record<StreamName | "polling", { failures: number; openForMs: number }>>;
  /** Messages that could not be read. */
  garbage: number;
};

/** What keeps a store up to date. */
export type Feed = { start(): void; close(): void; status(): FeedStatus };

export type Transports = { polling: Transport; streams: Partial<Record<StreamName, Transport>> };

/** Carries out what sync.ts decides. */
export function liveFeed(store: Store, transports: Transports, clock: Clock, random: () => number): Feed {
  const order = (["websocket", "sse"] as const).filter((name) => transports.streams[name] !== undefined);
  let state: SyncState = initialState(order, store.revision);
  let garbage = 0;
  const timers = new Map<TimerName, () => void>();
  const queue: SyncEvent[] = [];
  let draining = false;

  /** One at a time: an effect may dispatch again, and must not run inside another transition. */
  function dispatch(event: SyncEvent): void {
    queue.push(event);
    if (draining) return;
    draining = true;
    try {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const step = transition(state, next, clock.elapsed(), random);
        const { verifiedAt } = state;
        state = step.state;
        for (const effect of step.effects) run(effect);
        if (state.verifiedAt !== verifiedAt) store.confirm();
      }
    } finally {
      draining = false;
    }
  }

  let open: Transport | null = null;

  function run(effect: Effect): void {
    switch (effect.type) {
      case "fetch": {
        let delivered = false;
        transports.polling.open(
          { since: state.revision, atLeast: effect.atLeast },
          {
            message(message) {
              delivered = true;
              dispatch({ type: "fetched", message });
            },
            closed: (end) => delivered || dispatch({ type: "fetch-failed", end }),
          },
        );
        break;
      }
      case "open": {
        open = transports.streams[effect.name]!;
        open.open(
          { since: effect.since, atLeast: null },
          {
            message(message) {
              if (message.type === "garbage") noteGarbage();
              dispatch({ type: "message", message });
            },
            closed: (end) => dispatch({ type: "closed", end }),
          },
        );
        break;
      }
      case "disconnect":
        open?.close();
        break;
      case "abort-fetch":
        transports.polling.close();
        break;
      case "timer":
        timers.get(effect.name)?.();
        timers.set(
          effect.name,
          clock.timer(effect.inMs, () => {
            timers.delete(effect.name);
            dispatch({ type: "timer", name: effect.name });
          }),
        );
        return;
      case "cancel":
        timers.get(effect.name)?.();
        timers.delete(effect.name);
        return;
      case "install":
        attempt(effect.ruleset.revision, () => store.install(effect.ruleset));
        break;
      case "apply":
        attempt(effect.patch.revision, () => store.apply(effect.patch));
        break;
      case "acknowledge":
        open?.send(JSON.stringify({ applied: effect.revision, waitedMs: effect.waitedMs } satisfies AppliedMessage));
        break;
      case "ping":
        open?.send(PING);
        break;
      case "connected":
        store.report({ type: "connected", transport: effect.name });
        break;
      case "disconnected":
        store.report({ type: "disconnected", transport: effect.name, reason: effect.reason });
        break;
      case "stale":
        store.report({ type: "stale", forMs: effect.forMs });
        break;
      case "error":
        store.report({ type: "error", code: effect.code, message: effect.reason });
        break;
    }
  }

  function attempt(revision: number, change: () => void): void {
    try {
      change();
    } catch (error) {
      store.report({ type: "error", code: "GARBAGE", message: `revision ${revision} could not be applied: ${error}` });
      dispatch({ type: "rejected", revision: store.revision });
    }
  }

  function noteGarbage(): void {
    garbage += 1;
    if (garbage === 1)
      store.report({ type: "error", code: "GARBAGE", message: "a stream message could not be read and was ignored" });
  }

  return {
    start: () => dispatch({ type: "start" }),
    close: () => dispatch({ type: "close" }),
    status() {
      const now = clock.elapsed();
      const live = state.stream !== null && state.stream.helloAt !== null;
      const circuits: FeedStatus["circuits"] = {};
      for (const name of order) {
        const { failures, openUntil } = state.circuits[name];
        if (failures > 0) circuits[name] = { failures, openForMs: Math.max(0, openUntil - now) };
      }
      return {
        transport: live ? state.stream!.name : "polling",
        connected: live || (state.verifiedAt !== null && state.fetchFailures === 0 && !state.refused),
        stale: state.stale,
        verifiedAgeMs: state.verifiedAt === null ? null : Math.round(now - state.verifiedAt),
        circuits,
        garbage,
      };
    },
  };
}
