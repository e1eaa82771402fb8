/** The relays of a request's region, as a Worker reaches them. */

import { relayName } from "../../../durable-objects/fan-out/tree.ts";
import type { IsolateRuleset, Visit } from "../ruleset/isolate-ruleset.ts";
import { regionOf } from "./region.ts";

/** The one that this isolate asks what is new: isolates are many, so each has its own share of the region's relays. */
export function relayOf(visit: Visit, ruleset: IsolateRuleset) {
  return relayAt(visit, ruleset, Math.floor(ruleset.share * relaysHere(visit, ruleset)));
}

export const relaysHere = (visit: Visit, { relays }: IsolateRuleset): number => relays[regionOf(visit.request.cf)] ?? 1;

export function relayAt({ env, request }: Visit, { environmentId }: IsolateRuleset, n: number) {
  const region = regionOf(request.cf);
  return env.RELAY.get(env.RELAY.idFromName(relayName({ environmentId, region, n })), { locationHint: region });
}
