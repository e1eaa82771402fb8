/** A filter that is built in memory, page by page. After an eviction the next build starts over. */
import { emptyFilter, filterSize, placeOf, setBits } from "@bunting/core";
import { isMember, type SegmentMembers, stagedBy } from "./members.ts";
import type { SegmentState } from "./state.ts";

/** About 200 ms of CPU, during which the object serves no request; an alarm has 30 s. */
const MEMBERS_AT_ONCE = 100_000;
const PAGE = 10_000;

export class FilterBuild {
  readonly generation: number;
  readonly bits: number;
  readonly hashes: number;
  readonly filter: Uint8Array;
  count = 0;
  isComplete = false;
  #after: string | null = null;

  constructor(generation: number, members: number) {
    this.generation = generation;
    const { bits, hashes } = filterSize(members);
    this.bits = bits;
    this.hashes = hashes;
    this.filter = emptyFilter({ bits, hashes });
  }

  step(members: SegmentMembers, { validFrom, mark: latest, upload }: SegmentState): void {
    const { filter, bits, hashes } = this;
    const size = { bits, hashes };
    const waiting = upload?.state === "receiving" && upload.mode === "replace" ? stagedBy(latest) : null;
    for (let seen = 0; seen < MEMBERS_AT_ONCE && !this.isComplete; seen += PAGE) {
      let last: string | null = null;
      let rows = 0;
      let hasStale = false;
      for (const [member, mark] of members.page(this.#after, PAGE)) {
        last = member;
        rows += 1;
        if (!isMember(mark, validFrom)) hasStale = true;
        else {
          const [a, b] = placeOf(member);
          setBits(filter, size, a, b);
          this.count += 1;
        }
      }
      if (hasStale && last !== null) members.drop(last, validFrom, waiting);
      this.#after = last;
      this.isComplete = rows < PAGE;
    }
  }
}
