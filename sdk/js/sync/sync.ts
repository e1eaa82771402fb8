import { BACKOFF_MAX_MS, BACKOFF_MIN_MS, backoffCap, backoffMs, FIRST_RETRY_MS } from "./backoff.ts";
import {
  CATCH_UP_MS,
  CIRCUIT_FAILURES,
  CONNECT_MS,
  EARLY_PATCHES,
  type Effect,
  type End,
  GAP_MS,
  type Incoming,
  type Patch,
  PING_MS,
  type Put,
  pollMs,
  SILENCE_MS,
  STABLE_MS,
  STALE_MS,
  type StreamName,
  type SyncEvent,
  type SyncState,
  type TimerName,
} from "./state.ts";

/**
 * The next state and what to do about it. Touches nothing: the same inputs give the same answer.
 * Local functions and not methods: browsers load this, and minifiers keep the names of methods.
 */
export function transition<P extends Put, D extends Patch>(
  before: SyncState<D>,
  [type, detail]: SyncEvent<P, D>,
  now: number,
  random: () => number,
): [SyncState<D>, Effect<P, D>[]] {
  const effects: Effect<P, D>[] = [];
  if (before.closed) return [before, effects];
  type Draft<State> = { -readonly [Name in keyof State]: State[Name] };
  const due: Draft<SyncState["due"]> = { ...before.due };
  const state: Draft<SyncState<D>> = { ...before, due };

  const act = (...effect: Effect<P, D>) => void effects.push(effect);
  const arm = (name: TimerName, inMs: number) => {
    due[name] = now + inMs;
  };
  const armSooner = (name: TimerName, inMs: number) => arm(name, Math.min(inMs, (due[name] ?? Infinity) - now));
  const disarm = (...names: TimerName[]) => {
    for (const name of names) delete due[name];
  };

  const held = () => state.revision ?? -1;
  const isInStep = () => held() >= Math.max(0, state.wanted);
  const isLive = () => state.stream !== null && state.stream.helloAt !== null;
  const isStable = () => isLive() && now - state.stream!.helloAt! >= STABLE_MS;
  const isShut = (name: StreamName) => state.circuits[name].openUntil > now;
  const wantMore = (revision: number) => {
    state.wanted = Math.max(state.wanted, revision);
  };
  const setCircuit = (name: StreamName, failures: number, openUntil: number) => {
    state.circuits = { ...state.circuits, [name]: { failures, openUntil } };
  };

  // Everything at once

  function fetch(): void {
    disarm("fetch");
    if (!state.fetching) act("fetch", isInStep() ? null : state.wanted || null);
    state.fetching = true;
  }

  function install(whole: P): void {
    // The server's first answer replaces what a cache or bootstrap provided, even at the same revision.
    if (whole.revision < held() + (state.verifiedAt === null ? 0 : 1)) return;
    move(whole.revision);
    act("install", whole);
    applyEarly();
    acknowledge();
  }

  function fetched(message: Incoming<P, D>): void {
    state.fetching = state.refused = false;
    const isBehind = message.type === "put" && message.revision < held();
    if (message.type === "put") install(message as P);
    if (isInStep() && !isBehind) {
      state.fetchFailures = 0;
      verified();
      if (!isLive()) arm("fetch", pollMs(random));
    } else {
      // The edge is behind a revision that a message has named: retry with back-off.
      arm("fetch", backoffMs(++state.fetchFailures, random));
    }
    connectIfNone();
  }

  function failed(end: End): void {
    state.fetching = false;
    if (end.refused) {
      refuse(end);
      return;
    }
    const first = ++state.fetchFailures === 1;
    if (first) complain(end.invalid ? "INVALID_RESPONSE" : "UNREACHABLE", end.reason);
    if (state.verifiedAt === null && !state.stale) timer("stale");
    const delay = first && held() < 0 ? random() * FIRST_RETRY_MS : backoffMs(state.fetchFailures, random);
    if (!isLive() || !isInStep()) arm("fetch", delay + (end.retryAfterMs ?? 0));
    connectIfNone();
  }

  function refuse({ reason, retryAfterMs = 0 }: End): void {
    state.refused = true;
    leave(reason);
    disarm("connect");
    complain("REFUSED", reason);
    arm("fetch", BACKOFF_MAX_MS * (0.5 + random()) + retryAfterMs);
  }

  const complain = (code: "REFUSED" | "UNREACHABLE" | "INVALID_RESPONSE", message: string) =>
    act("report", { type: "error", code, message });

  function verified(): void {
    state.verifiedAt = now;
    state.stale = false;
    arm("stale", STALE_MS);
    if (isLive()) disarm("stale");
  }

  // Streams

  function connectIfNone(): void {
    if (state.stream === null && due.connect === undefined) connect();
  }

  function connect(): void {
    if (state.refused || state.revision === null || !state.order.length) return;
    leave("reconnecting as requested");
    const name = state.order.find((candidate) => !isShut(candidate));
    if (name === undefined) {
      due.connect = Math.min(...state.order.map((candidate) => state.circuits[candidate].openUntil));
      return;
    }
    state.stream = { name, helloAt: null, leaving: false };
    act("open", name, state.revision);
    arm("silence", CONNECT_MS);
    armSooner("fetch", pollMs(random));
  }

  /** `ended`: the stream has closed already, and need not be disconnected. */
  function leave(reason: string, ended?: boolean): void {
    const { stream } = state;
    if (stream === null) return;
    if (!ended) act("disconnect");
    if (isStable()) setCircuit(stream.name, 0, 0);
    if (isLive()) {
      act("report", { type: "disconnected", transport: stream.name, reason });
      arm("stale", Math.max(0, STALE_MS - now + (state.verifiedAt ?? now)));
    }
    state.stream = null;
    disarm("silence", "ping", "ack");
  }

  function closed(end: End): void {
    const { stream } = state;
    if (stream === null) return;
    const wasStable = isStable();
    leave(end.reason, true);
    armSooner("fetch", pollMs(random));
    if (end.refused) refuse(end);
    else if (stream.leaving) return;
    else if (wasStable) arm("connect", random() * state.windowMs);
    else streamFailed(stream.name, end);
  }

  function streamFailed(name: StreamName, { reason, retryAfterMs = 0 }: End): void {
    const failures = state.circuits[name].failures + 1;
    if (failures < CIRCUIT_FAILURES) {
      setCircuit(name, failures, 0);
      // After it, not at it: every refused client received the same Retry-After.
      arm("connect", random() * Math.max(backoffCap(failures), state.windowMs) + retryAfterMs);
      return;
    }
    const shutMs = BACKOFF_MIN_MS + random() * (BACKOFF_MAX_MS - BACKOFF_MIN_MS) + retryAfterMs;
    setCircuit(name, failures, now + shutMs);
    if (failures === CIRCUIT_FAILURES) complain("UNREACHABLE", `${name} failed ${failures} times in a row: ${reason}`);
    if (state.order.every(isShut)) connect();
    else arm("connect", random() * BACKOFF_MIN_MS);
  }

  function message(message: Incoming<P, D>): void {
    const { stream } = state;
    if (stream === null) return;
    // Until the hello only the deadline for connecting counts; whatever arrives later proves life.
    if (isLive()) {
      arm("silence", SILENCE_MS);
      if (isInStep()) verified();
    }
    switch (message.type) {
      case "hello":
        if (isLive()) return;
        state.stream = { ...stream, helloAt: now };
        state.windowMs = message.reconnectWithinMs;
        arm("silence", SILENCE_MS);
        if (stream.name === "websocket") arm("ping", PING_MS);
        act("report", { type: "connected", transport: stream.name });
        disarm("stale", "fetch");
        expect(message.revision);
        break;
      case "heartbeat":
        expect(message.revision);
        break;
      case "put":
        wantMore(message.revision);
        install(message as P);
        caughtUp();
        break;
      case "patch":
        patch(message as D);
        break;
      case "resync":
        if (message.revision > held()) {
          wantMore(message.revision);
          armSooner("fetch", random() * message.withinMs);
        } else acknowledge();
        break;
      case "goodbye": {
        state.stream = { ...stream, leaving: true };
        const windowMs = message.withinMs || state.windowMs;
        // The server's window as it is, but never a hot loop around streams that end as soon as they begin.
        arm("connect", random() * (isStable() ? windowMs : Math.max(windowMs, BACKOFF_MIN_MS)));
      }
    }
  }

  /** The server is at this revision: in step, or about to send what is missing, or it must be fetched. */
  function expect(revision: number): void {
    wantMore(revision);
    if (isInStep()) verified();
    else armSooner("fetch", CATCH_UP_MS * (1 + random()));
  }

  function patch(change: D): void {
    wantMore(change.revision);
    if (state.revision !== null && change.revision > state.revision) {
      state.early = [...state.early.slice(1 - EARLY_PATCHES), change];
      if (change.previous > state.revision) {
        armSooner("fetch", random() * GAP_MS);
        return;
      }
      applyEarly();
      caughtUp();
    }
    const inMs = random() * (change.ackWithinMs ?? 0);
    if (inMs < 1) acknowledge();
    else armSooner("ack", inMs);
  }

  /** A patch that stands for several revisions has the latest of each document: it may begin before what is held. */
  function applyEarly(): void {
    state.early = state.early.filter(({ revision }) => revision > held());
    const next = state.early.find(({ previous }) => previous <= held());
    if (next === undefined) return;
    move(next.revision);
    act("apply", next);
    applyEarly();
  }

  function caughtUp(): void {
    if (!isInStep()) return;
    verified();
    if (isLive()) disarm("fetch");
  }

  function move(revision: number): void {
    state.revision = revision;
    state.appliedAt = now;
  }

  function acknowledge(): void {
    disarm("ack");
    if (isLive() && state.stream!.name === "websocket" && state.revision !== null)
      act("acknowledge", state.revision, now - state.appliedAt);
  }

  function sleep(): void {
    leave(type);
    if (state.fetching) act("abort");
    state.fetching = false;
    disarm("fetch", "connect");
  }

  /** Whoever slept with a stream may have slept through its end. */
  function wake(mustFetch: boolean): void {
    if (due.ping !== undefined) {
      act("ping");
      armSooner("silence", CONNECT_MS);
    }
    if (mustFetch) fetch();
  }

  function timer(name: TimerName): void {
    disarm(name);
    if (name === "fetch") fetch();
    else if (name === "connect") connect();
    else if (name === "ack") acknowledge();
    else if (name === "silence") {
      const reason = isLive() ? "silent for 60 s" : "no hello in 15 s";
      act("disconnect");
      closed({ reason });
    } else if (name === "ping") {
      act("ping");
      arm("ping", PING_MS);
    } else {
      state.stale = true;
      act("report", { type: "stale", forMs: now - (state.verifiedAt ?? now) });
    }
  }

  switch (type) {
    case "start":
      fetch();
      break;
    case "timer":
      timer(detail);
      break;
    case "fetched":
      fetched(detail);
      break;
    case "failed":
      failed(detail);
      break;
    case "message":
      message(detail);
      break;
    case "closed":
      closed(detail);
      break;
    case "rejected":
      state.revision = detail;
      armSooner("fetch", random() * backoffCap(1));
      break;
    case "sleep":
      sleep();
      break;
    case "wake":
      wake(!isLive() || now - (state.verifiedAt ?? 0) > PING_MS);
      break;
    case "slept":
      if (state.verifiedAt !== null) state.verifiedAt -= detail;
      if (!state.stale && state.revision !== null) timer("stale");
      // An answer that was on its way may never come.
      if (state.fetching) act("abort");
      state.fetching = false;
      wake(!state.refused);
      break;
    case "forget":
      sleep();
      state.revision = state.verifiedAt = null;
      state.early = [];
      state.fetchFailures = 0;
      fetch();
      break;
    case "close":
      sleep();
      disarm("stale");
      state.closed = true;
  }
  return [state, effects];
}
