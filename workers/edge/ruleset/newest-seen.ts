/**
 * The newest revision of each environment that this isolate has served: a number that outlives the ruleset itself, so that
 * one that was evicted and comes back from an older snapshot never takes a kill back.
 */

/** A hundred bytes each; those seen longest ago go first. */
const MAX_ENVIRONMENTS = 10_000;

export class NewestSeen {
  readonly #revisions = new Map<string, number>();
  readonly #max: number;

  constructor(max = MAX_ENVIRONMENTS) {
    this.#max = max;
  }

  /** 0 where none is known. */
  of(environmentId: string): number {
    return this.#revisions.get(environmentId) ?? 0;
  }

  note(environmentId: string, revision: number): void {
    const newest = Math.max(this.of(environmentId), revision);
    this.#revisions.delete(environmentId);
    this.#revisions.set(environmentId, newest);
    if (this.#revisions.size <= this.#max) return;
    const [oldest] = this.#revisions.keys();
    this.#revisions.delete(oldest as string);
  }
}
