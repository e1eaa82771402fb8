/** Counts clients that poll, by the revision in their request, over half a minute: the interval at which they poll. */

/** How often each revision was requested. */
export type Polls = [revision: number, count: number][];

const SLOT_MS = 5_000;
const SLOTS = 6;
/** In a slot; polls of the oldest revisions are dropped first. */
const MAX_REVISIONS = 64;

export class PollCount {
  #slots: { at: number; byRevision: Map<number, number> }[] = [];

  add(polls: Polls, now: number): void {
    if (polls.length === 0) return;
    const at = Math.floor(now / SLOT_MS);
    this.#slots = this.#slots.filter((slot) => slot.at > at - SLOTS);
    let slot = this.#slots.find((candidate) => candidate.at === at);
    if (slot === undefined) {
      slot = { at, byRevision: new Map() };
      this.#slots.push(slot);
    }
    for (const [revision, count] of polls.slice(0, MAX_REVISIONS)) {
      slot.byRevision.set(revision, (slot.byRevision.get(revision) ?? 0) + count);
    }
    while (slot.byRevision.size > MAX_REVISIONS) slot.byRevision.delete(Math.min(...slot.byRevision.keys()));
  }

  /** About how many clients that poll have this revision or a later one. */
  atLeast(revision: number, now: number): number {
    const oldest = Math.floor(now / SLOT_MS) - SLOTS;
    let sum = 0;
    for (const { at, byRevision } of this.#slots) {
      if (at <= oldest) continue;
      for (const [polled, count] of byRevision) if (polled >= revision) sum += count;
    }
    return sum;
  }
}
