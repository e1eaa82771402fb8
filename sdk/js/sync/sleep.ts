import type { Clock } from "./clock.ts";

/** What both clocks said when somebody last looked. */
export type Clocks = { wall: number; elapsed: number };

/** Shorter sleeps are what busy machines and corrected clocks look like. */
export const ASLEEP_MS = 5_000;

export const lookAt = (clock: Clock): Clocks => ({ wall: clock.now(), elapsed: clock.elapsed() });

/**
 * For how long nothing ran, in milliseconds, and what the monotonic clock does not know of it: that clock stands still
 * while a laptop or a function's sandbox sleeps, and goes on while a process is stopped, whose look at the clocks, due
 * after `dueMs`, is then late.
 */
export function sleep(before: Clocks, now: Clocks, dueMs: number): { sleptMs: number; missedMs: number } {
  const passed = now.elapsed - before.elapsed;
  const missedMs = Math.max(0, now.wall - before.wall - passed);
  return { sleptMs: Math.max(missedMs, passed - dueMs), missedMs };
}
