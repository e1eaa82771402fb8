/** What relays of a region tell upwards while their clients come back: the load of the hub, which is one object. */

import { decide } from "../../durable-objects/hub/relays-per-region.ts";
import { isWorthReporting } from "../../durable-objects/relay/admission.ts";
import type { RegionTree } from "./forest.ts";
import type { Load, Peak } from "./load.ts";
import type { Costs } from "./parameters.ts";
import type { Random } from "./random.ts";

/** `clients` on the way up; `relays` on the way back. */
type Message = { at: number; n: number } & ({ clients: number } | { relays: number });

export class Reports {
  readonly #tree: RegionTree;
  readonly #costs: Costs;
  readonly #relays: Load;
  readonly #hub: Peak;
  /**
   * Of each relay: its own sockets, what its children last reported, what it last reported itself, and until when it
   * waits for an answer or trusts the last one.
   */
  readonly #own: Int32Array;
  readonly #below: Float64Array;
  readonly #reported: Float64Array;
  readonly #askingUntil: Float64Array;
  readonly #trustedUntil: Float64Array;
  /** What each relay's parent last received of it. */
  readonly #known: Float64Array;
  /** How many relays the region has, as each relay heard it with its last answer; and as the hub decides from sums. */
  readonly #relaysAsOf: Int32Array;
  #relaysAtHub: number;
  #clientsAtHub = 0;
  #shrinking: ReturnType<typeof decide>["shrinking"] = {};
  #underWay: Message[] = [];

  /** As they stand before anybody is lost: all have reported what they hold, some time in the last round. */
  constructor(tree: RegionTree, random: Random, costs: Costs, relays: Load, hub: Peak) {
    const count = tree.sockets.length;
    this.#tree = tree;
    this.#costs = costs;
    this.#relays = relays;
    this.#hub = hub;
    this.#own = tree.sockets.slice();
    this.#below = new Float64Array(count);
    this.#askingUntil = new Float64Array(count);
    this.#trustedUntil = Float64Array.from({ length: count }, () => costs.trustedMs - random.between(0, costs.roundMs));
    // A parent has the lower number: from the last to the first, every sum is complete when it is needed.
    for (let n = count - 1; n >= 0; n--) {
      const parent = tree.parent[n] as number;
      if (parent >= 0) this.#below[parent] = (this.#below[parent] as number) + this.#sum(n);
    }
    this.#reported = Float64Array.from({ length: count }, (_, n) => this.#sum(n));
    this.#known = this.#reported.slice();
    this.#relaysAsOf = new Int32Array(count).fill(count);
    this.#relaysAtHub = count;
    for (const [n, parent] of tree.parent.entries())
      if (parent === -1) this.#clientsAtHub += this.#reported[n] as number;
  }

  relaysAsOf(n: number): number {
    return this.#relaysAsOf[n] as number;
  }

  /** A relay has taken a socket and now has `sockets` of its own. */
  accepted(n: number, at: number, sockets: number): void {
    this.#own[n] = sockets;
    this.#mayReport(n, at);
  }

  /** What has arrived by then. */
  upTo(now: number): void {
    if (this.#underWay.length === 0) return;
    const arrived = this.#underWay.filter(({ at }) => at <= now).sort((one, other) => one.at - other.at);
    this.#underWay = this.#underWay.filter(({ at }) => at > now);
    for (const message of arrived) {
      if ("relays" in message) {
        this.#relaysAsOf[message.n] = message.relays;
        this.#mayReport(message.n, message.at);
      } else this.#arrive(message.n, message.at, message.clients);
    }
  }

  #arrive(n: number, at: number, clients: number): void {
    const parent = this.#tree.parent[n] as number;
    const isHub = parent === -1;
    const grown = clients - (this.#known[n] as number);
    this.#known[n] = clients;
    if (isHub) this.#decide(at, grown);
    else this.#below[parent] = (this.#below[parent] as number) + grown;
    const served = isHub ? at + this.#costs.acceptMs : this.#relays.serve(parent, at);
    const answered = served + (this.#tree.upMs[n] as number);
    this.#askingUntil[n] = answered;
    this.#trustedUntil[n] = answered + this.#costs.trustedMs;
    this.#underWay.push({ at: answered, n, relays: isHub ? this.#relaysAtHub : this.relaysAsOf(parent) });
    if (!isHub) this.#mayReport(parent, at);
  }

  #decide(at: number, grown: number): void {
    this.#hub.add(at);
    this.#clientsAtHub += grown;
    const { region } = this.#tree;
    const connected = new Map([[region, this.#clientsAtHub]]);
    const decided = decide({ [region]: this.#relaysAtHub }, this.#shrinking, connected, this.#costs.cap, at);
    this.#relaysAtHub = Math.min(decided.counts[region] as number, this.#tree.sockets.length);
    this.#shrinking = decided.shrinking;
  }

  /** One at a time, and what grew meanwhile is reported after it. */
  #mayReport(n: number, at: number): void {
    if (at < (this.#askingUntil[n] as number)) return;
    const clients = this.#sum(n);
    const grown = isWorthReporting(this.#reported[n] as number, clients, this.#costs.cap);
    if (!grown && at < (this.#trustedUntil[n] as number)) return;
    this.#reported[n] = clients;
    this.#askingUntil[n] = Number.POSITIVE_INFINITY;
    this.#underWay.push({ at: at + (this.#tree.upMs[n] as number), n, clients });
  }

  #sum(n: number): number {
    return (this.#own[n] as number) + (this.#below[n] as number);
  }
}
