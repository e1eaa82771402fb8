/** SDK keys: checked against what the environment's hub has published, in memory, without asking a database. */

import { addressOf } from "../platform/address-limit.ts";
import { errorText } from "../platform/error-text.ts";
import { ApiError, badRequest, forbidden, unauthenticated, unavailable } from "../platform/problem.ts";
import { sha256 } from "../platform/sha256.ts";
import type { KeyGrant } from "../store/outbox/change.ts";
import type { KeyKind } from "../store/schema/index.ts";
import { type ClientName, clientName, MAX_CLIENT_TEXT } from "./client-name.ts";
import { allowsOrigin, hasOrigins } from "./cors.ts";
import { revisionOfEtag } from "./etag.ts";
import { limitReader, noteUnauthenticated, refuseUnauthenticated } from "./read-limit.ts";
import type { Incoming } from "./router.ts";
import { EARLY_MS, FRESH_MS, freshRuleset, heldRuleset, isolateRuleset } from "./ruleset/cache.ts";
import type { IsolateRuleset, Visit } from "./ruleset/isolate-ruleset.ts";

export class Caller {
  readonly environmentId: string;
  readonly keyHash: string;
  readonly grant: KeyGrant;
  readonly ruleset: IsolateRuleset;
  readonly visit: Incoming;

  constructor(visit: Incoming, ruleset: IsolateRuleset, keyHash: string, grant: KeyGrant) {
    this.visit = visit;
    this.ruleset = ruleset;
    this.environmentId = ruleset.environmentId;
    this.keyHash = keyHash;
    this.grant = grant;
  }

  /** Read only where it is asked for: few requests do. */
  get client(): ClientName {
    return clientName(clientText(this.visit));
  }
}

const KEY = /^bnt_(srv|cli)_([0-9a-z]{20})_([0-9a-z]{16,64})$/;

/** By the SDK key that the request brings. */
export async function authenticate(incoming: Incoming, ...kinds: KeyKind[]): Promise<Caller> {
  const key = presentedKey(incoming);
  const { kind, environmentId, hash } = known.get(key) ?? (await readKey(key));
  if (!kinds.includes(kind)) throw forbidden(`This route takes a ${kinds.join(" or a ")} key.`);
  return await admit(incoming, environmentId, ({ keys }) => (Object.hasOwn(keys, hash) ? hash : null));
}

/** Looks among an environment's keys for the hash of the one that the caller names. */
type Find = (ruleset: IsolateRuleset) => string | null;
/** Throws where the caller only names the key and does not hold it. */
type Prove = (keyHash: string) => Promise<void>;

/** Whoever holds the key that `find` finds, within its origins and limits; 401, 403, 429 or 503 for others. */
export async function admit(incoming: Incoming, environmentId: string, find: Find, prove?: Prove): Promise<Caller> {
  const atLeast = wantedRevision(incoming, environmentId);
  const maxAgeMs = (ruleset: IsolateRuleset) => {
    if (find(ruleset) === null) return EARLY_MS;
    return atLeast > ruleset.evaluator.revision ? -1 : FRESH_MS;
  };
  // Before anybody is asked for it. A good key passes whatever others behind the same address do.
  const held = heldRuleset(environmentId);
  const counted = held === undefined ? null : find(held);
  if (held === undefined || counted === null) refuseUnauthenticated(addressOf(incoming));
  else {
    if (prove !== undefined) await prove(counted);
    limitHolder(incoming, counted, held.keys[counted]);
  }
  let ruleset = freshRuleset(environmentId, maxAgeMs) ?? (await look(incoming, environmentId, maxAgeMs));
  if (ruleset !== null && find(ruleset) === null) {
    // A key made a moment ago may still be on its way here, and an SDK takes a refusal for final.
    await new Promise((resolve) => setTimeout(resolve, EARLY_MS));
    ruleset = await look(incoming, environmentId, maxAgeMs);
  }
  const keyHash = ruleset === null ? null : find(ruleset);
  if (ruleset !== null && keyHash === null && Date.now() - ruleset.checkedAt > FRESH_MS) {
    // A new key, perhaps, and a relay that does not answer: an SDK takes a refusal for final, and this is none.
    throw unavailable("This SDK key cannot be checked at the moment.", 1);
  }
  const grant = ruleset === null || keyHash === null ? undefined : ruleset.keys[keyHash];
  if (ruleset === null || keyHash === null || grant === undefined) {
    noteUnauthenticated(addressOf(incoming));
    throw unauthenticated("This SDK key is unknown or has been revoked.");
  }
  if (counted !== keyHash) {
    // Before anything is said of the key or counted for it.
    if (prove !== undefined) await prove(keyHash);
    limitHolder(incoming, keyHash, grant);
  }
  if (grant.expiresAt !== null && grant.expiresAt <= Date.now()) throw unauthenticated("This SDK key has expired.");
  checkOrigin(incoming, grant);
  return new Caller(incoming, ruleset, keyHash, grant);
}

