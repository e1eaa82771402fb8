/** Rulesets in KV: immutable, named by revision, and a pointer to the newest. Written by the hub alone. */
import { KV_READ_MS, KV_WRITE_MS, within } from "../platform/deadline.ts";
import type { KeyGrant } from "./outbox/change.ts";

/** `ruleset` is the encoded document that server SDKs get; the rest is for Workers and a hub that starts over. */
export type SnapshotParts = {
  revision: number;
  version: number;
  changeId: string;
  killSeq: number;
  /** Of a hub that began without D1: kills of D1 after this one are not in `kills` yet. Null where all are. */
  unreadKillsAfter: number | null;
  keys: Record<string, KeyGrant>;
  kills: Record<string, { by: string; at: number; reason: string; seq: number }>;
  ruleset: string;
  /** How many relays each region has: not of the revision but as it is now, and therefore in the pointer. */
  relays: Partial<Record<string, number>>;
};

export type LatestPointer = Pick<SnapshotParts, "revision" | "relays">;

const pointerName = (environmentId: string) => `latest:${environmentId}`;
const snapshotName = (environmentId: string, revision: number) => `snapshot:${environmentId}:${revision}`;

/** After so long a write that has not ended is taken for lost. */
const LOST_MS = 60_000;

/** Of one hub, which is the only one that writes. */
export class SnapshotWriter {
  readonly #env: { readonly KV: KVNamespace };
  /** The last write of the pointer, also where nobody waits for it any more. */
  #landing: { since: number; done: Promise<unknown> } = { since: 0, done: Promise.resolve() };

  constructor(env: { readonly KV: KVNamespace }) {
    this.#env = env;
  }

  async write(environmentId: string, parts: SnapshotParts): Promise<void> {
    const { ruleset, relays, ...rest } = parts;
    // The pointer comes second: it never names what cannot be read.
    const written = this.#env.KV.put(
      snapshotName(environmentId, parts.revision),
      `${JSON.stringify(rest)}\n${ruleset}`,
    );
    await within(written, KV_WRITE_MS, "KV");
    await this.point(environmentId, { revision: parts.revision, relays });
  }

  async point(environmentId: string, { revision, relays }: LatestPointer): Promise<void> {
    // One that has outlived its deadline may land yet: after the next it would turn the pointer back.
    if (Date.now() - this.#landing.since < LOST_MS) await within(this.#landing.done, KV_WRITE_MS, "KV");
    const put = this.#env.KV.put(pointerName(environmentId), JSON.stringify({ revision, relays }));
    this.#landing = { since: Date.now(), done: put.catch(() => {}) };
    await within(put, KV_WRITE_MS, "KV");
  }

  async delete(environmentId: string, revision: number): Promise<void> {
    await within(this.#env.KV.delete(snapshotName(environmentId, revision)), KV_WRITE_MS, "KV");
  }
}

export async function latestPointer(kv: KVNamespace, environmentId: string): Promise<LatestPointer | null> {
  return within(kv.get<LatestPointer>(pointerName(environmentId), "json"), KV_READ_MS, "KV");
}

/** The newest snapshot that KV shows here, which may be a minute old. */
export async function readLatestSnapshot(kv: KVNamespace, environmentId: string): Promise<SnapshotParts | null> {
  const pointer = await latestPointer(kv, environmentId);
  if (pointer === null) return null;
  const { revision, relays } = pointer;
  const text = await within(kv.get(snapshotName(environmentId, revision), "text"), KV_READ_MS, "KV");
  if (text === null) return null;
  const end = text.indexOf("\n");
  const rest = JSON.parse(text.slice(0, end)) as Omit<SnapshotParts, "ruleset" | "relays">;
  return { ...rest, ruleset: text.slice(end + 1), relays };
}
