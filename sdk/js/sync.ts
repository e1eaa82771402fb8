import type { PatchMessage } from "@bunting/core/wire";
import type { Incoming } from "./messages.ts";
import { Step } from "./step.ts";
import {
  BACKOFF_MAX_MS,
  BACKOFF_MIN_MS,
  backoffCap,
  backoffMs,
  CATCH_UP_MS,
  CIRCUIT_FAILURES,
  type Circuit,
  CONNECT_MS,
  EARLY_PATCHES,
  type Effect,
  type End,
  FIRST_RETRY_MS,
  GAP_MS,
  PING_MS,
  pollMs,
  SETTLED_MS,
  SILENCE_MS,
  STALE_MS,
  type StreamName,
  type SyncEvent,
  type SyncState,
  type TimerName,
} from "./sync-state.ts";

/** The next state and what to do about it. Touches nothing: the same inputs give the same answer. */
export function transition(
  state: SyncState,
  event: SyncEvent,
  now: number,
  random: () => number,
): { state: SyncState; effects: Effect[] } {
  if (state.closed) return { state, effects: [] };
  const step = new SyncStep(state, now, random);
  step.take(event);
  return { state: step.state, effects: step.effects };
}

class SyncStep extends Step {
  take(event: SyncEvent): void {
    switch (event.type) {
      case "start":
        this.fetch();
        break;
      case "timer":
        this.timerFired(event.name);
        break;
      case "fetched":
        this.fetched(event.message);
        break;
      case "fetch-failed":
        this.fetchFailed(event.end);
        break;
      case "message":
        this.message(event.message);
        break;
      case "closed":
        this.streamEnded(event.end);
        break;
      case "rejected":
        this.state.revision = event.revision;
        this.repairWithin(backoffCap(1));
        break;
      case "close":
        this.close();
        break;
    }
  }

  private timerFired(name: TimerName): void {
    const { [name]: _, ...rest } = this.state.due;
    this.state.due = rest;
    switch (name) {
      case "fetch":
        this.fetch();
        break;
      case "connect":
        this.connect();
        break;
      case "silence":
        this.do({ type: "disconnect" });
        this.streamEnded({
          reason: this.state.stream?.helloAt == null ? "no hello in 15 s" : "silent for 60 s",
        });
        break;
      case "ping":
        this.do({ type: "ping" });
        this.arm("ping", PING_MS);
        break;
      case "ack":
        this.acknowledge();
        break;
      case "stale":
        this.state.stale = true;
        this.do({ type: "stale", forMs: this.now - (this.state.verifiedAt ?? this.now) });
        break;
    }
  }

  // Whole rulesets

  private fetch(): void {
    this.disarm("fetch");
    if (this.state.fetching) return;
    this.state.fetching = true;
    this.do({ type: "fetch", atLeast: this.isInStep() || this.state.wanted === 0 ? null : this.state.wanted });
  }

  private fetched(message: Incoming): void {
    const { state } = this;
    state.fetching = false;
    state.refused = false;
    if (message.type === "ruleset" && this.isNews(message.ruleset.revision)) {
      state.revision = message.ruleset.revision;
      state.appliedAt = this.now;
      this.do({ type: "install", ruleset: message.ruleset });
      this.applyEarly();
      this.acknowledge();
    }
    if (!this.isInStep() || this.isBehind(message)) {
      // The edge is behind what a stream or a cache has already told us: ask again, more and more slowly.
      state.fetchFailures += 1;
      this.arm("fetch", backoffMs(state.fetchFailures, this.random));
    } else {
      state.fetchFailures = 0;
      this.verified();
      if (!this.isLive()) this.arm("fetch", pollMs(this.random));
    }
    if (state.revision !== null && state.stream === null && state.due.connect === undefined) this.connect();
  }

  /** Of a revision that came from a cache, the server's own copy is news as well. */
  private isNews(revision: number): boolean {
    const { revision: own, verifiedAt } = this.state;
    return own === null || revision > own || (revision === own && verifiedAt === null);
  }

  private isBehind(message: Incoming): boolean {
    return message.type === "ruleset" && message.ruleset.revision < (this.state.revision ?? 0);
  }

