/** What a relay asks of those above it: the nearest that answers, up to the hub, and once for all who ask. */

import type { Env } from "../../workers/env.ts";
import {
  HUB_ATTACH_MS,
  HUB_SNAPSHOT_MS,
  RELAY_ATTACH_MS,
  RELAY_CHECK_MS,
  within,
} from "../../workers/platform/deadline.ts";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import type { Report, Upstream } from "../fan-out/delivery.ts";
import { ancestorsOf, type Place, relayName } from "../fan-out/tree.ts";
import type { RelayStorage } from "./storage.ts";

type Attached = Awaited<ReturnType<Upstream["attach"]>>;

export class Above {
  readonly #env: Env;
  readonly #storage: RelayStorage;
  /** When one of them last spoke. Epoch ms. */
  heardAt = 0;
  #attaching: Promise<boolean> | null = null;
  #leaving: Promise<void> | null = null;
  #filling: { from: number; done: Promise<void> } | null = null;
  /** `revision` is the least that whoever asked first had to have. */
  #whole: { revision: number; read: Promise<SnapshotParts | null> } | null = null;
  /** Nobody above knows what came after this or an earlier revision. */
  #beyond = -1;

  constructor(env: Env, storage: RelayStorage) {
    this.#env = env;
    this.#storage = storage;
  }

  /** Tells how this relay is, and gives what it lacks to `take`. False: there is no such environment. */
  attach(place: Place, report: () => Report, take: (answer: NonNullable<Attached>) => void): Promise<boolean> {
    this.#attaching ??= this.#attach(place, report, take).finally(() => {
      this.#attaching = null;
    });
    return this.#attaching;
  }

  async #attach(place: Place, report: () => Report, take: (answer: NonNullable<Attached>) => void): Promise<boolean> {
    // A goodbye on its way must not overtake this.
    await this.#leaving;
    let failure: unknown;
    for (const n of ancestorsOf(place.n, Number(this.#env.RELAY_FAN_OUT))) {
      try {
        const deadlineMs = n === null ? HUB_ATTACH_MS : RELAY_ATTACH_MS;
        const answer = await within(this.#node(place, n).attach(report()), deadlineMs, "upstream");
        if (answer === null) return false;
        this.heardAt = Date.now();
        take(answer);
        this.#nowUnder(place, n);
        return true;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** Whoever stood in for a parent that was away is not kept. */
  #nowUnder(place: Place, n: number | null): void {
    const before = this.#storage.attachedTo;
    if (before === n) return;
    this.#storage.attachTo(n);
    if (before !== undefined) void this.#leave(place, before);
  }

  detach(place: Place): Promise<void> {
    return this.#leave(place, this.#storage.attachedTo ?? null);
  }

  #leave(place: Place, n: number | null): Promise<void> {
    const leaving = Promise.all([this.#leaving, this.#detach(place, n)]).then(() => {
      if (this.#leaving === leaving) this.#leaving = null;
    });
    this.#leaving = leaving;
    return leaving;
  }

  /** Who is not told this hears it at the next delivery, which brings the relay back until its next round. */
  async #detach(place: Place, n: number | null): Promise<void> {
    await within(this.#node(place, n).detach(relayName(place)), RELAY_CHECK_MS, "upstream").catch(() => {});
  }

  /** Reads what the ring lacks after `revision`, if anybody above has it: clients that come late ask for much the same. */
  async fill(place: Place, revision: number): Promise<void> {
    const known = this.#storage.revision ?? 0;
    if (revision === 0 || revision >= known || revision <= this.#beyond || this.#storage.runAfter(revision) !== null)
      return;
    if (this.#filling === null || this.#filling.from > revision) {
      const done = this.#fill(place, revision).finally(() => {
        if (this.#filling?.done === done) this.#filling = null;
      });
      this.#filling = { from: revision, done };
    }
    await this.#filling.done;
  }

  async #fill(place: Place, revision: number): Promise<void> {
    try {
      const upstream = this.#node(place, this.#storage.attachedTo ?? null);
      const answer = await within(upstream.since(revision), RELAY_CHECK_MS, "upstream");
      if (answer?.deliveries) this.#storage.fill(answer.deliveries);
      else this.#beyond = Math.max(this.#beyond, revision);
    } catch {
      // Then the client fetches the ruleset.
    }
  }

  /**
   * Read once for all who ask, and kept until the next round: a change that is too large for a message sends every isolate
   * here, and each relay sends one question further up.
   */
  snapshot(place: Place, revision: number): Promise<SnapshotParts | null> {
    if (this.#whole !== null && this.#whole.revision >= revision) return this.#whole.read;
    const upstream = this.#node(place, this.#storage.attachedTo ?? null);
    const read = within(upstream.snapshot(revision), HUB_SNAPSHOT_MS, "upstream");
    const whole = { revision, read };
    this.#whole = whole;
    read.catch(() => {
      if (this.#whole === whole) this.#whole = null;
    });
    return read;
  }

  forgetSnapshot(): void {
    this.#whole = null;
  }

  #node(place: Place, n: number | null): Upstream {
    const { HUB, RELAY } = this.#env;
    if (n === null) return HUB.get(HUB.idFromName(place.environmentId));
    return RELAY.get(RELAY.idFromName(relayName({ ...place, n })), { locationHint: place.region });
  }
}
