/** Which sockets a relay evicts: too many of them, silent or slow ones, and those whose keys are no longer valid. */
import { type GoodbyeMessage, SILENCE_SECONDS } from "@bunting/core/wire";
import type { Delivery, KeyExpiries } from "../fan-out/delivery.ts";
import { KEY_REVOKED, SILENT, TOO_MUCH, TOO_SLOW } from "../fan-out/handshake.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import { countExcess, type Limits } from "./admission.ts";
import type { QueuedDelivery } from "./delivery-queue.ts";
import { type Sockets, trySend } from "./sockets.ts";
import type { RelayStorage } from "./storage.ts";

const SILENCE_MS = SILENCE_SECONDS * 1_000;

/** Added to the time within which a client acknowledges, for the network and for a busy client. */
const LATE_MS = 2_000;
/** Deadlines that are closer together than this are merged into the later one. */
const DEADLINES_APART_MS = 500;

export class Evictions {
  /** When each revision has to be acknowledged, in order. In memory only: after an eviction no client is late. */
  #deadlines: { revision: number; at: number }[] = [];
  #lateRevision = 0;
  readonly #sockets: Sockets;
  readonly #storage: RelayStorage;
  readonly #limits: () => Limits;

  constructor(sockets: Sockets, storage: RelayStorage, limits: () => Limits) {
    this.#sockets = sockets;
    this.#storage = storage;
    this.#limits = limits;
  }

  /**
   * Relays admit by the counts that they last received, so together they may exceed a limit: each evicts its newest.
   */
  evictExcess(): void {
    const limits = this.#limits();
    const { connected, keys } = this.#storage.occupancy;
    const tooMany = [...this.#sockets.countByKey()].map(([keyHash, count]) => {
      return [this.#sockets.open(keyHash), countExcess(count, keys[keyHash] ?? 0, limits.key)] as const;
    });
    const all = this.#sockets.open();
    const ofAll = [all, countExcess(all.length, connected, limits.environment)] as const;
    for (const [sockets, count] of [...tooMany, ofAll]) {
      if (count === 0) continue;
      const goodbye: GoodbyeMessage = { type: "goodbye", withinMs: spreadMs(count), reason: "too-many-connections" };
      const newest = sockets.sort(
        (one, other) => this.#sockets.attachmentOf(other).connectedAt - this.#sockets.attachmentOf(one).connectedAt,
      );
      for (const socket of newest.slice(0, count)) {
        trySend(socket, JSON.stringify(goodbye));
        this.#sockets.close(socket, TOO_MUCH, goodbye.reason);
      }
    }
  }

  /** Evicts silent sockets, and those whose keys have expired. */
  evictEnded(now: number): void {
    for (const socket of this.#sockets.open()) {
      if (now - this.#sockets.lastSeenAt(socket) > SILENCE_MS) this.#sockets.close(socket, SILENT, "silent");
    }
    for (const hash of this.#storage.expiredKeys(now)) {
      for (const socket of this.#sockets.open(hash)) this.#sockets.close(socket, KEY_REVOKED, "key-expired");
    }
  }

  /** Stores keys that a delivery adds, and closes the sockets of those that it revokes: as fast as a flag changes. */
  applyKeys(keys: Delivery["keys"]): void {
    for (const [hash, grant] of Object.entries(keys)) {
      if (grant !== null) this.#storage.putKey(hash, grant.expiresAt);
      else {
        this.#storage.deleteKey(hash);
        for (const socket of this.#sockets.open(hash)) this.#sockets.close(socket, KEY_REVOKED, "key-revoked");
      }
    }
  }

  evictRevoked(keys: KeyExpiries): void {
    for (const socket of this.#sockets.open()) {
      if (Object.hasOwn(keys, this.#sockets.attachmentOf(socket).keyHash)) continue;
      this.#sockets.close(socket, KEY_REVOKED, "key-revoked");
    }
  }

  /** Records that every socket was sent this delivery and all earlier ones. */
  noteSent({ delivery: { revision }, occupancy }: Pick<QueuedDelivery, "delivery" | "occupancy">, now: number): void {
    const at = now + spreadMs(occupancy.connected) + LATE_MS;
    const deadlines = this.#deadlines;
    // The newest revision always has a deadline.
    if (at < (deadlines.at(-2)?.at ?? 0) + DEADLINES_APART_MS) deadlines.pop();
    deadlines.push({ revision, at });
  }

  /**
   * Evicts sockets that have acknowledged nothing of a whole ring by its deadline: nobody reads them, and their send
   * buffers would grow. Returns in how many ms to call this again; null if no socket is that far behind.
   */
  evictSlow(now: number): number | null {
    while (this.#deadlines[0] !== undefined && this.#deadlines[0].at <= now)
      this.#lateRevision = this.#deadlines.shift()!.revision;
    if (this.#lateRevision === 0 && this.#deadlines.length === 0) return null;
    const sockets = this.#sockets.open();
    if (sockets.length === 0 || !this.#storage.isRingFull) return null;
    const first = this.#storage.firstOfRing();
    let isBehind = false;
    for (const socket of sockets) {
      const { transport, applied, connectedWith } = this.#sockets.attachmentOf(socket);
      const held = Math.max(applied, connectedWith);
      if (transport !== "socket" || held >= first - 1) continue;
      if (held < this.#lateRevision) this.#sockets.close(socket, TOO_SLOW, "slow");
      else isBehind = true;
    }
    const next = this.#deadlines[0];
    return isBehind && next !== undefined ? next.at - now : null;
  }
}