  private fetchFailed(end: End): void {
    const { state } = this;
    state.fetching = false;
    if (end.refused) {
      this.refuse(end);
      return;
    }
    state.fetchFailures += 1;
    if (state.fetchFailures === 1) this.do({ type: "error", code: "UNREACHABLE", reason: end.reason });
    if (state.verifiedAt === null && !state.stale) this.timerFired("stale");
    const quick = state.fetchFailures === 1 && state.revision === null;
    const delay = quick ? this.random() * FIRST_RETRY_MS : backoffMs(state.fetchFailures, this.random);
    if (!this.isLive() || !this.isInStep()) this.arm("fetch", delay + (end.retryAfterMs ?? 0));
    if (state.revision !== null && state.stream === null && state.due.connect === undefined) this.connect();
  }

  private refuse(end: End): void {
    const { state } = this;
    state.refused = true;
    if (state.stream !== null) {
      this.do({ type: "disconnect" });
      this.leaveStream(end.reason);
    }
    this.disarm("connect");
    this.do({ type: "error", code: "REFUSED", reason: end.reason });
    this.arm("fetch", BACKOFF_MAX_MS * (0.5 + this.random()) + (end.retryAfterMs ?? 0));
  }

  private repairWithin(windowMs: number): void {
    this.armSooner("fetch", this.random() * windowMs);
  }

  private verified(): void {
    this.state.verifiedAt = this.now;
    this.state.stale = false;
    if (this.isLive()) this.disarm("stale");
    else this.arm("stale", STALE_MS);
  }

  private isInStep(): boolean {
    return this.state.revision !== null && this.state.revision >= this.state.wanted;
  }

  // Streams

  private isLive(): boolean {
    return this.state.stream !== null && this.state.stream.helloAt !== null;
  }

  private connect(): void {
    const { state } = this;
    if (state.refused || state.revision === null || state.order.length === 0) return;
    if (state.stream !== null) {
      this.do({ type: "disconnect" });
      this.leaveStream("reconnecting as told");
    }
    const name = state.order.find((candidate) => state.circuits[candidate].openUntil <= this.now);
    if (name === undefined) {
      const soonest = Math.min(...state.order.map((candidate) => state.circuits[candidate].openUntil));
      this.arm("connect", soonest - this.now);
      return;
    }
    state.stream = { name, helloAt: null, leaving: false };
    this.do({ type: "open", name, since: state.revision });
    this.arm("silence", CONNECT_MS);
    this.armSooner("fetch", pollMs(this.random));
  }

  private leaveStream(reason: string): void {
    const { stream, verifiedAt } = this.state;
    if (this.hasSettled()) this.setCircuit(stream!.name, { failures: 0, openUntil: 0 });
    this.state.stream = null;
    this.disarm("silence", "ping", "ack");
    if (stream === null || stream.helloAt === null) return;
    this.do({ type: "disconnected", name: stream.name, reason });
    this.arm("stale", Math.max(0, STALE_MS - (this.now - (verifiedAt ?? this.now))));
  }

  private hasSettled(): boolean {
    const helloAt = this.state.stream?.helloAt ?? null;
    return helloAt !== null && this.now - helloAt >= SETTLED_MS;
  }

  /** The server's window as it is, but never a hot loop around streams that end as soon as they begin. */
  private windowMs(told: number): number {
    return this.hasSettled() ? told : Math.max(told, BACKOFF_MIN_MS);
  }

  private streamEnded(end: End): void {
    const { state } = this;
    const { stream } = state;
    if (stream === null) return;
    const settled = this.hasSettled();
    this.leaveStream(end.reason);
    if (end.refused) {
      this.refuse(end);
      return;
    }
    this.armSooner("fetch", pollMs(this.random));
    if (stream.leaving) return;
    if (settled) this.arm("connect", this.random() * state.windowMs);
    else this.streamFailed(stream.name, end);
  }

  private streamFailed(name: StreamName, end: End): void {
    const { state } = this;
    const failures = state.circuits[name].failures + 1;
    if (failures < CIRCUIT_FAILURES) {
      this.setCircuit(name, { failures, openUntil: 0 });
      const withinMs = Math.max(backoffCap(failures), state.windowMs);
      // After it, not at it: everybody who was refused was told the same.
      this.arm("connect", this.random() * withinMs + (end.retryAfterMs ?? 0));
      return;
    }
    const shutMs = BACKOFF_MIN_MS + this.random() * (BACKOFF_MAX_MS - BACKOFF_MIN_MS);
    this.setCircuit(name, { failures, openUntil: this.now + shutMs + (end.retryAfterMs ?? 0) });
    if (failures === CIRCUIT_FAILURES) {
      const reason = `${name} failed ${failures} times in a row, so something else is used for a while: ${end.reason}`;
      this.do({ type: "error", code: "UNREACHABLE", reason });
    }
    const another = state.order.some((candidate) => state.circuits[candidate].openUntil <= this.now);
    if (another) this.arm("connect", this.random() * BACKOFF_MIN_MS);
    else this.connect();
  }

