/** SDK keys: checked against what the environment's hub has published, in memory, without asking a database. */
import type { Context } from "hono";
import type { Env } from "../env.ts";
import { ApiError, badRequest, forbidden, unauthenticated, unavailable } from "../problem.ts";
import type { KeyGrant } from "../store/changes.ts";
import { sha256 } from "../store/credentials.ts";
import type { KeyKind } from "../store/schema.ts";
import { revisionOfEtag } from "./etag.ts";
import { EARLY_MS, FRESH_MS, heldRuleset, type IsolateRuleset, isolateRuleset, type Visit } from "./isolate-ruleset.ts";
import { allowsOrigin } from "./origins.ts";
import { limitReader, noteStranger, refuseStranger } from "./read-limit.ts";

type ClientName = { sdk: string; instance: string; name: string };

export type Caller = {
  environmentId: string;
  keyHash: string;
  grant: KeyGrant;
  ruleset: IsolateRuleset;
  client: ClientName;
  visit: Visit;
};

const KEY = /^bnt_(srv|cli)_([0-9a-z]{20})_([0-9a-z]{16,64})$/;

type Incoming = Context<{ Bindings: Env }>;

/** By the SDK key that the request brings. */
export async function authenticate(c: Incoming, ...kinds: KeyKind[]): Promise<Caller> {
  const key = presentedKey(c);
  const [, prefix, environment] = KEY.exec(key) ?? [];
  if (prefix === undefined || environment === undefined) throw unauthenticated("This is not an SDK key of Bunting.");
  const kind: KeyKind = prefix === "srv" ? "server" : "client";
  if (!kinds.includes(kind)) throw forbidden(`This route takes a ${kinds.join(" or a ")} key.`);
  const keyHash = await hashOf(key);
  return admit(c, `env_${environment}`, ({ keys }) => (Object.hasOwn(keys, keyHash) ? keyHash : null));
}

/** Looks among an environment's keys for the hash of the one that the caller names. */
type Find = (ruleset: IsolateRuleset) => string | null;
/** Throws where the caller only names the key and does not hold it. */
type Prove = (keyHash: string) => Promise<void>;

/** Whoever holds the key that `find` finds, within its origins and limits; 401, 403, 429 or 503 for others. */
export async function admit(c: Incoming, environmentId: string, find: Find, prove?: Prove): Promise<Caller> {
  const visit: Visit = { env: c.env, ctx: c.executionCtx, request: c.req.raw };
  const address = c.req.header("cf-connecting-ip") ?? "";
  const atLeast = wantedRevision(c, environmentId);
  // A good key passes whatever others behind the same address do.
  const known = heldRuleset(environmentId);
  if (known === undefined || find(known) === null) refuseStranger(address);
  let ruleset = await look(visit, environmentId, find, atLeast);
  if (ruleset !== null && find(ruleset) === null) {
    // A key made a moment ago may still be on its way here, and an SDK takes a refusal for final.
    await new Promise((resolve) => setTimeout(resolve, EARLY_MS));
    ruleset = await look(visit, environmentId, find, atLeast);
  }
  const keyHash = ruleset === null ? null : find(ruleset);
  if (ruleset !== null && keyHash === null && Date.now() - ruleset.checkedAt > FRESH_MS) {
    // A new key, perhaps, and a relay that does not answer: an SDK takes a refusal for final, and this is none.
    throw unavailable("This SDK key cannot be checked at the moment.", 1);
  }
  const grant = ruleset === null || keyHash === null ? undefined : ruleset.keys[keyHash];
  if (ruleset === null || keyHash === null || grant === undefined) {
    noteStranger(address);
    throw unauthenticated("This SDK key is unknown or has been revoked.");
  }
  // Before anything is said of the key or counted for it.
  await prove?.(keyHash);
  if (grant.expiresAt !== null && grant.expiresAt <= Date.now()) throw unauthenticated("This SDK key has expired.");
  checkOrigin(c.req.raw, grant);
  const client = clientName(c);
  // Of a public key anybody may name any number of instances.
  await limitReader(c.env, keyHash, grant.kind === "client" ? address : client.instance || address);
  return { environmentId, keyHash, grant, ruleset, client, visit };
}

/** Not a closure in `admit`: a bundle gives each closure that has a name its name again, which costs as much as a header. */
function look(visit: Visit, environmentId: string, find: Find, atLeast: number): Promise<IsolateRuleset | null> {
  return isolateRuleset(visit, environmentId, (ruleset) => {
    if (find(ruleset) === null) return EARLY_MS;
    return atLeast > ruleset.evaluator.revision ? -1 : FRESH_MS;
  }).catch((error: unknown) => {
    console.warn(JSON.stringify({ level: "warn", message: "no ruleset", environmentId, error: String(error) }));
    throw unavailable("This environment cannot be read at the moment.", 1);
  });
}

/** What the caller knows to exist: `?revision=`, or the ETag that an event stream of OFREP told its client. */
function wantedRevision(c: Incoming, environmentId: string): number {
  const told = revisionOfEtag(c.req.query("flagConfigEtag"), environmentId);
  return revisionIn(c.req.query("revision") ?? null, "revision") ?? told ?? 0;
}

/** Few keys send almost all requests. */
const hashes = new Map<string, string>();
const MAX_HASHES = 1_000;

async function hashOf(key: string): Promise<string> {
  const known = hashes.get(key);
  if (known !== undefined) return known;
  const hash = await sha256(key);
  if (hashes.size >= MAX_HASHES) hashes.clear();
  hashes.set(key, hash);
  return hash;
}

/** Null for none; 400 for what is no revision. `name` is where it stood. */
export function revisionIn(text: string | null, name: string): number | null {
  if (text === null || text === "") return null;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw notARevision(name);
}

export const notARevision = (name: string) =>
  badRequest(`${name} is a revision: a whole number.`, [
    { pointer: `/${name}`, code: "not-a-revision", message: "Send a revision that you know of." },
  ]);

function presentedKey(c: Incoming): string {
  // EventSource and WebSocket of browsers cannot set headers, so a client key may be in the query; a secret never.
  const query = c.req.query("key");
  if (query?.startsWith("bnt_srv_")) {
    throw new ApiError(401, "key-in-url", "A server key must not be in a URL. Send it as Authorization: Bearer.");
  }
  const bearer = /^Bearer (\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  const header = bearer ?? c.req.header("x-api-key");
  if (header !== undefined) return header;
  if (query === undefined) throw unauthenticated("Send an SDK key as Authorization: Bearer, or as X-API-Key.");
  return query;
}

function checkOrigin(request: Request, grant: KeyGrant): void {
  if (allowsOrigin(grant, request.headers.get("origin"))) return;
  throw forbidden("This client key may not be used from this origin. Add the origin to the key, or use another key.");
}

/** `<sdk>/<version>;instance=<uuid>;name=<app>`, from a stranger: cut to size, never trusted. */
function clientName(c: Incoming): ClientName {
  const text = (c.req.header("x-bunting-client") ?? c.req.query("client") ?? "").slice(0, 512);
  const [sdk = "", ...parameters] = text.split(";");
  return {
    sdk: cleaned(sdk) || "unknown",
    instance: cleaned(parameter(parameters, "instance=")),
    name: cleaned(parameter(parameters, "name=")),
  };
}

const parameter = (parameters: string[], name: string): string =>
  parameters.find((text) => text.startsWith(name))?.slice(name.length) ?? "";

const cleaned = (text: string): string => text.replace(/[^\w./@:+ -]/g, "").slice(0, 128);
