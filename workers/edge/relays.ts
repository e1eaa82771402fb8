/** The relays of a region, as a Worker reaches them: which one, and what to do where it is full or away. */
import { ATTACHMENT_HEADER, type Introduction } from "../../durable-objects/sockets.ts";
import { choices, relayName } from "../../durable-objects/tree.ts";
import { RELAY_OPEN_MS, within } from "../deadline.ts";
import { tooMany, unauthenticated, unavailable } from "../problem.ts";
import type { Caller } from "./authenticate.ts";
import type { IsolateRuleset, Visit } from "./isolate-ruleset.ts";
import { regionOf } from "./region.ts";

const FULL = 503;
const LIMITED = 429;

/** The one that this isolate asks what is new: isolates are many, so each has its own share of the region's relays. */
export function relayOf(visit: Visit, ruleset: IsolateRuleset) {
  return relayAt(visit, ruleset, Math.floor(ruleset.share * relaysHere(visit, ruleset)));
}

const relaysHere = (visit: Visit, { relays }: IsolateRuleset): number => relays[regionOf(visit.request.cf)] ?? 1;

function relayAt({ env, request }: Visit, { environmentId }: IsolateRuleset, n: number) {
  const region = regionOf(request.cf);
  return env.RELAY.get(env.RELAY.idFromName(relayName({ environmentId, region, n })), { locationHint: region });
}

/**
 * A socket at a relay of the caller's region, sent what came after `since`: in the answer's `webSocket`, which is either to
 * be passed on or to be accepted and closed. Throws what the client is to be told: 401, or 429 or 503 with Retry-After,
 * upon which an SDK polls.
 */
export async function connect(
  caller: Caller,
  transport: Introduction["transport"],
  since: number | null,
): Promise<Response> {
  const { visit, environmentId, keyHash, client, ruleset } = caller;
  const keyGoodAt = ruleset.evaluator.revision;
  const introduction: Introduction = { keyHash, keyGoodAt, transport, ...client };
  const url = `https://relay/${since === null ? "" : `?since=${since}`}`;
  const headers = { upgrade: "websocket", [ATTACHMENT_HEADER]: JSON.stringify(introduction) };
  let refusal: Response | null = null;
  for (const n of choices(relaysHere(visit, ruleset), Math.random)) {
    const opening = relayAt(visit, ruleset, n).fetch(url, { headers });
    const response = await within(opening, RELAY_OPEN_MS, "relay").catch((error: unknown) => {
      opening.then(closeLate, () => {});
      const message = "no relay";
      console.warn(JSON.stringify({ level: "warn", message, environmentId, n, error: String(error) }));
      return null;
    });
    if (response?.status === 101) return response;
    // This isolate has not heard of it yet.
    if (response?.status === 401) throw unauthenticated("This SDK key has been revoked.");
    if (response?.status === LIMITED) {
      throw tooMany(
        retryAfter(response),
        "As many streams are open as this key or environment may have. Poll instead.",
      );
    }
    refusal = response ?? refusal;
  }
  if (refusal?.status === FULL) {
    throw unavailable("The relays here hold as many clients as they can. Poll, and try later.", retryAfter(refusal));
  }
  throw unavailable("No relay answers. Poll until one does.");
}

/** Nobody waits for it any more, and what nobody closes stays open. */
function closeLate({ webSocket }: Response): void {
  webSocket?.accept();
  webSocket?.close(1000, "too late");
}

/** Polling comes first: a stream is tried again after half a minute at the earliest. */
const retryAfter = (response: Response): number => Math.max(30, Number(response.headers.get("retry-after") ?? 0));
