/**
 * One per project. Lets the writes of all isolates follow each other, so that each of a storm is validated once. This only makes
 * writes cheap: the outbox's key keeps them correct, also without this object or with two of it.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Env } from "../../workers/env.ts";
import { begin, enter, leave, NO_TURNS, overrunAt, type Turns } from "./turns.ts";

/** `ahead` writes go first and will probably take `waitMs`. `place` is null where they are too many. */
export type Entered = { ahead: number; waitMs: number; isTurn: boolean; place: Place | null };

/**
 * Where D1 and all objects share one process, as under `wrangler dev`, the runtime reads its sockets only when it has nothing else
 * to do: without a pause between turns it would read a kill after the whole storm.
 */
const BETWEEN_TURNS_MS = 1;

/** Kept in memory only: writes that waited at an object that was lost enter the next one. */
export class WriteLine extends DurableObject<Env> {
  #turns: Turns = NO_TURNS;
  #lastId = 0;
  readonly #onTurn = new Map<number, () => void>();
  #overrun: ReturnType<typeof setTimeout> | undefined;

  /** Takes a place at the end of the lines of these environments, or, for null, of the whole project. Disposing of it leaves them. */
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

/** The runtime also disposes of it when the request that holds it ends or is lost, so that no write waits for one that is gone. */
class Place extends RpcTarget {
  readonly #begun: Promise<void>;
  readonly #leave: () => void;

  constructor(begun: Promise<void>, leave: () => void) {
    super();
    this.#begun = begun;
    this.#leave = leave;
  }

  /** Resolves when this write may begin. */
  turn(): Promise<void> {
    return this.#begun;
  }

  [Symbol.dispose](): void {
    this.#leave();
  }
}
