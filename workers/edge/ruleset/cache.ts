/**
 * What this isolate evaluates with, by environment. Checked with the region's relay at most once a second, shared by the
 * isolate's requests; a request waits for checks at most RELAY_CHECK_MS, then is served what there is.
 */
import { compile, type Evaluator, type Ruleset } from "@bunting/core";
import type { PatchMessage, ServerMessage } from "@bunting/core/wire";
import type { Delivery } from "../../../durable-objects/fan-out/delivery.ts";
import type { Env } from "../../env.ts";
import { Circuit, HUB_SNAPSHOT_MS, RELAY_BREAKING, RELAY_CHECK_MS, within } from "../../platform/deadline.ts";
import { readLatestSnapshot, type SnapshotParts } from "../../store/kv-snapshot.ts";
import { relayOf } from "../relays/address.ts";
import type { IsolateRuleset, Visit } from "./isolate-ruleset.ts";
import { NewestSeen } from "./newest-seen.ts";
import { History } from "./recent-changes.ts";

export const FRESH_MS = 1_000;
/** A key that this isolate has not heard of is worth an early check, but not one for every request of a stranger. */
export const EARLY_MS = 100;
/** Of an isolate's 128 MB; the least recently used environments go first. */
const MAX_BYTES = 48 * 1024 * 1024;
/** A parsed ruleset takes about this many times its text. */
const BYTES_PER_CHARACTER = 3;
const MAX_POLLED = 64;
const UNKNOWN_MS = 5_000;
const MAX_UNKNOWN = 1_000;

const held = new Map<string, IsolateRuleset>();
const newestSeen = new NewestSeen();
const loading = new Map<string, Promise<IsolateRuleset | null>>();
/** Environments that do not exist, so that made-up keys cost a look-up each few seconds and not each request. */
const unknown = new Map<string, number>();

/** As `isolateRuleset`, where nothing has to be asked first; null otherwise. */
export function freshRuleset(
  environmentId: string,
  maxAgeMs: (ruleset: IsolateRuleset) => number,
): IsolateRuleset | null {
  const ruleset = held.get(environmentId);
  const now = Date.now();
  if (ruleset === undefined || now - ruleset.checkedAt > maxAgeMs(ruleset)) return null;
  ruleset.usedAt = now;
  return ruleset;
}

/** Null: there is no such environment. `maxAgeMs` says how old the last check may be for this request. */
export async function isolateRuleset(
  visit: Visit,
  environmentId: string,
  maxAgeMs: (ruleset: IsolateRuleset) => number = () => FRESH_MS,
): Promise<IsolateRuleset | null> {
  if ((unknown.get(environmentId) ?? 0) > Date.now() - UNKNOWN_MS) return null;
  const ruleset = held.get(environmentId) ?? (await loadOnce(visit, environmentId));
  if (ruleset === null) return null;
  const until = Date.now() + RELAY_CHECK_MS;
  // A check that another request began may have read before the change that this one is for: then it checks once more.
  for (let checks = 0; checks < 2 && Date.now() - ruleset.checkedAt > maxAgeMs(ruleset); checks++) {
    const leftMs = until - Date.now();
    if (leftMs > 0) await checkOnce(visit, ruleset, leftMs);
  }
  newestSeen.note(environmentId, ruleset.evaluator.revision);
  ruleset.usedAt = Date.now();
  // One that was evicted meanwhile is not put in place of what others have loaded since.
  if (!held.has(environmentId)) held.set(environmentId, ruleset);
  return ruleset;
}

/** As far as this isolate can tell without asking anybody. */
export function heldRuleset(environmentId: string): IsolateRuleset | undefined {
  return held.get(environmentId);
}

/** Milliseconds since the relay last answered, where it did not in time: then this is the last that this isolate knows. */
export function staleFor({ checkedAt }: IsolateRuleset): number {
  const ageMs = Date.now() - checkedAt;
  return ageMs > 2 * FRESH_MS ? ageMs : 0;
}

