/** What becomes of a ramp: one pure function of what it is, what happens to it, and when. */
import type { Pause, RampStatus, RampStep } from "../../../store/schema/index.ts";

export type RampState = {
  status: RampStatus;
  steps: RampStep[];
  step: number;
  nextAt: number | null;
  remainingMs: number | null;
  pause: Pause | null;
  endedAt: number | null;
};

export type RampEvent =
  | { kind: "tick" }
  /** By a person, who goes on where they left off. */
  | { kind: "pause"; pause: Pause }
  /** By what it met: somebody has to look, and the step then has its whole time again. */
  | { kind: "hold"; pause: Pause }
  | { kind: "resume" }
  | { kind: "jump"; step: number }
  | { kind: "abort" };

/** `serve` is what is to be served from now on: 0 for what was there at the beginning, then each step's. */
export type RampDecision =
  | { next: RampState; serve?: number }
  | { unchanged: true }
  | { refused: "ramp-ended" | "no-such-step" };

/** Its first step is made as it is created. */
export function begun(steps: RampStep[], now: number): RampState {
  return at({ status: "running", steps, step: 0, nextAt: null, remainingMs: null, pause: null, endedAt: null }, 0, now);
}

export function decide(state: RampState, event: RampEvent, now: number): RampDecision {
  if (isOver(state)) return event.kind === "abort" && state.status === "aborted" ? UNCHANGED : ended(event);
  switch (event.kind) {
    case "tick": {
      if (state.nextAt === null || state.nextAt > now) return UNCHANGED;
      // From when it really ran: after an outage a step still has its time, however many are late.
      const step = state.step + 1;
      return step < state.steps.length
        ? { next: at(state, step, now), serve: step + 1 }
        : { next: finished(state, now) };
    }
    case "pause":
      return state.status === "paused" ? UNCHANGED : { next: paused(state, event.pause, leftOf(state, now)) };
    case "hold":
      return state.status === "paused" ? UNCHANGED : { next: paused(state, event.pause, timeOf(state, state.step)) };
    case "resume": {
      if (state.status === "running") return UNCHANGED;
      const nextAt = now + (state.remainingMs ?? 0);
      return { next: { ...state, status: "running", pause: null, remainingMs: null, nextAt } };
    }
    case "jump": {
      const { step } = event;
      if (!Number.isInteger(step) || step < 0 || step >= state.steps.length) return { refused: "no-such-step" };
      if (state.status === "running") return { next: at(state, step, now), serve: step + 1 };
      return { next: { ...state, step, remainingMs: timeOf(state, step) }, serve: step + 1 };
    }
    case "abort": {
      const next = { ...state, status: "aborted" as const, nextAt: null, remainingMs: null, pause: null, endedAt: now };
      return { next, serve: 0 };
    }
  }
}

export const isOver = ({ status }: Pick<RampState, "status">) => status === "finished" || status === "aborted";

const UNCHANGED = { unchanged: true } as const;

/** A tick that comes too late is not an error. */
const ended = ({ kind }: RampEvent): RampDecision =>
  kind === "tick" || kind === "hold" ? UNCHANGED : { refused: "ramp-ended" };

const timeOf = ({ steps }: RampState, step: number) => steps[step]?.forMs ?? 0;

const leftOf = ({ nextAt }: RampState, now: number) => Math.max(0, (nextAt ?? now) - now);

function at(state: RampState, step: number, now: number): RampState {
  const next = { ...state, step, nextAt: now + timeOf(state, step) };
  const isLast = step === state.steps.length - 1;
  return isLast && timeOf(state, step) === 0 ? finished(next, now) : next;
}

const finished = (state: RampState, now: number): RampState => ({
  ...state,
  status: "finished",
  nextAt: null,
  endedAt: now,
});

const paused = (state: RampState, pause: Pause, remainingMs: number): RampState => ({
  ...state,
  status: "paused",
  nextAt: null,
  remainingMs,
  pause,
});
