/** A client's socket at a relay of its region: another relay is tried where one is full or does not answer. */

import { ATTACHMENT_HEADER, RELAYS_HEADER, type SocketHandshake } from "../../../durable-objects/fan-out/handshake.ts";
import { relayName } from "../../../durable-objects/fan-out/tree.ts";
import { Circuit, RELAY_OPEN_BREAKING, RELAY_OPEN_MS, within } from "../../platform/deadline.ts";
import { tooMany, unauthenticated, unavailable } from "../../platform/problem.ts";
import type { Caller } from "../authenticate.ts";
import { relayAt, relaysHere } from "../relays/address.ts";
import { chooseAnother, chooseTwo } from "../relays/choice.ts";
import { regionOf } from "../relays/region.ts";

const FULL = 503;
const LIMITED = 429;
/** Relays tried for one request: two that are known, and two that were added during a burst. */
const MAX_TRIES = 4;

/** One for each relay that this isolate has called: only the first client waits for an unreachable one. */
const circuits = new Map<string, Circuit>();
const MAX_CIRCUITS = 1_000;

/**
 * Opens a socket at a relay of the caller's region, which sends the deliveries after `since`. The caller must forward the
 * answer's `webSocket`, or accept and close it. Throws the client's response: 401, or 429 or 503 with Retry-After, upon
 * which an SDK polls.
 */
export async function connect(
  caller: Caller,
  transport: SocketHandshake["transport"],
  since: number | null,
): Promise<Response> {
  const { visit, environmentId, keyHash, client, ruleset } = caller;
  const keyValidAt = ruleset.evaluator.revision;
  const handshake: SocketHandshake = { keyHash, keyValidAt, transport, ...client };
  const url = `https://relay/${since === null ? "" : `?since=${since}`}`;
  const headers = { upgrade: "websocket", [ATTACHMENT_HEADER]: JSON.stringify(handshake) };
  const region = regionOf(visit.request.cf);
  let refusal: Response | null = null;
  const tries: number[] = chooseTwo(relaysHere(visit, ruleset), Math.random);
  // Grows during the loop when a full relay reports that the region has more.
  for (const n of tries) {
    const response = await opened(relayName({ environmentId, region, n }), () =>
      relayAt(visit, ruleset, n).fetch(url, { headers }),
    );
    if (response?.status === 101) return response;
    // The relay knows of the revocation before this isolate does.
    if (response?.status === 401) throw unauthenticated("This SDK key has been revoked.");
    if (response?.status === LIMITED) {
      throw tooMany(
        retryAfter(response),
        "As many streams are open as this key or environment may have. Poll instead.",
      );
    }
    refusal = response ?? refusal;
    const known = relaysHere(visit, ruleset);
    const current = Number(response?.headers.get(RELAYS_HEADER) ?? 0);
    const more = chooseAnother(known, current, tries, Math.random);
    if (current > known) ruleset.relays = { ...ruleset.relays, [region]: current };
    if (more !== null && tries.length < MAX_TRIES) tries.push(more);
  }
  if (refusal?.status === FULL) {
    throw unavailable("The relays of this region are full. Poll, and try later.", retryAfter(refusal));
  }
  throw unavailable("No relay responds. Poll until one does.");
}

/** Null: the relay does not respond, or its breaker is open. */
async function opened(name: string, open: () => Promise<Response>): Promise<Response | null> {
  if (circuits.size >= MAX_CIRCUITS && !circuits.has(name)) circuits.clear();
  const circuit = circuits.get(name) ?? new Circuit("relay", RELAY_OPEN_BREAKING);
  circuits.set(name, circuit);
  const waited = async () => {
    const opening = open();
    try {
      return await within(opening, RELAY_OPEN_MS, "relay");
    } catch (error) {
      opening.then(closeLate, () => {});
      console.warn(JSON.stringify({ level: "warn", message: "no relay", relay: name, error: String(error) }));
      throw error;
    }
  };
  return circuit.through(waited).catch(() => null);
}

/** Closes a socket that opened after the deadline: otherwise it would stay open, unused. */
function closeLate({ webSocket }: Response): void {
  webSocket?.accept();
  webSocket?.close(1000, "too late");
}

/** Polling comes first: a stream is tried again after half a minute at the earliest. */
const retryAfter = (response: Response): number => Math.max(30, Number(response.headers.get("retry-after") ?? 0));
