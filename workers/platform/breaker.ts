/**
 * Stops asking what keeps failing, so that a dead part costs its deadline a few times and not once a request. Pure: a state,
 * what happened, the time and a random number give the next state.
 *
 * closed → open after `failures` in a row; open → half-open once its time is over, when one caller may try; that one's
 * success closes it, its failure opens it for twice as long, at most `maxOpenMs`.
 */
export type Breaking = { failures: number; openMs: number; maxOpenMs: number };

/** `openUntil` is 0 while closed; `probing` while the one caller that may try has not come back. */
export type Breaker = { failed: number; openUntil: number; probing: boolean };

export const CLOSED: Breaker = { failed: 0, openUntil: 0, probing: false };

export type Admission = { admitted: boolean; next: Breaker };

/** A probe that never comes back is forgotten after `maxOpenMs`. */
export function admit(state: Breaker, { maxOpenMs }: Breaking, now: number): Admission {
  if (state.openUntil === 0) return { admitted: true, next: state };
  const isLost = state.probing && now >= state.openUntil + maxOpenMs;
  if (now < state.openUntil || (state.probing && !isLost)) return { admitted: false, next: state };
  return { admitted: true, next: { ...state, probing: true, openUntil: isLost ? now : state.openUntil } };
}

/** `random` is in [0, 1): isolates that lost the same part must not come back to it in step. */
export function settle(state: Breaker, rule: Breaking, succeeded: boolean, now: number, random: number): Breaker {
  if (succeeded) return CLOSED;
  const failed = state.failed + 1;
  if (failed < rule.failures) return { ...CLOSED, failed };
  // Calls that were under way when it opened say nothing new.
  if (state.openUntil > now && !state.probing) return state;
  const fullMs = Math.min(rule.openMs * 2 ** Math.min(failed - rule.failures, 20), rule.maxOpenMs);
  return { failed, openUntil: now + fullMs * (0.5 + random / 2), probing: false };
}
