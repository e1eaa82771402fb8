/**
 * The same two questions asked of every client by itself, one event after another: too slow for ten million, and what the
 * sums of `publish.ts` and `storm.ts` are checked against. It shares their tree and costs, not their shortcuts.
 */

import { spreadMs } from "../../durable-objects/fan-out/pacing.ts";
import { chooseTwo } from "../../workers/edge/relays/choice.ts";
import { forest, type RegionTree } from "./forest.ts";
import { Isolates } from "./isolates.ts";
import { Load } from "./load.ts";
import { NEAREST_MS } from "./parameters.ts";
import type { Publish } from "./publish.ts";
import { Random } from "./random.ts";
import { Reports } from "./reports.ts";
import { calm, isolatesFor, roomAmong, type Storm, type StormResult } from "./storm.ts";

/** When each client has applied the change; for nodes that are all equally fast (`spread` 0). */
export function publishEach({ clients, hub, seed, costs, fill, socketsFirst = false }: Publish): number[] {
  const random = new Random(seed);
  const trees = forest(clients, hub, random, costs, fill);
  const events = new Events();
  const applied: number[] = [];
  let roots = 0;
  const reach = (tree: RegionTree, n: number, sentAt: number) =>
    events.add(sentAt + (tree.upMs[n] as number), (at) => {
      let clock = at + costs.nodeMs;
      const writeSockets = () => {
        for (let socket = 0; socket < (tree.sockets[n] as number); socket++) {
          clock += costs.socketMs;
          events.add(clock + random.between(NEAREST_MS, tree.clientMs), (now) => applied.push(now));
        }
      };
      if (socketsFirst) writeSockets();
      for (const child of tree.children[n] as number[]) {
        clock += costs.childMs;
        reach(tree, child, clock);
      }
      if (!socketsFirst) writeSockets();
    });
  for (const tree of trees) {
    for (const [n, parent] of tree.parent.entries())
      if (parent === -1) reach(tree, n, costs.nodeMs + ++roots * costs.childMs);
  }
  events.run();
  return applied.sort((one, other) => one - other);
}

export function stormEach({ clients, dropped, hub, seed, costs }: Storm): StormResult {
  const random = new Random(seed);
  const result = calm();
  for (const tree of forest(clients, hub, random, costs)) {
    const events = new Events();
    const load = new Load(tree.sockets.length, costs.acceptMs);
    const reports = new Reports(tree, random, costs, load, result.hub);
    const connected = tree.sockets.slice();
    const lost: { windowMs: number; at: number }[] = [];
    for (const [n, sockets] of tree.sockets.entries()) {
      for (let socket = 0; socket < sockets; socket++) {
        if (random.next() >= dropped) continue;
        connected[n] = (connected[n] as number) - 1;
        lost.push({ windowMs: spreadMs(sockets), at: random.next() * spreadMs(sockets) });
      }
    }
    result.dropped += lost.length;
    const windows = Map.groupBy(lost, ({ windowMs }) => windowMs);
    const needed = isolatesFor(new Map([...windows].map(([windowMs, { length }]) => [windowMs, length])), costs);
    const isolates = new Isolates(needed, connected.length, random, costs, reports, load, result.kv);
    const come = (at: number) => {
      reports.upTo(at);
      result.workers.add(at);
      const n = roomAmong(chooseTwo(isolates.relaysFor(at), random.next), connected, load, at, costs);
      if (n === undefined) {
        result.refused++;
        events.add(at + costs.retryAfterMs, come);
        return;
      }
      connected[n] = (connected[n] as number) + 1;
      const done = load.serve(n, at);
      reports.accepted(n, at, connected[n] as number);
      result.back.add(done + costs.handshakeTrips * 2 * random.between(NEAREST_MS, tree.clientMs));
    };
    for (const { at } of lost) events.add(at, come);
    events.run();
    result.relayPeak = Math.max(result.relayPeak, load.peak);
  }
  return result;
}

type Event = { at: number; happen: (at: number) => void };

/** A binary heap: what is earliest happens next. */
class Events {
  readonly #heap: Event[] = [];

  add(at: number, happen: Event["happen"]): void {
    const heap = this.#heap;
    let child = heap.push({ at, happen }) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (heap[parent]!.at <= heap[child]!.at) break;
      [heap[parent], heap[child]] = [heap[child]!, heap[parent]!];
      child = parent;
    }
  }

  run(): void {
    for (let next = this.#take(); next !== undefined; next = this.#take()) next.happen(next.at);
  }

  #take(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    for (let parent = 0; ; ) {
      let least = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2]) {
        if (child < heap.length && heap[child]!.at < heap[least]!.at) least = child;
      }
      if (least === parent) return first;
      [heap[parent], heap[least]] = [heap[least]!, heap[parent]!];
      parent = least;
    }
  }
}