/** Somebody who polls and has this revision already, as far as its ETag tells. */
export function notePoll({ polls, evaluator }: IsolateRuleset, revision: number): void {
  if (revision > evaluator.revision || (polls.size >= MAX_POLLED && !polls.has(revision))) return;
  polls.set(revision, (polls.get(revision) ?? 0) + 1);
}

export function rulesetText(ruleset: IsolateRuleset): string {
  if (ruleset.text === null) {
    ruleset.text = JSON.stringify(ruleset.evaluator.ruleset);
    ruleset.bytes = ruleset.text.length * BYTES_PER_CHARACTER;
  }
  return ruleset.text;
}

// A promise of another request may never settle if that request ends: whoever shares one waits for a bounded time only.

async function checkOnce(visit: Visit, ruleset: IsolateRuleset, waitMs: number): Promise<void> {
  if (ruleset.checking === null) {
    const checking = ruleset.circuit
      .through(() => {
        const checked = check(visit, ruleset);
        visit.ctx.waitUntil(checked.catch(() => {}));
        return within(checked, RELAY_CHECK_MS, "relay");
      })
      .finally(() => {
        if (ruleset.checking === checking) ruleset.checking = null;
      });
    ruleset.checking = checking;
  }
  const shared = ruleset.checking;
  try {
    await within(shared, waitMs, "relay");
  } catch {
    if (ruleset.checking === shared) ruleset.checking = null;
  }
}

async function check(visit: Visit, ruleset: IsolateRuleset): Promise<void> {
  const startedAt = Date.now();
  if (startedAt < ruleset.fetchingUntil) return;
  const polls = [...ruleset.polls];
  ruleset.polls.clear();
  // The next check asks another, where there are several.
  const since = await relayOf(visit, ruleset)
    .since(ruleset.evaluator.revision, polls)
    .catch((error: unknown) => {
      ruleset.share = Math.random();
      throw error;
    });
  if (since === null) return;
  ruleset.relays = since.relays;
  if (since.revision <= ruleset.evaluator.revision) {
    // Nothing new, or a relay that lacks what this isolate read elsewhere.
  } else if (since.deliveries === null || since.deliveries.some(isTooLarge)) {
    await fetchWhole(visit, ruleset, since.revision);
  } else for (const delivery of since.deliveries) applyDelivery(ruleset, delivery);
  newestSeen.note(ruleset.environmentId, ruleset.evaluator.revision);
  ruleset.checkedAt = Math.max(ruleset.checkedAt, startedAt);
}

/** From the relay, which asks those above it once for all of its isolates: they are many, and the hub is one. */
async function fetchWhole(visit: Visit, ruleset: IsolateRuleset, revision: number): Promise<void> {
  ruleset.fetchingUntil = Date.now() + HUB_SNAPSHOT_MS;
  try {
    // What a stub hands out is a promise in all but its class.
    const reading = Promise.resolve(relayOf(visit, ruleset).snapshot(revision));
    const whole = await within(reading, HUB_SNAPSHOT_MS, "relay");
    if (whole !== null && whole.revision > ruleset.evaluator.revision)
      Object.assign(ruleset, fromSnapshot(whole, ruleset.evaluator));
  } finally {
    ruleset.fetchingUntil = 0;
  }
}

/** Lets the ruleset's history reach back to `revision`, where the relay still has what came after. */
export async function recall(visit: Visit, ruleset: IsolateRuleset, revision: number): Promise<void> {
  if (revision >= ruleset.evaluator.revision || ruleset.history.reaches(revision)) return;
  const reading = relayOf(visit, ruleset).since(revision, []);
  const since = await within(Promise.resolve(reading), RELAY_CHECK_MS, "relay").catch(() => null);
  const deliveries = since?.deliveries ?? [];
  if (deliveries.some(isTooLarge)) return;
  ruleset.history.extend(deliveries.map(({ message }) => JSON.parse(message) as PatchMessage));
}

const isTooLarge = (delivery: Delivery) => delivery.message.startsWith('{"type":"resync"');

