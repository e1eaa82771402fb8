import type { Effect, SyncState, TimerName } from "./sync-state.ts";

type Draft = { -readonly [K in keyof SyncState]: SyncState[K] };

/** One transition being worked out: the next state, and the effects so far. Timers are part of the state, so that tables show them. */
export class Step {
  readonly state: Draft;
  readonly effects: Effect[] = [];
  readonly now: number;
  readonly random: () => number;

  constructor(state: SyncState, now: number, random: () => number) {
    this.state = { ...state };
    this.now = now;
    this.random = random;
  }

  protected do(...effects: Effect[]): void {
    this.effects.push(...effects);
  }

  protected arm(name: TimerName, inMs: number): void {
    this.state.due = { ...this.state.due, [name]: this.now + inMs };
    this.do({ type: "timer", name, inMs });
  }

  protected armSooner(name: TimerName, inMs: number): void {
    const due = this.state.due[name];
    if (due === undefined || this.now + inMs < due) this.arm(name, inMs);
  }

  protected disarm(...names: TimerName[]): void {
    for (const name of names) {
      if (this.state.due[name] === undefined) continue;
      const { [name]: _, ...rest } = this.state.due;
      this.state.due = rest;
      this.do({ type: "cancel", name });
    }
  }
}
