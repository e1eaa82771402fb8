/** The fan-out tree as the product would build it for so many clients, with a place and a load for every relay. */
import { parentOf, type Region, relayCount } from "../../durable-objects/fan-out/tree.ts";
import { type Costs, NEAREST_MS, places, regions, roundTripMs } from "./parameters.ts";
import type { Random } from "./random.ts";

export type RegionTree = {
  region: Region;
  /** By the relay's number: its sockets, the relay above (−1: the hub), those below, and the way up, in ms. */
  sockets: Int32Array;
  parent: Int32Array;
  children: number[][];
  upMs: Float64Array;
  /** One way between a relay and its clients is anywhere up to this. */
  clientMs: number;
};

/** `fill`: how full relays are on average; without it, as many relays as the product would have. */
export function forest(clients: number, hub: Region, random: Random, costs: Costs, fill?: number): RegionTree[] {
  return regions.map((region) => {
    const here = Math.round(clients * places[region].share);
    const count =
      fill === undefined ? relayCount(1, here, costs.cap) : Math.max(1, Math.ceil(here / (costs.cap * fill)));
    const farMs = places[region].acrossMs / 2;
    const tree: RegionTree = {
      region,
      sockets: new Int32Array(count),
      parent: new Int32Array(count),
      children: Array.from({ length: count }, () => []),
      upMs: new Float64Array(count),
      clientMs: farMs,
    };
    let left = here;
    for (let n = 0; n < count; n++) {
      // Workers pick relays at random, so that their loads differ a little.
      tree.sockets[n] = random.binomial(left, 1 / (count - n));
      left -= tree.sockets[n] as number;
      const parent = parentOf(n, costs.fanOut) ?? -1;
      tree.parent[n] = parent;
      if (parent >= 0) tree.children[parent]?.push(n);
      const within = random.between(NEAREST_MS, farMs);
      tree.upMs[n] = parent >= 0 || region === hub ? within : roundTripMs(hub, region) / 2;
    }
    return tree;
  });
}
