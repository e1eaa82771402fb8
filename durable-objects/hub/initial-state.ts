/** The initial state of a hub that has none: D1's current state or, while D1 is down, the newest snapshot in KV. */
import type { Ruleset, Segment } from "@bunting/core";
import { D1_COLD_START_MS, D1_MS, within } from "../../workers/platform/deadline.ts";
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
import { type KillState, overlayKills } from "./kills/kill.ts";

export type InitialState = {
  revision: number;
  version: number;
  changeId: string;
  killSeq: number;
  unreadKillsAfter: number | null;
  documents: Documents;
  members: MemberRow[];
  kills: Record<string, KillState>;
  /** The relays of a hub that lost its storage: they have to attach again. */
  relays: RelayCounts;
};

/** Added to the highest revision in KV or D1: clients may have been sent later ones. */
const REVISION_GAP = 1_000_000;
const KILL_SEQ_GAP = 1_000;

/** Null: there is no such environment. Throws if neither D1 nor KV responds. */
export async function readInitialState(
  db: Database,
  kv: KVNamespace,
  environmentId: string,
): Promise<InitialState | null> {
  const reading = wholeEnvironment(db, environmentId);
  const [early, pointer, fromKv] = await Promise.allSettled([
    within(reading, D1_COLD_START_MS, "D1"),
    latestPointer(kv, environmentId),
    readLatestSnapshot(kv, environmentId),
  ]);
  const snapshot = fromKv.status === "fulfilled" ? fromKv.value : null;
  // With a snapshot the hub does not wait for a slow D1: the outbox has what the snapshot lacks, once D1 responds.
  if (early.status === "rejected" && snapshot !== null) return fromSnapshot(snapshot);
  const whole = await within(reading, D1_MS, "D1").catch((cause: unknown) => {
    throw new Error("Neither D1 nor KV has returned this environment's state: the hub starts on a later request", {
      cause,
    });
  });
  const latest = pointer.status === "fulfilled" ? pointer.value : null;
  return whole && fromD1(whole, latest, snapshot);
}

/** The initial state of a new environment. */
export function initialStateOfNew(whole: WholeEnvironment): InitialState {
  return { ...fromD1(whole, null, null), revision: 1, killSeq: 0 };
}

/** `latest` is KV's pointer; `snapshot` is the snapshot that it names, if that could be read. */
function fromD1(whole: WholeEnvironment, latest: LatestPointer | null, snapshot: SnapshotParts | null): InitialState {
  const { ruleset, keys, head, publishedRevision } = whole;
  // D1 may lack recent kills, since it is only their mirror, and KV may be older. Of each flag the later kill counts.
  const readThrough = snapshot === null ? 0 : killsReadThrough(snapshot);
  const later = whole.kills.filter(
    ({ flagKey, seq }) => seq > Math.max(readThrough, snapshot?.kills[flagKey]?.seq ?? 0),
  );
  return {
    revision: Math.max(latest?.revision ?? 0, publishedRevision) + REVISION_GAP,
    version: head.version,
    changeId: head.changeId,
    killSeq: Math.max(whole.killSeq, snapshot?.killSeq ?? 0) + KILL_SEQ_GAP,
    unreadKillsAfter: null,
    documents: { flags: ruleset.flags, segments: ruleset.segments, keys },
    members: whole.members,
    kills: overlayKills(snapshot?.kills ?? {}, later),
    relays: latest?.relays ?? {},
  };
}

function fromSnapshot(snapshot: SnapshotParts): InitialState {
  const { flags, segments } = JSON.parse(snapshot.ruleset) as Ruleset;
  // The snapshot's flags include kills; the hub stores documents as D1 has them, without.
  const bare = Object.entries(flags).map(([key, flag]) => [key, { ...flag, killed: false }] as const);
  return {
    revision: snapshot.revision + REVISION_GAP,
    version: snapshot.version,
    changeId: snapshot.changeId,
    killSeq: snapshot.killSeq + KILL_SEQ_GAP,
    unreadKillsAfter: killsReadThrough(snapshot),
    documents: { flags: Object.fromEntries(bare), segments: withoutLists(segments), keys: snapshot.keys },
    members: Object.values(segments).flatMap(listed),
    kills: snapshot.kills,
    relays: snapshot.relays,
  };
}

/** The last kill of D1 up to which the snapshot has all of them. */
const killsReadThrough = ({ killSeq, unreadKillsAfter }: SnapshotParts): number => unreadKillsAfter ?? killSeq;

/** The hub stores the member lists of big segments separately from their documents. */
function withoutLists(segments: Record<string, Segment>): Record<string, Segment> {
  const bare = Object.entries(segments).map(([key, segment]) => {
    return [key, segment.big ? { ...segment, big: { ...segment.big, added: [], removed: [] } } : segment] as const;
  });
  return Object.fromEntries(bare);
}

function listed({ key, big }: Segment): MemberRow[] {
  if (big === undefined) return [];
  // The snapshot lacks their generations. While a filter is being built, changes belong to the one after it, so + 2 is
  // safe.
  const row = { segmentKey: key, generation: big.generation + 2 };
  return [
    ...big.added.map((member) => ({ ...row, member, present: true })),
    ...big.removed.map((member) => ({ ...row, member, present: false })),
  ];
}
