/** A relay's calls to its ancestors: the nearest that responds, up to the hub. Concurrent calls share one request. */

import type { Env } from "../../workers/env.ts";
import {
  HUB_ATTACH_MS,
  HUB_SNAPSHOT_MS,
  RELAY_ATTACH_MS,
  RELAY_CHECK_MS,
  within,
} from "../../workers/platform/deadline.ts";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { Report, UpstreamNode } from "../fan-out/delivery.ts";
import { ancestorsOf, type RelayAddress, relayName } from "../fan-out/tree.ts";
import type { RelayStorage } from "./storage.ts";

type Attached = Awaited<ReturnType<UpstreamNode["attach"]>>;

export class Upstream {
  readonly #env: Env;
  readonly #storage: RelayStorage;
  /** When an ancestor last responded or delivered. Epoch ms. */
  lastContactAt = 0;
  #attaching: Promise<boolean> | null = null;
  #leaving: Promise<void> | null = null;
  #filling: { from: number; done: Promise<void> } | null = null;
  /** `revision` is the lowest that the shared read satisfies. */
  #snapshot: { revision: number; read: Promise<SnapshotParts | null> } | null = null;
  /** The parent cannot provide the deliveries after this or any earlier revision. */
  #unavailableThrough = -1;

  constructor(env: Env, storage: RelayStorage) {
    this.#env = env;
    this.#storage = storage;
  }

  /** Reports to the nearest ancestor and passes its answer to `apply`. False: there is no such environment. */
  attach(
    address: RelayAddress,
    report: () => Report,
    apply: (answer: NonNullable<Attached>) => void,
  ): Promise<boolean> {
    this.#attaching ??= this.#attach(address, report, apply).finally(() => {
      this.#attaching = null;
    });
    return this.#attaching;
  }

  async #attach(
    address: RelayAddress,
    report: () => Report,
    apply: (answer: NonNullable<Attached>) => void,
  ): Promise<boolean> {
    // A detach in flight must not arrive after this attach: it would remove the relay again.
    await this.#leaving;
    let failure: unknown;
    for (const n of ancestorsOf(address.n, Number(this.#env.RELAY_FAN_OUT))) {
      try {
        const deadlineMs = n === null ? HUB_ATTACH_MS : RELAY_ATTACH_MS;
        const answer = await within(this.#node(address, n).attach(report()), deadlineMs, "upstream");
        if (answer === null) return false;
        this.lastContactAt = Date.now();
        apply(answer);
        this.#switchTo(address, n);
        return true;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** Detaches from the previous node, such as one that replaced an unreachable parent. */
  #switchTo(address: RelayAddress, n: number | null): void {
    const before = this.#storage.attachedTo;
    if (before === n) return;
    this.#storage.setAttachedTo(n);
    if (before !== undefined) void this.#leave(address, before);
  }

  detach(address: RelayAddress): Promise<void> {
    return this.#leave(address, this.#storage.attachedTo ?? null);
  }

  #leave(address: RelayAddress, n: number | null): Promise<void> {
    const leaving = Promise.all([this.#leaving, this.#detach(address, n)]).then(() => {
      if (this.#leaving === leaving) this.#leaving = null;
    });
    this.#leaving = leaving;
    return leaving;
  }

  /** May fail: the node's next delivery then registers this relay there again, until its next maintenance. */
  async #detach(address: RelayAddress, n: number | null): Promise<void> {
    await within(this.#node(address, n).detach(relayName(address)), RELAY_CHECK_MS, "upstream").catch(() => {});
  }

  /**
   * Reads the deliveries after `revision` that the ring lacks. Shared, since clients that resume lack much the same
   * ones.
   */
  async fill(address: RelayAddress, revision: number): Promise<void> {
    const known = this.#storage.revision ?? 0;
    if (
      revision === 0 ||
      revision >= known ||
      revision <= this.#unavailableThrough ||
      this.#storage.runAfter(revision) !== null
    )
      return;
    if (this.#filling === null || this.#filling.from > revision) {
      const done = this.#fill(address, revision).finally(() => {
        if (this.#filling?.done === done) this.#filling = null;
      });
      this.#filling = { from: revision, done };
    }
    await this.#filling.done;
  }

  async #fill(address: RelayAddress, revision: number): Promise<void> {
    try {
      const upstream = this.#node(address, this.#storage.attachedTo ?? null);
      const answer = await within(upstream.since(revision), RELAY_CHECK_MS, "upstream");
      if (answer?.deliveries) this.#storage.fill(answer.deliveries);
      else this.#unavailableThrough = Math.max(this.#unavailableThrough, revision);
    } catch {
      // The client is sent a resync instead, and fetches the ruleset.
    }
  }

  /**
   * Read once and kept until the next maintenance: after a change that is too large for a message every isolate calls
   * this, and each relay sends one request upstream.
   */
  snapshot(address: RelayAddress, revision: number): Promise<SnapshotParts | null> {
    if (this.#snapshot !== null && this.#snapshot.revision >= revision) return this.#snapshot.read;
    const upstream = this.#node(address, this.#storage.attachedTo ?? null);
    const read = within(upstream.snapshot(revision), HUB_SNAPSHOT_MS, "upstream");
    const snapshot = { revision, read };
    this.#snapshot = snapshot;
    read.catch(() => {
      if (this.#snapshot === snapshot) this.#snapshot = null;
    });
    return read;
  }

  clearSnapshot(): void {
    this.#snapshot = null;
  }

  #node(address: RelayAddress, n: number | null): UpstreamNode {
    const { HUB, RELAY } = this.#env;
    if (n === null) return HUB.get(HUB.idFromName(address.environmentId));
    return RELAY.get(RELAY.idFromName(relayName({ ...address, n })), { locationHint: address.region });
  }
}
