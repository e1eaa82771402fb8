// The Evaluator: the order of evaluation (docs/evaluation.md), and how a delta changes its ruleset. Nothing here throws, blocks, logs, or reads a clock.

import { bucketable, bucketOf } from "../bucketing/bucket.ts";
import { type Decision, decision, failure, type Reason } from "../decision.ts";
import type { Flag, Json, Ruleset, Segment } from "../ruleset.ts";
import { type BigSegment, BigSegments, type MissingFilter } from "../segments/big-segment.ts";
import type { Delta } from "../wire.ts";
import { type Attribute, isArray, parseAttribute, targetingKeyOf } from "./attributes.ts";
import {
  CALLERS_DEFAULT,
  type Choice,
  type CompiledFlag,
  type CompiledSegment,
  compileFlag,
  compileSegment,
  type Links,
  type Serve,
  UNKNOWN,
} from "./compile.ts";
import { allHold, beginArrayWork, CYCLE, MALFORMED, meets, NO, type Verdict, YES } from "./conditions.ts";

/** A chain of flags and segments longer than this is treated as a cycle: evaluation may not exhaust the stack. */
export const MAX_DEPTH = 64;

const NO_CONTEXT: object = Object.freeze({});

/** Where one flag's document lives: other flags point here, so that a change reaches them without compiling them again. */
export class FlagSlot {
  readonly #links: Links;
  #document: unknown;
  #compiled: CompiledFlag | null = null;
  // One evaluation decides each flag once, however many others need it. A flag that is needed while it is being decided
  // is in a cycle; null is the decision of a flag that meets a cycle.
  #epoch = 0;
  #busy = false;
  #decision: Decision | null = null;

  constructor(document: unknown, links: Links) {
    this.#document = document;
    this.#links = links;
  }

  replace(document: unknown): void {
    this.#document = document;
    this.#compiled = null;
  }

  get exists(): boolean {
    return this.#document !== undefined;
  }

  get compiled(): CompiledFlag {
    this.#compiled ??= compileFlag(this.#document, this.#links);
    return this.#compiled;
  }

  /** For flags that need this one; null where that meets a cycle. */
  decideOnce(context: object, key: string, epoch: number, depth: number): Decision | null {
    if (!this.exists) return failure(null, "FLAG_NOT_FOUND", 0);
    if (this.#epoch === epoch) return this.#busy ? null : this.#decision;
    if (depth > MAX_DEPTH) return null;
    this.#decision = this.decide(context, key, null, epoch, depth);
    return this.#decision;
  }

  decide<T>(context: object, key: string, defaultValue: T, epoch: number, depth: number): Decision<T | Json> | null {
    this.#epoch = epoch;
    this.#busy = true;
    const made = decide(this.compiled, context, key, defaultValue, epoch, depth);
    this.#busy = false;
    return made;
  }
}

export class SegmentSlot {
  big: BigSegment | null = null;
  readonly #links: Links;
  #document: unknown;
  #compiled: CompiledSegment | undefined;
  #epoch = 0;
  #busy = false;
  #verdict: Verdict = NO;

  constructor(document: unknown, links: Links) {
    this.#document = document;
    this.#links = links;
  }

  replace(document: unknown): void {
    this.#document = document;
    this.#compiled = undefined;
  }

