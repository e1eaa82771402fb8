/** Whether a relay has room for one more client, and how many clients are too many. Pure. */
import type { Sockets } from "./sockets.ts";
import type { RelayStorage } from "./storage.ts";

/** The most clients: of one relay, of one SDK key, of an environment. */
export type Limits = { relay: number; key: number; environment: number };

/** The counts of the relay are exact; those of the environment may be a report behind. */
type ClientCounts = {
  inRelay: number;
  inRelayOfKey: number;
  inEnvironment: number;
  inEnvironmentOfKey: number;
};

/** Null: the client is admitted. "full" concerns this relay alone: another one may have room. */
export function checkAdmission(counts: ClientCounts, limits: Limits): "full" | "key" | "environment" | null {
  if (Math.max(counts.inRelayOfKey, counts.inEnvironmentOfKey) >= limits.key) return "key";
  if (Math.max(counts.inRelay, counts.inEnvironment) >= limits.environment) return "environment";
  return counts.inRelay >= limits.relay ? "full" : null;
}

export type Refusal = NonNullable<ReturnType<typeof checkAdmission>>;

/** Why a relay does not admit another client with this key. Null: it does. */
export function refusalOf(keyHash: string, sockets: Sockets, storage: RelayStorage, limits: Limits): Refusal | null {
  const { connected, keys } = storage.occupancy;
  const counts = {
    inRelay: sockets.count(),
    inRelayOfKey: sockets.count(keyHash),
    inEnvironment: connected,
    inEnvironmentOfKey: Object.hasOwn(keys, keyHash) ? (keys[keyHash] as number) : 0,
  };
  return checkAdmission(counts, limits);
}

/**
 * How many of the relay's clients have to go to bring the environment within its limit: each relay evicts its share.
 */
export function countExcess(inRelay: number, inEnvironment: number, limit: number): number {
  const all = Math.max(inRelay, inEnvironment);
  return all <= limit ? 0 : Math.ceil((inRelay * (all - limit)) / all);
}

/**
 * Whether the parent needs a new report: clients have changed by a tenth of a relay's cap, or of what was last reported
 * if that is more, so that a node with a thousand descendants does not report every step of theirs.
 */
export function isWorthReporting(reported: number, now: number, cap: number): boolean {
  return Math.abs(now - reported) >= Math.max(1, cap / 10, reported / 10);
}