/** Never back: a delivery that does not fit on top of what is held has been applied already. */
function applyDelivery(ruleset: IsolateRuleset, delivery: Delivery): void {
  if (delivery.previous !== ruleset.evaluator.revision) return;
  const message = JSON.parse(delivery.message) as ServerMessage;
  if (message.type !== "patch") return;
  ruleset.history.note(message, ruleset.evaluator.ruleset);
  ruleset.evaluator.apply(message);
  for (const [hash, grant] of Object.entries(delivery.keys)) {
    if (grant === null) delete ruleset.keys[hash];
    else ruleset.keys[hash] = grant;
  }
  ruleset.text = null;
  // Too much where something was replaced; the next text tells exactly.
  ruleset.bytes += delivery.message.length * BYTES_PER_CHARACTER;
}

async function loadOnce(visit: Visit, environmentId: string): Promise<IsolateRuleset | null> {
  const shared = loading.get(environmentId);
  if (shared !== undefined) {
    const loaded = await within(shared, RELAY_CHECK_MS, "load").catch(() => undefined);
    if (loaded !== undefined) return loaded;
  }
  const own = load(visit, environmentId).finally(() => {
    if (loading.get(environmentId) === own) loading.delete(environmentId);
  });
  loading.set(environmentId, own);
  return own;
}

/**
 * From KV, which may be a minute behind (the check that follows catches up); from the hub where KV has nothing. What this
 * isolate has served before is the least that it serves again: without relay and hub it serves nothing rather than less.
 */
async function load(visit: Visit, environmentId: string): Promise<IsolateRuleset | null> {
  const { env } = visit;
  const snapshot =
    (await readLatestSnapshot(env.KV, environmentId).catch(() => null)) ?? (await hubSnapshot(env, environmentId));
  if (snapshot === null) {
    if (unknown.size >= MAX_UNKNOWN) unknown.clear();
    unknown.set(environmentId, Date.now());
    return null;
  }
  const ruleset = newIsolateRuleset(environmentId, snapshot);
  const isBehind = () => ruleset.evaluator.revision < newestSeen.of(environmentId);
  if (isBehind()) await checkOnce(visit, ruleset, RELAY_CHECK_MS);
  if (isBehind()) {
    const whole = await hubSnapshot(env, environmentId);
    if (whole !== null) Object.assign(ruleset, fromSnapshot(whole, ruleset.evaluator));
  }
  if (isBehind()) throw new Error("What can be read is older than what has been served");
  const known = held.get(environmentId);
  if (known !== undefined && known.evaluator.revision >= ruleset.evaluator.revision) return known;
  held.set(environmentId, ruleset);
  evict();
  return ruleset;
}

function newIsolateRuleset(environmentId: string, snapshot: SnapshotParts): IsolateRuleset {
  return {
    environmentId,
    ...fromSnapshot(snapshot),
    checkedAt: 0,
    usedAt: Date.now(),
    relays: snapshot.relays,
    share: Math.random(),
    polls: new Map(),
    checking: null,
    fetchingUntil: 0,
    circuit: new Circuit("relay", RELAY_BREAKING),
  };
}

async function hubSnapshot(env: Env, environmentId: string): Promise<SnapshotParts | null> {
  return within(env.HUB.get(env.HUB.idFromName(environmentId)).snapshot(), HUB_SNAPSHOT_MS, "hub");
}

function fromSnapshot(
  snapshot: SnapshotParts,
  previous?: Evaluator,
): Pick<IsolateRuleset, "evaluator" | "keys" | "history" | "text" | "bytes"> {
  return {
    evaluator: compile(JSON.parse(snapshot.ruleset) as Ruleset, previous),
    keys: snapshot.keys,
    history: new History(snapshot.revision),
    text: snapshot.ruleset,
    bytes: snapshot.ruleset.length * BYTES_PER_CHARACTER,
  };
}

export function evict(): void {
  const sizeOf = ({ bytes, evaluator }: IsolateRuleset) => bytes + evaluator.filterBytes;
  let total = 0;
  for (const ruleset of held.values()) total += sizeOf(ruleset);
  if (total <= MAX_BYTES) return;
  for (const ruleset of [...held.values()].sort((one, other) => one.usedAt - other.usedAt)) {
    if (total <= MAX_BYTES || held.size === 1) return;
    held.delete(ruleset.environmentId);
    total -= sizeOf(ruleset);
  }
}