  includes(context: object, key: string, epoch: number, depth: number): Verdict {
    if (this.#document === undefined) return NO;
    if (this.#epoch === epoch) return this.#busy ? CYCLE : this.#verdict;
    if (depth > MAX_DEPTH) return CYCLE;
    this.#epoch = epoch;
    this.#busy = true;
    this.#compiled ??= compileSegment(this.#document, this.#links);
    this.#verdict = this.#compiled === undefined ? NO : isMember(this.#compiled, this.big, context, key, epoch, depth);
    this.#busy = false;
    return this.#verdict;
  }
}

/** One environment's rules, ready to evaluate. Flags are compiled on first use. */
export class Evaluator {
  readonly #ruleset: Ruleset;
  readonly #flags = new Map<string, FlagSlot>();
  readonly #segments = new Map<string, SegmentSlot>();
  readonly #attributes = new Map<unknown, Attribute>();
  readonly #big = new BigSegments();
  /** How documents find what they name, which need not exist yet. */
  readonly #links: Links = {
    attribute: (text) => this.#attribute(text),
    flag: (key) => this.#flag(key),
    segment: (key) => this.#segment(key),
  };
  #epoch = 0;

  /** Keeps the documents, which it freezes the values of; never changes the ruleset itself. */
  constructor(ruleset: Ruleset, previous?: Evaluator) {
    this.#ruleset = { ...ruleset, flags: dictionary(ruleset.flags), segments: dictionary(ruleset.segments) };
    for (const key in this.#ruleset.segments) this.#renew(key, previous === undefined ? this.#big : previous.#big);
  }

  get revision(): number {
    return this.#ruleset.revision;
  }

  /** The documents as they are now, to serialise or to look into; not to be written to. */
  get ruleset(): Readonly<Ruleset> {
    return this.#ruleset;
  }

  /** Total: an unknown flag, a malformed one or a hostile context is an answer too, never an exception. */
  evaluate<T>(key: string, context: unknown, defaultValue: T): Decision<T | Json> {
    const slot = this.#flags.get(key) ?? this.#open(key);
    if (slot === undefined || !slot.exists) return failure(defaultValue, "FLAG_NOT_FOUND", 0);
    const flag = slot.compiled;
    if (flag.isStatic) return decide(flag, NO_CONTEXT, "", defaultValue, 0, 0)!;
    const usable = usableContext(context);
    beginArrayWork();
    return (
      slot.decide(usable, targetingKeyOf(usable), defaultValue, ++this.#epoch, 0) ??
      failure(defaultValue, "MALFORMED_FLAG", flag.version)
    );
  }

  /** Every flag, or those that a client-side key may see. The default is null; the record has no prototype. */
  all(context: unknown, options: { clientSide?: boolean } = {}): Record<string, Decision> {
    const decisions: Record<string, Decision> = Object.create(null);
    const flags: Record<string, Flag | null> = this.#ruleset.flags;
    const usable = usableContext(context);
    const targetingKey = targetingKeyOf(usable);
    // Flags that stand alone share their reading of attributes. Others begin anew: an answer left by an earlier flag would
    // shorten their chains, and MAX_DEPTH would depend on the order of the flags.
    let epoch = ++this.#epoch;
    for (const key in flags) {
      if (options.clientSide === true && flags[key]?.clientSide !== true) continue;
      const slot = this.#flag(key);
      const flag = slot.compiled;
      if (!flag.isAlone) epoch = ++this.#epoch;
      beginArrayWork();
      decisions[key] =
        slot.decide(usable, targetingKey, null, epoch, 0) ?? failure(null, "MALFORMED_FLAG", flag.version);
    }
    return decisions;
  }

  /** Applies a delta to the documents. The caller checks that it follows this revision. */
  apply(delta: Delta): void {
    const { flags, segments } = this.#ruleset;
    for (const [key, flag] of Object.entries(delta.flags)) {
      put(flags, key, flag);
      this.#flags.get(key)?.replace(flags[key]);
    }
    for (const [key, segment] of Object.entries(delta.segments)) {
      put(segments, key, segment);
      this.#segments.get(key)?.replace(segments[key]);
      this.#renew(key, this.#big);
    }
    for (const [key, change] of Object.entries(delta.members ?? {})) {
      const changed = this.#big.change(segments[key], key, change);
      if (changed !== undefined) segments[key] = changed;
    }
    this.#ruleset.revision = delta.revision;
  }

  #attribute(text: unknown): Attribute | undefined {
    let attribute = this.#attributes.get(text);
    if (attribute === undefined) {
      attribute = parseAttribute(text);
      if (attribute !== undefined) this.#attributes.set(text, attribute);
    }
    return attribute;
  }

  /** EV-20: what has to be fetched before every big segment is answered from its newest generation. */
  missingFilters(): MissingFilter[] {
    return this.#big.missing();
  }

  /** Whether the filter is a missing one. Until it is set, an older generation decides. */
  setFilter(segment: string, generation: number, filter: Uint8Array): boolean {
    return this.#big.setFilter(segment, generation, filter);
  }

  /** Bytes of the filters held. */
  get filterBytes(): number {
    return this.#big.filterBytes;
  }

  #renew(key: string, previous: BigSegments): void {
    const big = this.#big.renew(key, this.#ruleset.segments[key], previous);
    const slot = this.#segments.get(key);
    if (slot !== undefined) slot.big = big;
  }

  #flag(key: string): FlagSlot {
    let slot = this.#flags.get(key);
    if (slot === undefined) {
      slot = new FlagSlot(this.#ruleset.flags[key], this.#links);
      this.#flags.set(key, slot);
    }
    return slot;
  }

  #segment(key: string): SegmentSlot {
    let slot = this.#segments.get(key);
    if (slot === undefined) {
      slot = new SegmentSlot(this.#ruleset.segments[key], this.#links);
      slot.big = this.#big.get(key);
      this.#segments.set(key, slot);
    }
    return slot;
  }

  // Callers may pass any text: only flags that exist are remembered.
  #open(key: string): FlagSlot | undefined {
    return typeof key === "string" && this.#ruleset.flags[key] !== undefined ? this.#flag(key) : undefined;
  }
}

/**
 * Prepares a ruleset. Costs a copy of its two dictionaries: flags are compiled on first use. The filters that
 * `previous` holds are taken over, so that big segments answer as before until newer ones are there.
 */
export function compile(ruleset: Ruleset, previous?: Evaluator): Evaluator {
  return new Evaluator(ruleset, previous);
}

function decide<T>(
  flag: CompiledFlag,
  context: object,
  key: string,
  defaultValue: T,
  epoch: number,
  depth: number,
): Decision<T | Json> | null {
  switch (flag.status) {
    case "killed":
      return answer(flag, flag.off, defaultValue, "KILLED");
    case "off":
      return answer(flag, flag.off, defaultValue, "OFF");
    case "malformed":
      return failure(defaultValue, "MALFORMED_FLAG", flag.version);
  }
  const { prerequisites, targets, rules } = flag;
  for (let i = 0; i < prerequisites.length; i++) {
    const prerequisite = prerequisites[i]!;
    const verdict = meets(prerequisite, context, key, epoch, depth);
    if (verdict === CYCLE) return null;
    if (verdict === NO) {
      return answer(flag, flag.off, defaultValue, "PREREQUISITE_FAILED", undefined, undefined, prerequisite.key);
    }
  }
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i]!;
    const value = bucketable(target.attribute.readOnce(context, key, epoch));
    if (value !== undefined && target.list.has(value)) return answer(flag, target.choice, defaultValue, "TARGET_MATCH");
  }
  for (let i = 0; i < rules.length; i++) {
    const rule = rules[i]!;
    const verdict = allHold(rule.conditions, context, key, epoch, depth);
    if (verdict === YES) return serve(flag, rule.serve, context, key, defaultValue, epoch, "RULE_MATCH", rule.id, i);
    if (verdict === CYCLE) return null;
    if (verdict === MALFORMED) return failure(defaultValue, "MALFORMED_FLAG", flag.version);
  }
  const reason = flag.isStatic ? "STATIC" : flag.fallthrough.split === null ? "FALLTHROUGH" : "SPLIT";
  return serve(flag, flag.fallthrough, context, key, defaultValue, epoch, reason, undefined, undefined);
}

