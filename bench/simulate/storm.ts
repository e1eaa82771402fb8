/**
 * Clients that lose their streams at the same moment and come back in the windows that their relays had told them. Every
 * client is drawn and counted, none is kept: what is kept is per relay. Time goes in steps; within one, each has its moment.
 */

import { spreadMs } from "../../durable-objects/fan-out/pacing.ts";
import type { Region } from "../../durable-objects/fan-out/tree.ts";
import { chooseTwo } from "../../workers/edge/relays/choice.ts";
import { forest, type RegionTree } from "./forest.ts";
import { Histogram } from "./histogram.ts";
import { Isolates } from "./isolates.ts";
import { Load, Peak } from "./load.ts";
import { type Costs, NEAREST_MS } from "./parameters.ts";
import { Random } from "./random.ts";
import { Reports } from "./reports.ts";

export type Storm = { clients: number; dropped: number; hub: Region; seed: number; costs: Costs };

export type StormResult = {
  dropped: number;
  /** From losing the stream to having the next one. */
  back: Histogram;
  /** Attempts that found no room, or nobody in time. */
  refused: number;
  /** Requests of every second. */
  hub: Peak;
  workers: Peak;
  kv: Peak;
  /** Of the busiest relay in its busiest second. */
  relayPeak: number;
};

const STEP_MS = 10;

export const calm = (): StormResult => ({
  dropped: 0,
  back: new Histogram(10),
  refused: 0,
  hub: new Peak(),
  workers: new Peak(),
  kv: new Peak(),
  relayPeak: 0,
});

export function storm({ clients, dropped, hub, seed, costs }: Storm): StormResult {
  const random = new Random(seed);
  const result = calm();
  for (const tree of forest(clients, hub, random, costs)) stormIn(tree, dropped, random, costs, result);
  return result;
}

function stormIn(tree: RegionTree, share: number, random: Random, costs: Costs, result: StormResult): void {
  const relays = tree.sockets.length;
  const load = new Load(relays, costs.acceptMs);
  const reports = new Reports(tree, random, costs, load, result.hub);
  const { connected, waiting } = drop(tree, share, random);
  const isolates = new Isolates(isolatesFor(waiting, costs), relays, random, costs, reports, load, result.kv);
  /** When those come again who found no room. */
  const again = new Map<number, number>();
  let left = [...waiting.values()].reduce((sum, count) => sum + count, 0);
  result.dropped += left;

  for (let from = 0; left > 0; from += STEP_MS) {
    reports.upTo(from);
    let coming = again.get(from) ?? 0;
    for (const [windowMs, count] of waiting) {
      const now = from >= windowMs ? 0 : random.binomial(count, STEP_MS / (windowMs - from));
      waiting.set(windowMs, count - now);
      coming += now;
    }
    result.workers.add(from, coming);
    for (let client = 0; client < coming; client++) {
      const at = from + random.next() * STEP_MS;
      const n = roomAmong(chooseTwo(isolates.relaysFor(at), random.next), connected, load, at, costs);
      if (n === undefined) {
        result.refused++;
        const step = Math.ceil((at + costs.retryAfterMs) / STEP_MS) * STEP_MS;
        again.set(step, (again.get(step) ?? 0) + 1);
        continue;
      }
      left--;
      connected[n] = (connected[n] as number) + 1;
      const done = load.serve(n, at);
      reports.accepted(n, at, connected[n] as number);
      result.back.add(done + costs.handshakeTrips * 2 * random.between(NEAREST_MS, tree.clientMs));
    }
  }
  result.relayPeak = Math.max(result.relayPeak, load.peak);
}

/** As many as are started for those who come in the busiest second. */
export function isolatesFor(waiting: Map<number, number>, costs: Costs): number {
  const perSecond = [...waiting].reduce((sum, [windowMs, count]) => sum + (count * 1_000) / windowMs, 0);
  return Math.max(1, Math.ceil(perSecond / costs.isolatePerSecond));
}

/** Who is still there, by relay; and how many have yet to come back, by the window that they were told. */
function drop(tree: RegionTree, share: number, random: Random) {
  const connected = tree.sockets.slice();
  const waiting = new Map<number, number>();
  for (const [n, sockets] of tree.sockets.entries()) {
    const lost = random.binomial(sockets, share);
    connected[n] = sockets - lost;
    waiting.set(spreadMs(sockets), (waiting.get(spreadMs(sockets)) ?? 0) + lost);
  }
  return { connected, waiting };
}

/** The first that has room and answers in time, as the Worker tries them. */
export function roomAmong(among: number[], connected: Int32Array, load: Load, at: number, costs: Costs) {
  return among.find(
    (n) => n < connected.length && (connected[n] as number) < costs.cap && load.waitMs(n, at) < costs.openMs,
  );
}
