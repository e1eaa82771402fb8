/**
 * History in R2: whole rulesets every so often (bases), and between them every patch, in runs. Any revision is the newest
 * base at or below it with the patches on top. Written by the hub alone; writing the same again changes nothing.
 */
import type { Flag, Ruleset, Segment } from "@bunting/core";
import type { Delta } from "@bunting/core/wire";
import { HISTORY_READ_MS, HISTORY_WRITE_MS, within } from "../platform/deadline.ts";

/** Wide enough for every whole number that JavaScript counts exactly, so that names sort as revisions do. */
const DIGITS = 16;
const pad = (revision: number) => String(revision).padStart(DIGITS, "0");
/** Bases are named backwards: a listing goes upwards only, and what is asked for is the newest below. */
const MAX = 10 ** 15;
const basePrefix = (environmentId: string) => `revisions/${environmentId}/base/`;
const baseName = (environmentId: string, revision: number) => basePrefix(environmentId) + pad(MAX - revision);
const runPrefix = (environmentId: string) => `revisions/${environmentId}/run/`;
const revisionOfBase = (name: string) => MAX - Number(name.slice(-DIGITS));
const lastOfRun = (name: string) => Number(name.slice(-DIGITS));

export async function writeBase(
  bucket: R2Bucket,
  environmentId: string,
  revision: number,
  ruleset: string,
): Promise<void> {
  await put(bucket, baseName(environmentId, revision), ruleset);
}

/** Encoded patches, each on top of the one before; `last` is the revision of the last of them. */
export async function writeRun(
  bucket: R2Bucket,
  environmentId: string,
  last: number,
  patches: string[],
): Promise<void> {
  await put(bucket, runPrefix(environmentId) + pad(last), patches.join("\n"));
}

/** The ruleset at `revision` as far as R2 reaches, which may be below it; null where R2 does not reach back so far. */
export async function readRevision(
  bucket: R2Bucket,
  environmentId: string,
  revision: number,
): Promise<Rebuilding | null> {
  const startAfter = baseName(environmentId, revision + 1);
  const listed = bucket.list({ prefix: basePrefix(environmentId), startAfter, limit: 1 });
  const [base] = (await within(listed, HISTORY_READ_MS, "R2")).objects;
  if (base === undefined) return null;
  const text = await get(bucket, base.key);
  if (text === null) return null;
  const rebuilding = new Rebuilding(JSON.parse(text) as Ruleset);
  for (let after = rebuilding.revision; rebuilding.revision < revision; ) {
    const options = { prefix: runPrefix(environmentId), startAfter: runPrefix(environmentId) + pad(after), limit: 20 };
    const { objects } = await within(bucket.list(options), HISTORY_READ_MS, "R2");
    if (objects.length === 0) break;
    for (const { key } of objects) {
      after = lastOfRun(key);
      const patches = await get(bucket, key);
      for (const patch of patches?.split("\n") ?? []) rebuilding.apply(JSON.parse(patch) as Delta, revision);
      // A gap, or far enough.
      if (rebuilding.revision < after) return rebuilding;
    }
  }
  return rebuilding;
}

/**
 * Deletes what lies before the newest base that is older than `before`: everything since then can still be rebuilt.
 * Answers how many objects went.
 */
export async function trimRevisions(bucket: R2Bucket, environmentId: string, before: number): Promise<number> {
  let kept: number | null = null;
  const expired: string[] = [];
  for await (const { key, uploaded } of all(bucket, basePrefix(environmentId))) {
    if (kept !== null) expired.push(key);
    else if (uploaded.getTime() < before) kept = revisionOfBase(key);
  }
  if (kept === null) return 0;
  for await (const { key } of all(bucket, runPrefix(environmentId))) {
    if (lastOfRun(key) > kept) break;
    expired.push(key);
  }
  for (let from = 0; from < expired.length; from += 1_000) {
    await within(bucket.delete(expired.slice(from, from + 1_000)), HISTORY_WRITE_MS, "R2");
  }
  return expired.length;
}

/** A ruleset on its way to a later revision. Pure. */
export class Rebuilding {
  readonly #head: Pick<Ruleset, "schema" | "environment" | "events">;
  readonly #flags: Map<string, Flag>;
  readonly #segments: Map<string, Segment>;
  revision: number;

  constructor({ flags, segments, revision, ...head }: Ruleset) {
    this.#head = head;
    this.#flags = new Map(Object.entries(flags));
    this.#segments = new Map(Object.entries(segments));
    this.revision = revision;
  }

  /** On top of its `previous` only, and not beyond `limit`: runs may overlap where one was written twice. */
  apply({ revision, previous, flags, segments, members = {} }: Delta, limit: number): void {
    if (previous !== this.revision || revision > limit) return;
    for (const [key, flag] of Object.entries(flags)) {
      if (flag === null) this.#flags.delete(key);
      else this.#flags.set(key, flag);
    }
    for (const [key, segment] of Object.entries(segments)) {
      if (segment === null) this.#segments.delete(key);
      else this.#segments.set(key, segment);
    }
    for (const [key, { added, removed }] of Object.entries(members)) {
      const segment = this.#segments.get(key);
      if (segment?.big === undefined) continue;
      const big = {
        ...segment.big,
        added: merged(segment.big.added, added, removed),
        removed: merged(segment.big.removed, removed, added),
      };
      this.#segments.set(key, { ...segment, big });
    }
    this.revision = revision;
  }

  /** Encoded exactly as the hub published it. */
  text(): string {
    const { schema, environment, events } = this.#head;
    const head = JSON.stringify({ schema, environment, revision: this.revision, events });
    return `${head.slice(0, -1)},"flags":${encoded(this.#flags)},"segments":${encoded(this.#segments)}}`;
  }
}

/** In the order of the hub's tables, also of keys that an object would put first for being numbers. */
function encoded(documents: Map<string, unknown>): string {
  const sorted = [...documents].sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${sorted.map(([key, document]) => `${JSON.stringify(key)}:${JSON.stringify(document)}`).join(",")}}`;
}

function merged(list: string[], coming: string[], going: string[]): string[] {
  const members = new Set(list);
  for (const member of going) members.delete(member);
  for (const member of coming) members.add(member);
  return [...members].sort();
}

async function* all(bucket: R2Bucket, prefix: string): AsyncGenerator<R2Object> {
  for (let cursor: string | undefined; ; ) {
    const page = await within(bucket.list({ prefix, ...(cursor && { cursor }) }), HISTORY_READ_MS, "R2");
    yield* page.objects;
    if (!page.truncated) return;
    cursor = page.cursor;
  }
}

async function put(bucket: R2Bucket, name: string, text: string): Promise<void> {
  const packed = await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
  await within(bucket.put(name, packed), HISTORY_WRITE_MS, "R2");
}

async function get(bucket: R2Bucket, name: string): Promise<string | null> {
  const object = await within(bucket.get(name), HISTORY_READ_MS, "R2");
  if (object === null) return null;
  return within(new Response(object.body.pipeThrough(new DecompressionStream("gzip"))).text(), HISTORY_READ_MS, "R2");
}
