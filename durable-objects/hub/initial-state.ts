/** What a hub without state starts from: D1 as it is, or, while D1 is down, the newest snapshot in KV. */
import type { Ruleset, Segment } from "@bunting/core";
import { D1_BIRTH_MS, D1_MS, within } from "../../workers/platform/deadline.ts";
import type { Database } from "../../workers/store/database.ts";
import { type MemberRow, type WholeEnvironment, wholeEnvironment } from "../../workers/store/documents.ts";
import {
  type LatestPointer,
  latestPointer,
  readLatestSnapshot,
  type SnapshotParts,
} from "../../workers/store/kv-snapshot.ts";
import type { Documents } from "../../workers/store/outbox/change.ts";
import type { RelayCounts } from "../fan-out/tree.ts";
import { type KillState, laidOver } from "./kills/kill.ts";

export type Beginning = {
  revision: number;
  version: number;
  changeId: string;
  killSeq: number;
  unreadKillsAfter: number | null;
  documents: Documents;
  members: MemberRow[];
  kills: Record<string, KillState>;
  /** Those that a hub which was lost had below it, and which do not know that. */
  relays: RelayCounts;
};

/** Above the highest revision that KV or D1 has seen: both may be behind what clients were sent. */
const REVISION_GAP = 1_000_000;
const KILL_SEQ_GAP = 1_000;

/** Null: there is no such environment. Throws where neither D1 nor KV can tell what it serves. */
export async function readBeginning(db: Database, kv: KVNamespace, environmentId: string): Promise<Beginning | null> {
  const asked = wholeEnvironment(db, environmentId);
  const [early, pointer, fromKv] = await Promise.allSettled([
    within(asked, D1_BIRTH_MS, "D1"),
    latestPointer(kv, environmentId),
    readLatestSnapshot(kv, environmentId),
  ]);
  const snapshot = fromKv.status === "fulfilled" ? fromKv.value : null;
  // A D1 that is slow is not waited for where KV knows: what KV lacks, the outbox tells once D1 answers.
  if (early.status === "rejected" && snapshot !== null) return fromSnapshot(snapshot);
  const whole = await within(asked, D1_MS, "D1").catch((cause: unknown) => {
    throw new Error("Neither D1 nor KV can tell what this environment serves", { cause });
  });
  const latest = pointer.status === "fulfilled" ? pointer.value : null;
  return whole && fromD1(whole, latest, snapshot);
}

/** An environment that was just made. */
export function firstBeginning(whole: WholeEnvironment): Beginning {
  return { ...fromD1(whole, null, null), revision: 1, killSeq: 0 };
}

/** `latest` is what KV points to; `snapshot` is what it holds, where that can be read. */
function fromD1(whole: WholeEnvironment, latest: LatestPointer | null, snapshot: SnapshotParts | null): Beginning {
  const { ruleset, keys, head, publishedRevision } = whole;
  // D1 only mirrors kills, late where it was down, and KV may be older. They are numbered: the later of each flag counts.
  const heardTo = snapshot === null ? 0 : lastHeard(snapshot);
  const later = whole.kills.filter(({ flagKey, seq }) => seq > Math.max(heardTo, snapshot?.kills[flagKey]?.seq ?? 0));
  return {
    revision: Math.max(latest?.revision ?? 0, publishedRevision) + REVISION_GAP,
    version: head.version,
    changeId: head.changeId,
    killSeq: Math.max(whole.killSeq, snapshot?.killSeq ?? 0) + KILL_SEQ_GAP,
    unreadKillsAfter: null,
    documents: { flags: ruleset.flags, segments: ruleset.segments, keys },
    members: whole.members,
    kills: laidOver(snapshot?.kills ?? {}, later),
    relays: latest?.relays ?? {},
  };
}

function fromSnapshot(snapshot: SnapshotParts): Beginning {
  const { flags, segments } = JSON.parse(snapshot.ruleset) as Ruleset;
  // A snapshot has the kills laid over its flags; the hub keeps documents as D1 has them.
  const bare = Object.entries(flags).map(([key, flag]) => [key, { ...flag, killed: false }] as const);
  return {
    revision: snapshot.revision + REVISION_GAP,
    version: snapshot.version,
    changeId: snapshot.changeId,
    killSeq: snapshot.killSeq + KILL_SEQ_GAP,
    unreadKillsAfter: lastHeard(snapshot),
    documents: { flags: Object.fromEntries(bare), segments: withoutLists(segments), keys: snapshot.keys },
    members: Object.values(segments).flatMap(listed),
    kills: snapshot.kills,
    relays: snapshot.relays,
  };
}

/** Up to which kill of D1 a snapshot has them all. */
const lastHeard = ({ killSeq, unreadKillsAfter }: SnapshotParts): number => unreadKillsAfter ?? killSeq;

/** The hub keeps the lists of big segments beside their documents. */
function withoutLists(segments: Record<string, Segment>): Record<string, Segment> {
  const bare = Object.entries(segments).map(([key, segment]) => {
    return [key, segment.big ? { ...segment, big: { ...segment.big, added: [], removed: [] } } : segment] as const;
  });
  return Object.fromEntries(bare);
}

function listed({ key, big }: Segment): MemberRow[] {
  if (big === undefined) return [];
  // A snapshot does not tell them apart: while a filter is being built, changes go into the one after it.
  const row = { segmentKey: key, generation: big.generation + 2 };
  return [
    ...big.added.map((member) => ({ ...row, member, present: true })),
    ...big.removed.map((member) => ({ ...row, member, present: false })),
  ];
}
