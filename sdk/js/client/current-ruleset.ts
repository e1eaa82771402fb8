import { compile, diff, type Evaluator, type Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import type { Clock } from "../sync/clock.ts";

/** Documents that changed together. */
export type Change = {
  revision: number;
  /** The previous revision; null for the first. */
  previous: number | null;
  /** Epoch milliseconds at the hub; null when it came by fetching a whole ruleset. */
  publishedAt: number | null;
  /** Milliseconds from publishing to here, by two clocks; null when `publishedAt` is. */
  ageMs: number | null;
  /** Keys of flags and segments that were added, changed or deleted. */
  flags: string[];
  segments: string[];
};

/** Where the ruleset came from, most authoritative first: a later one in this list gives way to an earlier one. */
export type Origin = "stream" | "snapshot" | "cache" | "bootstrap" | "none";

/** The ruleset that is evaluated with, from its first to the latest: where it came from, and what each one changed. */
export class CurrentRuleset {
  evaluator: Evaluator | null = null;
  /** The documents that the evaluator was given, kept apart because it may take them to pieces. */
  ruleset: Ruleset | null = null;
  #source: Origin = "none";
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get source(): Origin {
    return this.#source;
  }

  /** The server has sent it, or said that it is the one. */
  get isConfirmed(): boolean {
    return this.#source === "stream" || this.#source === "snapshot";
  }

  /** What the server's revisions follow on. A bootstrap may be of any environment and time: whatever the server says replaces it. */
  get revision(): number | null {
    return this.#source === "bootstrap" ? null : (this.ruleset?.revision ?? null);
  }

  /** Replaces everything; null where nothing was held before. */
  install(ruleset: Ruleset, source: Origin): Change | null {
    const before = this.ruleset;
    this.evaluator = compile(ruleset, this.evaluator ?? undefined);
    this.ruleset = { ...ruleset, flags: copy(ruleset.flags), segments: copy(ruleset.segments) };
    this.#source = source;
    if (before === null) return null;
    const { previous, revision, flags, segments } = diff(before, ruleset);
    const keys = { flags: Object.keys(flags), segments: Object.keys(segments) };
    return { revision, previous, publishedAt: null, ageMs: null, ...keys };
  }

  confirm(): void {
    if (!this.isConfirmed) this.#source = "snapshot";
  }

  /** @throws Error where it leaves a gap or tells nothing new; what is held then stays. */
  apply(patch: PatchMessage): Change {
    const { ruleset, evaluator, revision: previous } = this;
    const isNext = previous !== null && patch.previous <= previous && previous < patch.revision;
    if (ruleset === null || evaluator === null || !isNext) throw new Error("it builds on another revision");
    evaluator.apply(patch);
    ruleset.revision = patch.revision;
    overlay(ruleset.flags, patch.flags);
    overlay(ruleset.segments, patch.segments);
    const members = Object.keys(patch.members ?? {});
    const current = evaluator.ruleset.segments;
    for (const key of members) if (current[key] !== undefined) ruleset.segments[key] = current[key];
    this.#source = "stream";
    const known = patch.publishedAt > 0;
    return {
      revision: patch.revision,
      previous,
      publishedAt: known ? patch.publishedAt : null,
      ageMs: known ? Math.max(0, this.#clock.now() - patch.publishedAt) : null,
      flags: Object.keys(patch.flags),
      segments: [...new Set([...Object.keys(patch.segments), ...members])],
    };
  }
}

/** Without a prototype, so that a key is there only if a document is. */
const copy = <Document>(documents: Record<string, Document>): Record<string, Document> =>
  Object.assign(Object.create(null), documents);

function overlay<Document>(held: Record<string, Document>, changes: Record<string, Document | null>): void {
  for (const [key, document] of Object.entries(changes)) {
    if (document === null) delete held[key];
    else held[key] = document;
  }
}
