/**
 * One per project. It gives the writes of all isolates their turns, so that during a storm each is validated once
 * instead of again after every lost race. It only saves work: the outbox's key keeps writes correct, also without this
 * object.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { begin, enter, leave, NO_TURNS, overrunAt, type Turns } from "./turns.ts";

/**
 * `ahead`: the number of writes before this one, with an estimated wait of `waitMs`. `place` is null where these are
 * too many.
 */
export type Entered = { ahead: number; waitMs: number; isTurn: boolean; place: Place | null };

/**
 * Where D1 and all objects share one process, as under `wrangler dev`, the runtime reads its sockets only when it is
 * idle: without a pause between turns it would read a kill after the whole storm.
 */
const BETWEEN_TURNS_MS = 1;

/** In memory only: after a crash waiting writers enter the new object's line. */
export class WriteLine extends DurableObject<Env> {
  #turns: Turns = NO_TURNS;
  #lastId = 0;
  readonly #onTurn = new Map<number, () => void>();
  #overrun: ReturnType<typeof setTimeout> | undefined;

  /** Enters the lines of these environments, or for null of the whole project. Disposing of the place leaves them. */
  enter(environments: string[] | null): Entered {
    const id = ++this.#lastId;
    const { turns, ahead, waitMs } = enter(this.#turns, { id, environments }, Date.now());
    if (turns === null) return { ahead, waitMs, isTurn: false, place: null };
    let isTurn = false;
    const begun = new Promise<void>((resolve) => {
      this.#onTurn.set(id, () => {
        isTurn = true;
        resolve();
      });
    });
    this.#update(turns);
    return { ahead, waitMs, isTurn, place: new Place(begun, () => this.#leave(id)) };
  }

  #leave(id: number): void {
    this.#onTurn.delete(id);
    this.#turns = leave(this.#turns, id, Date.now());
    setTimeout(() => this.#update(this.#turns), BETWEEN_TURNS_MS);
  }

  #update(next: Turns): void {
    const { turns, begun } = begin(next, Date.now());
    this.#turns = turns;
    for (const id of begun) this.#onTurn.get(id)?.();
    clearTimeout(this.#overrun);
    const at = overrunAt(turns);
    if (at !== null) this.#overrun = setTimeout(() => this.#update(this.#turns), at - Date.now());
  }
}

/** The runtime also disposes of it when its holder ends or crashes, so that no write waits for a lost one. */
class Place extends RpcTarget {
  readonly #begun: Promise<void>;
  readonly #leave: () => void;

  constructor(begun: Promise<void>, leave: () => void) {
    super();
    this.#begun = begun;
    this.#leave = leave;
  }

  /** Resolves when it is this write's turn. */
  turn(): Promise<void> {
    return this.#begun;
  }

  [Symbol.dispose](): void {
    this.#leave();
  }
}
