/** Whom a relay lets in, by what it, their keys and their environment may have, and whom it cuts. */
import { type GoodbyeMessage, SILENCE_SECONDS } from "@bunting/core/wire";
import type { Delivery, KeyEnds } from "../fan-out/delivery.ts";
import { KEY_REVOKED, SILENT, TOO_MUCH, TOO_SLOW } from "../fan-out/handshake.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import { excess, type Limits, refusal } from "./occupancy.ts";
import { type Sockets, send } from "./sockets.ts";
import type { RelayStorage } from "./storage.ts";

const SILENCE_MS = SILENCE_SECONDS * 1_000;

export class Crowd {
  readonly #sockets: Sockets;
  readonly #storage: RelayStorage;
  readonly #limits: () => Limits;

  constructor(sockets: Sockets, storage: RelayStorage, limits: () => Limits) {
    this.#sockets = sockets;
    this.#storage = storage;
    this.#limits = limits;
  }

  refusal(keyHash: string) {
    const { connected, keys } = this.#storage.occupancy;
    const here = this.#sockets.count();
    const hereOfKey = this.#sockets.count(keyHash);
    const everywhereOfKey = Object.hasOwn(keys, keyHash) ? (keys[keyHash] as number) : 0;
    return refusal({ here, hereOfKey, everywhere: connected, everywhereOfKey }, this.#limits());
  }

  /** Relays admit by what they last heard, so that together they may have let in too many: the newest go. */
  cutExcess(): void {
    const limits = this.#limits();
    const { connected, keys } = this.#storage.occupancy;
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

  /** Who has acknowledged nothing of a whole ring is not reading: what waits for it must not grow for ever. */
  cutSlow(): void {
    const first = this.#storage.firstOfRing();
    for (const socket of this.#sockets.open()) {
      const { transport, applied, connectedWith } = this.#sockets.of(socket);
      if (transport === "socket" && Math.max(applied, connectedWith) < first - 1)
        this.#sockets.close(socket, TOO_SLOW, "slow");
    }
  }
}
