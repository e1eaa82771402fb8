/**
 * What the last revisions have touched, so that a stream of values can be told what is new without keeping a ruleset of
 * its own. One for each ruleset that an isolate holds, shared by all of its streams.
 */

import { Referrers, type Ruleset } from "@bunting/core";
import type { Delta } from "@bunting/core/wire";
import { isForClients } from "./visibility.ts";

/** Flags whose answers may differ, those that depend on others included, and flags that client keys no longer see. */
export type Touched = { flags: string[]; withdrawn: string[] };

type Entry = {
  revision: number;
  previous: number;
  flags: string[];
  segments: string[];
  withdrawn: string[];
  /** From before this isolate's time: not seen by client keys afterwards, and perhaps not before either. */
  unsure: string[];
};

/** Keys in all entries; the oldest entries go first. */
const MAX_KEYS = 10_000;
const MAX_ENTRIES = 1_000;
/** Streams that were told different revisions last ask different questions. */
const MAX_ANSWERS = 50;

type Documents = Pick<Ruleset, "flags" | "segments">;

export class History {
  /** As far as it reaches back. */
  #from: number;
  #entries: Entry[] = [];
  #keys = 0;
  /** Made when first asked for: an isolate without streams of values needs none. */
  #referrers: Referrers | null = null;
  #answers = new Map<number, Touched | null>();

  constructor(revision: number) {
    this.#from = revision;
  }

  /** To be called before `delta` is applied to `documents`. */
  note(delta: Delta, { flags, segments }: Documents): void {
    const withdrawn = Object.entries(delta.flags).filter(
      ([key, flag]) => !isForClients(flag) && isForClients(flags[key]),
    );
    this.#entries.push(entryOf(delta, keysOf(withdrawn), []));
    this.#keys += sizeOf(this.#entries.at(-1) as Entry);
    while (this.#keys > MAX_KEYS || this.#entries.length > MAX_ENTRIES) {
      const oldest = this.#entries.shift() as Entry;
      this.#keys -= sizeOf(oldest);
      this.#from = oldest.revision;
    }
    this.#answers.clear();
    for (const [key, flag] of Object.entries(delta.flags)) this.#referrers?.replace("flag", key, flags[key], flag);
    for (const [key, segment] of Object.entries(delta.segments)) {
      this.#referrers?.replace("segment", key, segments[key], segment);
    }
  }

  /** Learns what led up to the oldest revision it knows: a run that ends there or later. */
  extend(run: Delta[]): void {
    for (const delta of run.toReversed()) {
      if (delta.revision !== this.#from) continue;
      const hidden = Object.entries(delta.flags).filter(([, flag]) => !isForClients(flag));
      const entry = entryOf(delta, [], keysOf(hidden));
      if (this.#keys + sizeOf(entry) > MAX_KEYS || this.#entries.length >= MAX_ENTRIES) break;
      this.#entries.unshift(entry);
      this.#keys += sizeOf(entry);
      this.#from = delta.previous;
    }
    this.#answers.clear();
  }

  reaches(revision: number): boolean {
    return this.#entries.some(({ previous }) => previous === revision);
  }

  /** Between `revision` and `now`; null where that cannot be told, and everything may have been touched. */
  touchedSince(revision: number, now: Documents): Touched | null {
    const known = this.#answers.get(revision);
    if (known !== undefined) return known;
    const touched = this.#find(revision, now);
    if (this.#answers.size >= MAX_ANSWERS) this.#answers.clear();
    this.#answers.set(revision, touched);
    return touched;
  }

  #find(revision: number, now: Documents): Touched | null {
    const start = this.#entries.findIndex(({ previous }) => previous === revision);
    if (start === -1) return null;
    const entries = this.#entries.slice(start);
    const isHidden = (key: string) => !isForClients(now.flags[key]);
    // To say that it is gone would tell of a flag that client keys may never have seen.
    if (entries.some(({ unsure }) => unsure.some(isHidden))) return null;
    // Who refers to whom now is enough: a flag that has since stopped referring to another was touched itself.
    this.#referrers ??= new Referrers(now);
    const flags = this.#referrers.flagsReached({
      flags: entries.flatMap((entry) => entry.flags),
      segments: entries.flatMap((entry) => entry.segments),
    });
    const withdrawn = new Set(entries.flatMap((entry) => entry.withdrawn).filter(isHidden));
    return { flags: [...flags], withdrawn: [...withdrawn] };
  }
}

function entryOf({ revision, previous, flags, segments, members }: Delta, withdrawn: string[], unsure: string[]) {
  const touchedSegments = [...Object.keys(segments), ...Object.keys(members ?? {})];
  return { revision, previous, flags: Object.keys(flags), segments: touchedSegments, withdrawn, unsure };
}

const keysOf = (entries: [string, unknown][]) => entries.map(([key]) => key);

const sizeOf = ({ flags, segments, withdrawn, unsure }: Entry) =>
  flags.length + segments.length + withdrawn.length + unsure.length;
