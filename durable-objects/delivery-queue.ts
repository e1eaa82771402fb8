/**
 * What a relay has received and not yet sent to its sockets. Between two changes it lets its sockets rest for as long as
 * sending takes: of a storm they are sent what has come meanwhile as one, and a kill finds no backlog before it.
 */
import type { Delivery, Standing } from "./delivery.ts";

/** What sending takes for each socket, in ms (bench/RESULTS.md). Not measured here: no time passes within a step. */
const SEND_MS = 0.04;
/** Far less than whoever delivers waits for an answer. */
const MAX_REST_MS = 250;

/** `told`: the children that have it already. */
export type Queued = { delivery: Delivery; standing: Standing; told: Set<string> | undefined };

export class DeliveryQueue {
  #queued: Queued[] = [];
  #restedAt = 0;
  #urgent: (() => void) | null = null;

  /** The newest revision that waits here. */
  get newest(): number | null {
    return this.#queued.at(-1)?.delivery.revision ?? null;
  }

  add(queued: Queued): void {
    this.#queued.push(queued);
    if (queued.delivery.urgent) this.#urgent?.();
  }

  /** Everything that waits and follows what was sent, once the sockets have rested, or something urgent is among it. */
  async next(sent: () => number | null): Promise<Queued[]> {
    const restMs = this.#restedAt - Date.now();
    if (restMs > 0 && !this.#queued.some(({ delivery }) => delivery.urgent)) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, restMs);
        this.#urgent = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#urgent = null;
    }
    let last = sent();
    return this.#queued.splice(0).filter(({ delivery: { previous, revision } }) => {
      if (previous !== last) return false;
      last = revision;
      return true;
    });
  }

  sent(sockets: number): void {
    this.#restedAt = Date.now() + Math.min(2 * sockets * SEND_MS, MAX_REST_MS);
  }
}
