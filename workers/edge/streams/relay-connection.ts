/** A client's socket at a relay of its region: another relay is tried where one is full or does not answer. */

import { ATTACHMENT_HEADER, type Introduction, RELAYS_HEADER } from "../../../durable-objects/fan-out/handshake.ts";
import { another, choices, relayName } from "../../../durable-objects/fan-out/tree.ts";
import { Circuit, RELAY_OPEN_BREAKING, RELAY_OPEN_MS, within } from "../../platform/deadline.ts";
import { tooMany, unauthenticated, unavailable } from "../../platform/problem.ts";
import type { Caller } from "../authenticate.ts";
import { relayAt, relaysHere } from "../relays/choice.ts";
import { regionOf } from "../relays/region.ts";

const FULL = 503;
const LIMITED = 429;
/** Of one request: two that are known, and two that a burst has called for. */
const MAX_TRIES = 4;

/** Around each relay, as far as this isolate has had to do with it: only the first client waits for one that is away. */
const circuits = new Map<string, Circuit>();
const MAX_CIRCUITS = 1_000;

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
  const keyValidAt = ruleset.evaluator.revision;
  const introduction: Introduction = { keyHash, keyValidAt, transport, ...client };
  const url = `https://relay/${since === null ? "" : `?since=${since}`}`;
  const headers = { upgrade: "websocket", [ATTACHMENT_HEADER]: JSON.stringify(introduction) };
  const region = regionOf(visit.request.cf);
  let refusal: Response | null = null;
  const tries: number[] = choices(relaysHere(visit, ruleset), Math.random);
  // Longer while it is gone through, where a relay that is full tells of more.
  for (const n of tries) {
    const response = await opened(relayName({ environmentId, region, n }), () =>
      relayAt(visit, ruleset, n).fetch(url, { headers }),
    );
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
    const known = relaysHere(visit, ruleset);
    const told = Number(response?.headers.get(RELAYS_HEADER) ?? 0);
    const more = another(known, told, tries, Math.random);
    if (told > known) ruleset.relays = { ...ruleset.relays, [region]: told };
    if (more !== null && tries.length < MAX_TRIES) tries.push(more);
  }
  if (refusal?.status === FULL) {
    throw unavailable("The relays here hold as many clients as they can. Poll, and try later.", retryAfter(refusal));
  }
  throw unavailable("No relay answers. Poll until one does.");
}

/** Null: it does not answer, or has not lately. */
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

/** Nobody waits for it any more, and what nobody closes stays open. */
function closeLate({ webSocket }: Response): void {
  webSocket?.accept();
  webSocket?.close(1000, "too late");
}

/** Polling comes first: a stream is tried again after half a minute at the earliest. */
const retryAfter = (response: Response): number => Math.max(30, Number(response.headers.get("retry-after") ?? 0));
