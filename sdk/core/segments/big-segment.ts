/** The members of a big segment as a client holds them: a filter, and lists that decide before it (EV-19, EV-20). */

import type { BigMembers, Segment } from "../ruleset.ts";
import type { MemberChange } from "../wire.ts";
import { mayContain } from "./bloom-filter.ts";

/** Beyond this a bit's number times the strides of its neighbours would no longer be exact; 149 million members. */
const MAX_BITS = 2 ** 32 - 1;
const MAX_HASHES = 64;

/** One generation: what its filter says, and what has changed since it was built. */
class Generation {
  readonly number: number;
  readonly url: string;
  readonly size: { readonly bits: number; readonly hashes: number };
  readonly added: Set<string>;
  readonly removed: Set<string>;
  filter: Uint8Array | null;

  constructor({ generation, url, bits, hashes, added, removed }: BigMembers, filter: Uint8Array | null) {
    this.number = generation;
    this.url = url;
    this.size = { bits, hashes };
    this.filter = filter;
    this.added = new Set(added.map((member) => member.toWellFormed()));
    this.removed = new Set(removed.map((member) => member.toWellFormed()));
  }

  get isComplete(): boolean {
    return this.filter !== null || this.number === 0;
  }

  takes(filter: Uint8Array | null): filter is Uint8Array {
    return filter !== null && filter.length === this.bytes;
  }

  get bytes(): number {
    return Math.ceil(this.size.bits / 8);
  }

  apply({ added, removed }: MemberChange): void {
    move(added, this.added, this.removed);
    move(removed, this.removed, this.added);
  }

  /** With other changes on top; this one stays as it is. */
  with({ added, removed }: MemberChange): Generation {
    const { number: generation, url, size } = this;
    const own = { generation, url, ...size, count: 0, added: [...this.added], removed: [...this.removed] };
    const copy = new Generation(own, this.filter);
    copy.apply({ added, removed });
    return copy;
  }
}

export class BigSegment {
  readonly #newest: Generation;
  /** Answers. An older generation than the newest only until that one's filter is here. */
  #serving: Generation;

  private constructor(newest: Generation, serving: Generation) {
    this.#newest = newest;
    this.#serving = serving;
  }

  /** What a document says, on top of what was held before it; undefined where there is nothing that can be read. */
  static after(previous: BigSegment | undefined, document: unknown): BigSegment | undefined {
    if (!isBig(document)) return undefined;
    const newest = new Generation(document, null);
    if (previous === undefined) return new BigSegment(newest, newest);
    const held = previous.#newest;
    if (held.number === newest.number && newest.takes(held.filter)) newest.filter = held.filter;
    const older = previous.#serving;
    if (newest.isComplete || !older.isComplete) return new BigSegment(newest, newest);
    // What is known to have changed counts at once, with the old filter too.
    return new BigSegment(newest, older.with(document));
  }

  get generation(): number {
    return this.#newest.number;
  }

  get url(): string {
    return this.#newest.url;
  }

  get isComplete(): boolean {
    return this.#newest.isComplete;
  }

  /** The length of the newest filter. */
  get bytes(): number {
    return this.#newest.bytes;
  }

  get hasOlder(): boolean {
    return this.#serving !== this.#newest;
  }

  get filterBytes(): number {
    return this.#serving.filter?.length ?? 0;
  }

  setFilter(generation: number, filter: Uint8Array): boolean {
    const newest = this.#newest;
    if (newest.number !== generation || generation === 0 || !newest.takes(filter)) return false;
    newest.filter = filter;
    this.#serving = newest;
    return true;
  }

  apply(change: MemberChange): void {
    this.#newest.apply(change);
    if (this.#serving !== this.#newest) this.#serving.apply(change);
  }

  /** Undefined where the segment's rules decide. */
  answer(key: string): boolean | undefined {
    const { added, removed, filter, size } = this.#serving;
    const member = key.toWellFormed();
    if (added.has(member)) return true;
    if (removed.has(member)) return false;
    return filter !== null && mayContain(filter, size, member) ? true : undefined;
  }
}

/** A filter that a client lacks. */
export type MissingFilter = {
  segment: string;
  generation: number;
  /** A path of the deployment. */
  url: string;
  /** The length of what is there. */
  bytes: number;
  /** No older filter answers meanwhile. */
  first: boolean;
};

/** All the big segments of a ruleset. */
export class BigSegments {
  readonly #segments = new Map<string, BigSegment>();

  get(key: string): BigSegment | null {
    return this.#segments.get(key) ?? null;
  }

  /** Takes a document over what was held of its segment before. */
  renew(key: string, document: unknown, previous: BigSegments): BigSegment | null {
    const big = BigSegment.after(previous.#segments.get(key), (document as Partial<Segment> | null | undefined)?.big);
    if (big === undefined) this.#segments.delete(key);
    else this.#segments.set(key, big);
    return big ?? null;
  }

  /** The document after the change; undefined where the segment is not big. */
  change(segment: Segment | undefined, key: string, change: MemberChange): Segment | undefined {
    const held = this.#segments.get(key);
    if (segment?.big === undefined || held === undefined) return undefined;
    held.apply(change);
    return { ...segment, big: withChange(segment.big, change) };
  }

  missing(): MissingFilter[] {
    const missing: MissingFilter[] = [];
    for (const [segment, big] of this.#segments) {
      const { generation, url, bytes, hasOlder } = big;
      if (!big.isComplete) missing.push({ segment, generation, url, bytes, first: !hasOlder });
    }
    return missing;
  }

  setFilter(segment: string, generation: number, filter: Uint8Array): boolean {
    return this.#segments.get(segment)?.setFilter(generation, filter) ?? false;
  }

  get filterBytes(): number {
    let bytes = 0;
    for (const big of this.#segments.values()) bytes += big.filterBytes;
    return bytes;
  }
}

function withChange(big: BigMembers, { added, removed }: MemberChange): BigMembers {
  const said = new Set([...added, ...removed]);
  const rest = (members: string[]) => members.filter((member) => !said.has(member));
  return { ...big, added: [...rest(big.added), ...added], removed: [...rest(big.removed), ...removed] };
}

/** Whether a document that is not trusted has this shape. */
export function isBig(value: unknown): value is BigMembers {
  if (typeof value !== "object" || value === null) return false;
  const { generation, count, bits, hashes, url, added, removed } = value as Partial<Record<string, unknown>>;
  if (!isCount(generation) || !isCount(count) || !isCount(bits) || !isCount(hashes)) return false;
  if (bits > MAX_BITS || hashes > MAX_HASHES || (generation > 0 && (bits === 0 || hashes === 0))) return false;
  return typeof url === "string" && areTexts(added) && areTexts(removed);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function areTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((element) => typeof element === "string");
}

function move(members: readonly string[], to: Set<string>, from: Set<string>): void {
  for (const given of members) {
    const member = given.toWellFormed();
    to.add(member);
    from.delete(member);
  }
}
