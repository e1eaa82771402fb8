/** Whom a relay lets in, by what it, their keys and their environment may have, and whom it cuts. */
import { type GoodbyeMessage, SILENCE_SECONDS } from "@bunting/core/wire";
import type { Delivery, KeyEnds } from "../fan-out/delivery.ts";
import { KEY_REVOKED, SILENT, TOO_MUCH, TOO_SLOW } from "../fan-out/handshake.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import type { QueuedDelivery } from "./delivery-queue.ts";
import { excess, type Limits, refusal } from "./occupancy.ts";
import { type Sockets, send } from "./sockets.ts";
import type { RelayStorage } from "./storage.ts";

const SILENCE_MS = SILENCE_SECONDS * 1_000;

/** What a network and a busy client may take on top of the time in which a client is to acknowledge. */
const LATE_MS = 2_000;
/** Deadlines that lie closer together are one. */
const DEADLINES_APART_MS = 500;

export class Crowd {
  /** By when who reads has acknowledged what it was sent, in their order. Lost with the memory: then nobody is late. */
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

  refusal(keyHash: string) {
    const { connected, keys } = this.#storage.standing;
    const here = this.#sockets.count();
    const hereOfKey = this.#sockets.count(keyHash);
    const everywhereOfKey = Object.hasOwn(keys, keyHash) ? (keys[keyHash] as number) : 0;
    return refusal({ here, hereOfKey, everywhere: connected, everywhereOfKey }, this.#limits());
  }

  /** Relays admit by what they last heard, so that together they may have let in too many: the newest go. */
  cutExcess(): void {
    const limits = this.#limits();
    const { connected, keys } = this.#storage.standing;
    const tooMany = [...this.#sockets.byKey()].map(([keyHash, here]) => {
      return [this.#sockets.open(keyHash), excess(here, keys[keyHash] ?? 0, limits.key)] as const;
    });
    const all = this.#sockets.open();
    for (const [sockets, count] of [...tooMany, [all, excess(all.length, connected, limits.environment)] as const]) {
      if (count === 0) continue;
      const goodbye: GoodbyeMessage = { type: "goodbye", withinMs: spreadMs(count), reason: "too-many-connections" };
      const newest = sockets.sort(
        (one, other) => this.#sockets.of(other).connectedAt - this.#sockets.of(one).connectedAt,
      );
      for (const socket of newest.slice(0, count)) {
        send(socket, JSON.stringify(goodbye));
        this.#sockets.close(socket, TOO_MUCH, goodbye.reason);
      }
    }
  }

  /** The silent, and those whose keys are over. */
  cutEnded(now: number): void {
    for (const socket of this.#sockets.open()) {
      if (now - this.#sockets.heardAt(socket) > SILENCE_MS) this.#sockets.close(socket, SILENT, "silent");
    }
    for (const hash of this.#storage.expiredKeys(now)) {
      for (const socket of this.#sockets.open(hash)) this.#sockets.close(socket, KEY_REVOKED, "key-expired");
    }
  }

  /** SDK keys that a delivery adds or ends: one that ends does so on open sockets as fast as a flag changes. */
  take(keys: Delivery["keys"]): void {
    for (const [hash, grant] of Object.entries(keys)) {
      if (grant !== null) this.#storage.putKey(hash, grant.expiresAt);
      else {
        this.#storage.dropKey(hash);
        for (const socket of this.#sockets.open(hash)) this.#sockets.close(socket, KEY_REVOKED, "key-revoked");
      }
    }
  }

  cutAllBut(keys: KeyEnds): void {
    for (const socket of this.#sockets.open()) {
      if (Object.hasOwn(keys, this.#sockets.of(socket).keyHash)) continue;
      this.#sockets.close(socket, KEY_REVOKED, "key-revoked");
    }
  }

  /** Every socket was sent it, and all that came before. */
  sent({ delivery: { revision }, standing }: Pick<QueuedDelivery, "delivery" | "standing">, now: number): void {
    const at = now + spreadMs(standing.connected) + LATE_MS;
    const deadlines = this.#deadlines;
    // The last one is always among them.
    if (at < (deadlines.at(-2)?.at ?? 0) + DEADLINES_APART_MS) deadlines.pop();
    deadlines.push({ revision, at });
  }

  /**
   * Who has acknowledged nothing of a whole ring, and had the time for it, is not reading: what waits for it must not grow for
   * ever. Returns in how many ms somebody else may be late; null where nobody lacks so much.
   */
  cutSlow(now: number): number | null {
    while (this.#deadlines[0] !== undefined && this.#deadlines[0].at <= now)
      this.#lateRevision = this.#deadlines.shift()!.revision;
    if (this.#lateRevision === 0 && this.#deadlines.length === 0) return null;
    const sockets = this.#sockets.open();
    if (sockets.length === 0 || !this.#storage.isRingFull) return null;
    const first = this.#storage.firstOfRing();
    let isBehind = false;
    for (const socket of sockets) {
      const { transport, applied, connectedWith } = this.#sockets.of(socket);
      const held = Math.max(applied, connectedWith);
      if (transport !== "socket" || held >= first - 1) continue;
      if (held < this.#lateRevision) this.#sockets.close(socket, TOO_SLOW, "slow");
      else isBehind = true;
    }
    const next = this.#deadlines[0];
    return isBehind && next !== undefined ? next.at - now : null;
  }
}
