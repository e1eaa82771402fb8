/**
 * A change from the hub's acceptance to the last client. Every relay is simulated; its clients are summed exactly, for
 * their sockets are written one after another and each message is under way for a time within the region.
 */
import type { Region } from "../../durable-objects/fan-out/tree.ts";
import { forest, type RegionTree } from "./forest.ts";
import { Histogram } from "./histogram.ts";
import { type Costs, NEAREST_MS } from "./parameters.ts";
import { Random } from "./random.ts";

export type Publish = {
  clients: number;
  hub: Region;
  seed: number;
  costs: Costs;
  fill?: number;
  /** Every object has to wake first. */
  asleep?: boolean;
  /** The worse order of the two: a relay with sockets and relays below it writes its sockets first. */
  socketsFirst?: boolean;
  /** Off: what is left is the product's own time. */
  network?: boolean;
};

/** What a relay does with a change: when its first socket is written, how long all take, and how they reach the clients. */
type Writing = { sockets: number; fromMs: number; lastsMs: number; nearMs: number; farMs: number };

export function publish(scenario: Publish): Histogram {
  const applied = new Histogram(1);
  for (const { sockets, fromMs, lastsMs, nearMs, farMs } of writings(scenario)) {
    applied.addSpread(sockets, fromMs, lastsMs, nearMs, farMs);
  }
  return applied;
}

function* writings(scenario: Publish): Generator<Writing> {
  const { clients, hub, seed, costs, fill, asleep = false, socketsFirst = false, network = true } = scenario;
  const random = new Random(seed);
  const trees = forest(clients, hub, random, costs, fill);
  const slowness = () => random.lognormal(costs.spread);
  const readyMs = (asleep ? costs.wakeMs : 0) + costs.nodeMs;
  const hubMs = readyMs * slowness();
  let sent = 0;
  for (const tree of trees) {
    const receivedMs = new Float64Array(tree.sockets.length);
    // A parent has the lower number, so it has always sent before its children are looked at.
    for (let n = 0; n < receivedMs.length; n++) {
      const wayMs = network ? (tree.upMs[n] as number) : 0;
      if (tree.parent[n] === -1) receivedMs[n] = hubMs + ++sent * costs.childMs + wayMs;
      const factor = slowness();
      const ready = (receivedMs[n] as number) + readyMs * factor;
      const lastsMs = (tree.sockets[n] as number) * costs.socketMs * factor;
      const below = tree.children[n] as number[];
      const childrenFrom = ready + (socketsFirst ? lastsMs : 0);
      for (const [index, child] of below.entries()) {
        receivedMs[child] =
          childrenFrom + (index + 1) * costs.childMs * factor + (network ? (tree.upMs[child] as number) : 0);
      }
      yield {
        sockets: tree.sockets[n] as number,
        fromMs: ready + (socketsFirst ? 0 : below.length * costs.childMs * factor),
        lastsMs,
        nearMs: network ? NEAREST_MS : 0,
        farMs: network ? tree.clientMs : 0,
      };
    }
  }
}

/** How many relays there are, and how many levels of them. */
export function shape(trees: RegionTree[]): { relays: number; levels: number } {
  let levels = 0;
  for (const { parent } of trees) {
    let depth = 0;
    for (let n = parent.length - 1; n !== -1; n = parent[n] as number) depth++;
    levels = Math.max(levels, depth);
  }
  return { relays: trees.reduce((sum, { sockets }) => sum + sockets.length, 0), levels };
}