function limitHolder(incoming: Incoming, keyHash: string, grant: KeyGrant | undefined): void {
  // Of a public key anybody may name any number of instances.
  const instance = grant?.kind === "server" ? INSTANCE.exec(clientText(incoming)) : null;
  limitReader(incoming, keyHash, instance?.[1] ?? addressOf(incoming));
}

function look(
  visit: Visit,
  environmentId: string,
  maxAgeMs: (ruleset: IsolateRuleset) => number,
): Promise<IsolateRuleset | null> {
  return isolateRuleset(visit, environmentId, maxAgeMs).catch((error: unknown) => {
    console.warn(JSON.stringify({ level: "warn", message: "no ruleset", environmentId, error: errorText(error) }));
    throw unavailable("This environment cannot be read at the moment.", 1);
  });
}

/** What the caller knows to exist: `?revision=`, or the ETag that an event stream of OFREP sent to its client. */
function wantedRevision(incoming: Incoming, environmentId: string): number {
  const etagRevision = revisionOfEtag(incoming.query("flagConfigEtag"), environmentId);
  return revisionIn(incoming.query("revision"), "revision") ?? etagRevision ?? 0;
}

/** What a key says of itself, and its hash, by which environments know it. */
type SdkKey = { kind: KeyKind; environmentId: string; hash: string };

/** Few keys send almost all requests. */
const known = new Map<string, SdkKey>();
const MAX_KNOWN = 1_000;

async function readKey(key: string): Promise<SdkKey> {
  const [, prefix, environment] = KEY.exec(key) ?? [];
  if (prefix === undefined || environment === undefined) {
    throw unauthenticated(
      key.startsWith("bnt_api_")
        ? "This is an API token; this address takes SDK keys (bnt_srv_… or bnt_cli_…)."
        : "This is not an SDK key of Bunting.",
    );
  }
  const kind = prefix === "srv" ? "server" : "client";
  const read: SdkKey = { kind, environmentId: `env_${environment}`, hash: await sha256(key) };
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(key, read);
  return read;
}

/** Null for none; 400 for what is no revision. `name` is where it stood. */
export function revisionIn(text: string | null, name: string): number | null {
  if (text === null || text === "") return null;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw notARevision(name);
}

export const notARevision = (name: string) =>
  badRequest(`${name} must be a revision, a whole number.`, [
    { pointer: `/${name}`, code: "not-a-revision", message: "Send a revision that you know of." },
  ]);

function presentedKey(incoming: Incoming): string {
  // EventSource and WebSocket of browsers cannot set headers, so a client key may be in the query; a secret never.
  const query = incoming.query("key");
  if (query?.startsWith("bnt_srv_")) {
    throw new ApiError(401, "key-in-url", "A server key must not be in a URL. Send it as Authorization: Bearer.");
  }
  const bearer = /^Bearer (\S+)$/i.exec(incoming.headers.get("authorization") ?? "")?.[1];
  const header = bearer ?? incoming.headers.get("x-api-key");
  if (header !== null) return header;
  if (query === null) throw unauthenticated("Send an SDK key as Authorization: Bearer, or as X-API-Key.");
  return query;
}

function checkOrigin({ headers }: Incoming, grant: KeyGrant): void {
  if (!hasOrigins(grant) || allowsOrigin(grant, headers.get("origin"))) return;
  throw forbidden("This client key may not be used from this origin. Add the origin to the key, or use another key.");
}

/** From a stranger: cut to size, never trusted. */
const clientText = (incoming: Incoming): string =>
  (incoming.headers.get("x-bunting-client") ?? incoming.query("client") ?? "").slice(0, MAX_CLIENT_TEXT);

const INSTANCE = /;instance=([^;]+)/;