function serve<T>(
  flag: CompiledFlag,
  { choice, split }: Serve,
  context: object,
  key: string,
  defaultValue: T,
  epoch: number,
  reason: Reason,
  ruleId: string | undefined,
  ruleIndex: number | undefined,
): Decision<T | Json> {
  if (split === null) return answer(flag, choice, defaultValue, reason, ruleId, ruleIndex);
  const value = bucketable(split.by.readOnce(context, key, epoch));
  if (value === undefined) {
    return split.by.isTargetingKey
      ? failure(defaultValue, "TARGETING_KEY_MISSING", flag.version)
      : answer(flag, flag.off, defaultValue, reason, ruleId, ruleIndex);
  }
  const bucket = bucketOf(split.seed, value);
  let chosen: Choice = flag.off;
  for (let i = 0; i < split.ends.length; i++) {
    const range = split.ends[i]!;
    if (bucket >= range.from && bucket < range.to) {
      chosen = range.choice;
      break;
    }
  }
  return answer(flag, chosen, defaultValue, reason, ruleId, ruleIndex, undefined, bucket);
}

function answer<T>(
  flag: CompiledFlag,
  choice: Choice,
  defaultValue: T,
  reason: Reason,
  ruleId?: string,
  ruleIndex?: number,
  prerequisite?: string,
  bucket?: number,
): Decision<T | Json> {
  if (choice === UNKNOWN) return failure(defaultValue, "MALFORMED_FLAG", flag.version);
  const value = choice === CALLERS_DEFAULT ? defaultValue : choice.value;
  return decision<T | Json>(
    value,
    choice.key,
    reason,
    flag.version,
    ruleId,
    ruleIndex,
    prerequisite,
    undefined,
    bucket,
  );
}

/** EV-19. */
function isMember(
  segment: CompiledSegment,
  big: BigSegment | null,
  context: object,
  key: string,
  epoch: number,
  depth: number,
): Verdict {
  if (key !== "") {
    if (segment.included.has(key)) return YES;
    if (segment.excluded.has(key)) return NO;
    if (big !== null) {
      const said = big.answer(key);
      if (said !== undefined) return said ? YES : NO;
    }
  }
  for (let i = 0; i < segment.rules.length; i++) {
    const { conditions, sample } = segment.rules[i]!;
    const verdict = allHold(conditions, context, key, epoch, depth);
    if (verdict === NO) continue;
    if (verdict !== YES || sample === null) return verdict;
    const value = bucketable(sample.by.readOnce(context, key, epoch));
    if (value !== undefined && bucketOf(sample.seed, value) < sample.buckets) return YES;
  }
  return NO;
}

function usableContext(context: unknown): object {
  return typeof context === "object" && context !== null && !isArray(context) ? context : NO_CONTEXT;
}

// Without a prototype: a key is never mistaken for an inherited name, and `__proto__` is a key like any other.
function dictionary<T>(source: Record<string, T>): Record<string, T> {
  return Object.assign(Object.create(null), source);
}

function put<T extends Flag | Segment>(documents: Record<string, T>, key: string, document: T | null): void {
  if (document === null) delete documents[key];
  else documents[key] = document;
}
