/**
 * Which writes of a project may start: in the order of arrival, and never together with another write to the same
 * environment. A ticket enters all of its lines at once, so that no two tickets can wait for each other. Pure.
 */

/** `environments` are keys; null means every environment of the project. */
export type Ticket = { id: number; environments: readonly string[] | null };

type Waiting = Ticket & { since: number };
type Working = Ticket & { since: number };

/** Times are epoch milliseconds. `turnMs` is a moving average of how long a turn takes. */
export type Turns = { waiting: readonly Waiting[]; working: readonly Working[]; turnMs: number };

export const NO_TURNS: Turns = { waiting: [], working: [], turnMs: 20 };

/** The most tickets that may be ahead of a new one. */
export const MAX_AHEAD = 1_000;
/** A new ticket with a longer estimated wait is refused at once. LINE_TURN_MS lets a write wait as long. */
export const MAX_WAIT_MS = 20_000;
/** A turn that takes longer no longer blocks others: its write may still be committed, and the outbox's key decides. */
export const MAX_TURN_MS = 15_000;
/** The weight of the latest turn in the moving average `turnMs`. */
const NEWEST = 0.1;

/** `turns` is null where the ticket is refused. `waitMs` is the estimated wait for those ahead. */
export type Entrance = { turns: Turns | null; ahead: number; waitMs: number };

export function enter(turns: Turns, ticket: Ticket, now: number): Entrance {
  const ahead = [...turns.working, ...turns.waiting].filter((other) => overlap(other, ticket)).length;
  const waitMs = Math.round(ahead * turns.turnMs);
  const isRefused = ahead >= MAX_AHEAD || (ahead > 1 && waitMs > MAX_WAIT_MS);
  const entered = { ...turns, waiting: [...turns.waiting, { ...ticket, since: now }] };
  return { turns: isRefused ? null : entered, ahead, waitMs };
}

/** Ends a turn, or a wait. Calling it twice changes nothing. */
export function leave(turns: Turns, id: number, now: number): Turns {
  const ended = turns.working.find((one) => one.id === id);
  const waiting = turns.waiting.filter((one) => one.id !== id);
  if (ended === undefined) return { ...turns, waiting };
  const turnMs = averaged(turns.turnMs, now - ended.since);
  return { waiting, working: turns.working.filter((one) => one !== ended), turnMs };
}

/** Starts all tickets whose turn it is, and drops turns that have overrun. Linear in the tickets. */
export function begin(turns: Turns, now: number): { turns: Turns; begun: number[] } {
  const working = turns.working.filter((one) => one.since + MAX_TURN_MS > now);
  const waiting: Waiting[] = [];
  const begun: number[] = [];
  const ahead = new Environments();
  for (const { environments } of working) ahead.add(environments);
  for (const ticket of turns.waiting) {
    const { environments } = ticket;
    if (ahead.overlap(environments)) waiting.push(ticket);
    else {
      working.push({ ...ticket, since: now });
      begun.push(ticket.id);
    }
    ahead.add(environments);
  }
  let { turnMs } = turns;
  for (const one of turns.working) if (one.since + MAX_TURN_MS <= now) turnMs = averaged(turnMs, MAX_TURN_MS);
  return { turns: { waiting, working, turnMs }, begun };
}

const averaged = (turnMs: number, last: number): number => (1 - NEWEST) * turnMs + NEWEST * last;

/** A set of environments that can also be the whole project. */
class Environments {
  readonly #keys = new Set<string>();
  #isProject = false;

  add(environments: Ticket["environments"]): void {
    if (environments === null) this.#isProject = true;
    else for (const environment of environments) this.#keys.add(environment);
  }

  overlap(environments: Ticket["environments"]): boolean {
    if (this.#isProject) return true;
    return environments === null ? this.#keys.size > 0 : environments.some((one) => this.#keys.has(one));
  }
}

/** When `begin` has to be called again if no ticket leaves before; null where none waits. */
export function overrunAt({ waiting, working }: Turns): number | null {
  return waiting.length === 0 ? null : Math.min(...working.map(({ since }) => since + MAX_TURN_MS));
}

const overlap = (one: Ticket, other: Ticket): boolean =>
  one.environments === null ||
  other.environments === null ||
  one.environments.some((environment) => other.environments?.includes(environment));