  private setCircuit(name: StreamName, circuit: Circuit): void {
    this.state.circuits = { ...this.state.circuits, [name]: circuit };
  }

  private message(message: Incoming): void {
    const { state } = this;
    if (state.stream === null) return;
    // Until the hello only the deadline for connecting counts; whatever arrives later proves life.
    if (state.stream.helloAt !== null) {
      this.arm("silence", SILENCE_MS);
      if (this.isInStep()) this.verified();
    }
    switch (message.type) {
      case "hello":
        this.hello(message.revision, message.reconnectWithinMs);
        break;
      case "patch":
        this.patch(message);
        break;
      case "resync":
        if (message.revision <= (state.revision ?? -1)) {
          this.acknowledge();
          return;
        }
        state.wanted = Math.max(state.wanted, message.revision);
        this.repairWithin(message.withinMs);
        break;
      case "heartbeat":
        this.expect(message.revision);
        break;
      case "goodbye":
        state.stream = { ...state.stream, leaving: true };
        this.arm("connect", this.random() * this.windowMs(message.withinMs || state.windowMs));
        break;
    }
  }

  private hello(revision: number, reconnectWithinMs: number): void {
    const { state } = this;
    const { name } = state.stream!;
    if (state.stream!.helloAt !== null) return;
    state.stream = { name, helloAt: this.now, leaving: false };
    state.windowMs = reconnectWithinMs;
    this.arm("silence", SILENCE_MS);
    if (name === "websocket") this.arm("ping", PING_MS);
    this.do({ type: "connected", name });
    this.disarm("stale");
    this.disarm("fetch");
    this.expect(revision);
  }

  /** The server is at this revision: in step, or about to send what is missing, or it must be fetched. */
  private expect(revision: number): void {
    const { state } = this;
    state.wanted = Math.max(state.wanted, revision);
    if (this.isInStep()) this.verified();
    else this.armSooner("fetch", CATCH_UP_MS * (1 + this.random()));
  }

  private patch(patch: PatchMessage): void {
    const { state } = this;
    state.wanted = Math.max(state.wanted, patch.revision);
    if (state.revision !== null && patch.revision > state.revision && patch.previous !== state.revision) {
      state.early = [...state.early.slice(1 - EARLY_PATCHES), patch];
      this.repairWithin(GAP_MS);
      return;
    }
    if (state.revision !== null && patch.revision > state.revision) {
      this.apply(patch);
      this.applyEarly();
      if (this.isInStep()) {
        this.verified();
        if (this.isLive()) this.disarm("fetch");
      }
    }
    const inMs = this.random() * patch.ackWithinMs;
    if (inMs < 1) this.acknowledge();
    else this.armSooner("ack", inMs);
  }

  private apply(patch: PatchMessage): void {
    this.state.revision = patch.revision;
    this.state.appliedAt = this.now;
    this.do({ type: "apply", patch });
  }

  private applyEarly(): void {
    const { state } = this;
    for (let next = this.nextEarly(); next !== undefined; next = this.nextEarly()) this.apply(next);
    state.early = state.early.filter((patch) => patch.revision > (state.revision ?? -1));
  }

  private nextEarly(): PatchMessage | undefined {
    return this.state.early.find((patch) => patch.previous === this.state.revision);
  }

  private acknowledge(): void {
    this.disarm("ack");
    const { stream, revision, appliedAt } = this.state;
    if (stream?.name !== "websocket" || stream.helloAt === null || revision === null) return;
    this.do({ type: "acknowledge", revision, waitedMs: this.now - appliedAt });
  }

  private close(): void {
    this.state.closed = true;
    this.disarm("fetch", "connect", "silence", "ping", "ack", "stale");
    if (this.state.stream !== null) this.do({ type: "disconnect" });
    if (this.state.fetching) this.do({ type: "abort-fetch" });
    this.state.stream = null;
    this.state.fetching = false;
  }
}
