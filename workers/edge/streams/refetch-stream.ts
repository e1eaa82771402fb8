/**
 * OFREP's event streams: they say that there is something new, and the client evaluates again. Their URL goes where it is
 * logged and stored, so it is signed in place of carrying the SDK key (docs/decisions/0005-signed-stream-urls.md).
 */

import { VERSION } from "@bunting/core";
import { addressOf } from "../../platform/address-limit.ts";
import { unauthenticated } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import { admit, type Caller } from "../authenticate.ts";
import { etagOf } from "../etag.ts";
import { noteUnauthenticated } from "../read-limit.ts";
import type { Incoming } from "../router.ts";
import { recall } from "../ruleset/cache.ts";
import type { IsolateRuleset } from "../ruleset/isolate-ruleset.ts";
import { hasNews } from "../values.ts";
import { RelayFeed } from "./relay-feed.ts";
import { relaySocket, sinceOf } from "./ruleset-stream.ts";
import { EventStream } from "./server-sent-events.ts";

/** Changes when the same evaluations would be said in other words. */
const VIEW = "ofrep-1";
const DAY_MS = 86_400_000;

export const dayOf = (now: number): number => Math.floor(now / DAY_MS);

/** Of one key's view: what a client has of another key is not to be confirmed. */
export const contextHashOf = (keyId: string, body: string): Promise<string> => sha256(`${keyId} ${body}`);

/** With the day, so that a 304 never outlives the stream's URL that came with the answer. */
export const bulkEtag = (environmentId: string, revision: number, contextHash: string, day: number): string =>
  etagOf(VIEW, environmentId, revision, VERSION, day, contextHash);

/** Good on its day and on the next. */
export async function eventStreamPath(
  { environmentId, keyHash, grant }: Pick<Caller, "environmentId" | "keyHash" | "grant">,
  contextHash: string,
  day: number,
): Promise<string> {
  const claim: Claim = { environmentId, keyId: grant.id, contextHash, day };
  const signature = await crypto.subtle.sign("HMAC", await signingKey(keyHash), textOf(claim));
  const query = new URLSearchParams({
    environment: environmentId,
    id: grant.id,
    context: contextHash,
    day: String(day),
    signature: toHex(signature),
  });
  return `/ofrep/v1/stream?${query}`;
}

/** First a word to evaluate again, unless the client comes back with what it has seen and has missed nothing. */
export async function openRefetchStream(incoming: Incoming): Promise<Response> {
  const claim = claimIn(incoming.request);
  const caller = await admitClaim(incoming, claim);
  const { environmentId, visit, grant } = caller;
  let seen = sinceOf(incoming.request);
  // Yesterday's URL ends today: evaluating again brings the next.
  let isDue = seen === null || claim.day !== dayOf(Date.now());
  let isFirst = true;
  const upstream = await relaySocket(caller);
  const stream = new EventStream(() => feed.end(1001, "client gone"));
  const advance = async (ruleset: IsolateRuleset) => {
    if (isFirst && seen !== null) await recall(visit, ruleset, seen);
    isFirst = false;
    const { revision } = ruleset.evaluator;
    if (isDue || hasNews(ruleset, seen ?? 0, grant.kind)) {
      const etag = bulkEtag(environmentId, revision, claim.contextHash, dayOf(Date.now()));
      stream.write("message", { type: "refetchEvaluation", etag }, { id: revision });
    }
    isDue = false;
    seen = revision;
  };
  const feed = new RelayFeed(upstream, caller, incoming.request, {
    hello: ({ reconnectWithinMs }) => stream.comment("hello", { retryMs: Math.random() * reconnectWithinMs }),
    advance,
    heartbeat: () => stream.comment("heartbeat"),
    goodbye: ({ withinMs }) => stream.comment("goodbye", { retryMs: Math.random() * withinMs }),
    end: () => stream.end(),
  });
  feed.start();
  return stream.response;
}

type Claim = { environmentId: string; keyId: string; contextHash: string; day: number };

const textOf = ({ environmentId, keyId, contextHash, day }: Claim): Uint8Array =>
  new TextEncoder().encode(["ofrep-stream", keyId, environmentId, contextHash, day].join("\n"));

/** The hash of the SDK key: every Worker of the deployment has it and no client is sent it, so nothing has to be set up. */
const signingKey = (keyHash: string): Promise<CryptoKey> =>
  crypto.subtle.importKey("raw", new TextEncoder().encode(keyHash), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);

function claimIn(request: Request): Claim & { signature: string } {
  const { searchParams } = new URL(request.url);
  const text = (name: string) => searchParams.get(name) ?? "";
  const claim = {
    environmentId: text("environment"),
    keyId: text("id"),
    contextHash: text("context"),
    day: Number(text("day")),
    signature: text("signature"),
  };
  const isWhole =
    /^env_[0-9a-z]{20}$/.test(claim.environmentId) &&
    /^[0-9a-f]{64}$/.test(claim.contextHash) &&
    /^[0-9a-f]{64}$/.test(claim.signature);
  if (!isWhole) throw unauthenticated("This is not a URL of an event stream. Evaluate flags in bulk for one.");
  const age = dayOf(Date.now()) - claim.day;
  if (age !== 0 && age !== 1) throw unauthenticated("This event stream's URL has ended. Evaluate again for the next.");
  return claim;
}

async function admitClaim(incoming: Incoming, claim: ReturnType<typeof claimIn>): Promise<Caller> {
  const find = ({ keys }: IsolateRuleset) => Object.keys(keys).find((hash) => keys[hash]?.id === claim.keyId) ?? null;
  return admit(incoming, claim.environmentId, find, async (keyHash) => {
    const signature = Uint8Array.from(claim.signature.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    if (await crypto.subtle.verify("HMAC", await signingKey(keyHash), signature, textOf(claim))) return;
    noteUnauthenticated(addressOf(incoming));
    throw unauthenticated("This event stream's URL is not one that was given out. Evaluate again for one.");
  });
}

function toHex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
