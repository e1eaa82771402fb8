/**
 * What a relay's own sockets have made of its latest deliveries. Who is there is counted when somebody asks; written down
 * is what that cannot tell: how fast it went, and what had become of those who left.
 */

import type { Attachment } from "../fan-out/handshake.ts";
import {
  bounded,
  type Counts,
  noCounts,
  nothing,
  type Part,
  record,
  type Straggler,
  worst,
} from "../fan-out/receipt.ts";
import type { Region } from "../fan-out/tree.ts";
import type { Sockets } from "./sockets.ts";
import type { Departure, RelayStorage, Tally } from "./storage.ts";

/** Where those are counted of whom a crash has left no trace. */
const UNKNOWN_SDK = "unknown";
const KEPT = 32;
/** Written as one row; so many are then counted into the tallies that they belong to, each of which is a row. */
export const MAX_DEPARTURES = 100;

/**
 * Rows cost money, and one change is acknowledged for up to ten minutes: what is new is written at once, then after five
 * seconds, then after twice as long, up to a minute. A relay that is lost or falls asleep between has forgotten how fast
 * those were who told it meanwhile, which are any of them (they speak at random moments), and who has left, who then counts
 * as gone; what each has applied is on its socket.
 */
export const FIRST_PAUSE_MS = 5_000;
export const LAST_PAUSE_MS = 60_000;

export class Tallies {
  readonly #storage: RelayStorage;
  readonly #sockets: Sockets;
  #tallies: Map<number, Tally> | null = null;
  #departures: Departure[] | null = null;
  readonly #unsaved = new Set<Tally>();
  #hasUnsavedDepartures = false;
  #savedAt = 0;
  #pauseMs = FIRST_PAUSE_MS;

  constructor(storage: RelayStorage, sockets: Sockets) {
    this.#storage = storage;
    this.#sockets = sockets;
  }

  begin(revision: number, publishedAt: number, connected: number, sentAt: number): void {
    const tally: Tally = { revision, publishedAt, sentAt, connected, durations: [], max: 0, left: {} };
    const tallies = this.#all();
    tallies.set(revision, tally);
    for (const oldest of tallies.keys()) {
      if (tallies.size <= KEPT) break;
      tallies.delete(oldest);
    }
    this.#storage.saveTally(tally);
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** `client` is as it was before. `at` is when it had applied everything up to `applied`. */
  applied(client: Attachment, applied: number, at: number): void {
    for (const tally of this.#all().values()) {
      if (tally.revision <= client.applied || tally.revision > applied || !isCounted(client, tally.revision)) continue;
      const ms = Math.max(0, Math.round(at - tally.publishedAt));
      record(tally.durations, ms);
      tally.max = Math.max(tally.max, ms);
      this.#unsaved.add(tally);
    }
  }

  left({ sdk, transport, applied, connectedWith }: Attachment): void {
    const last = Math.max(0, ...this.#all().keys());
    if (connectedWith >= last) return;
    const departures = this.#gone();
    departures.push({ sdk, transport, applied, connectedWith, last });
    this.#hasUnsavedDepartures = true;
    if (departures.length < MAX_DEPARTURES) return;
    for (const departure of departures.splice(0)) this.#settle(departure);
  }

  #settle(departure: Departure): void {
    for (const tally of this.#all().values()) {
      if (!wasThere(departure, tally.revision)) continue;
      tally.left = withDeparture(tally.left, departure, tally.revision);
      this.#unsaved.add(tally);
    }
  }

  /** In how many ms `save` is to be called; null where there is nothing to write. */
  saveInMs(now: number): number | null {
    if (this.#unsaved.size === 0 && !this.#hasUnsavedDepartures) return null;
    return Math.max(0, this.#savedAt + this.#pauseMs - now);
  }

  save(now: number): void {
    if (this.saveInMs(now) === null) return;
    for (const tally of this.#unsaved) this.#storage.saveTally(tally);
    if (this.#hasUnsavedDepartures) this.#storage.saveDepartures(this.#gone());
    this.#unsaved.clear();
    this.#hasUnsavedDepartures = false;
    const isBusy = now - this.#savedAt < 2 * this.#pauseMs;
    this.#pauseMs = isBusy ? Math.min(2 * this.#pauseMs, LAST_PAUSE_MS) : FIRST_PAUSE_MS;
    this.#savedAt = now;
  }

  forget(): void {
    this.#tallies = null;
    this.#departures = null;
    this.#unsaved.clear();
    this.#hasUnsavedDepartures = false;
  }

  part(revision: number, region: Region): Part {
    const tally = this.#all().get(revision);
    const left = this.#gone()
      .filter((departure) => wasThere(departure, revision))
      .reduce((sum, departure) => withDeparture(sum, departure, revision), tally?.left ?? {});
    const bySdk = new Map(Object.entries(left).map(([sdk, counts]) => [sdk, { ...counts }]));
    const behind: WebSocket[] = [];
    const reached = (this.#storage.revision ?? 0) >= revision;
    for (const socket of this.#sockets.open()) {
      const client = this.#sockets.of(socket);
      if (!isCounted(client, revision)) continue;
      const counts = bySdk.get(client.sdk) ?? noCounts();
      bySdk.set(client.sdk, counts);
      if (!reached) counts.connected++;
      else if (count(counts, client, revision, null)) continue;
      behind.push(socket);
    }
    const seen = [...bySdk.values()].reduce((sum, { connected }) => sum + connected, 0);
    const lost = (tally?.connected ?? 0) - seen;
    if (lost > 0) {
      const unknown = bySdk.get(UNKNOWN_SDK) ?? noCounts();
      bySdk.set(UNKNOWN_SDK, { ...unknown, connected: unknown.connected + lost, gone: unknown.gone + lost });
    }
    const own = [...bySdk.values()].reduce((sum, counts) => {
      for (const name of Object.keys(sum) as (keyof Counts)[]) sum[name] += counts[name];
      return sum;
    }, noCounts());
    const durations = [...(tally?.durations ?? [])];
    let max = tally?.max ?? 0;
    if (tally !== undefined && own.delivered > 0) {
      const written = Math.max(0, tally.sentAt - tally.publishedAt);
      record(durations, written, own.delivered);
      max = Math.max(max, written);
    }
    return {
      ...nothing(),
      ...own,
      durations,
      max,
      byRegion: own.connected > 0 ? { [region]: own } : {},
      bySdk: bounded(Object.fromEntries(bySdk)),
      stragglers: this.#worst(behind),
    };
  }

  #worst(sockets: WebSocket[]): Straggler[] {
    let kept: Straggler[] = [];
    let last: Straggler | undefined;
    for (const socket of sockets) {
      const { instance, name, sdk, applied: revision } = this.#sockets.of(socket);
      if (last !== undefined && revision > last.revision) continue;
      const lastSeen = this.#sockets.heardAt(socket);
      if (last !== undefined && revision === last.revision && lastSeen > last.lastSeen) continue;
      kept.push({ instance, name, sdk, revision, lastSeen });
      // Sorted now and then: of ten thousand only twenty are kept.
      if (kept.length < 500) continue;
      kept = worst(kept);
      last = kept.at(-1);
    }
    return worst(kept);
  }

  #all(): Map<number, Tally> {
    this.#tallies ??= new Map(this.#storage.tallies().map((tally) => [tally.revision, tally]));
    return this.#tallies;
  }

  #gone(): Departure[] {
    this.#departures ??= this.#storage.departures();
    return this.#departures;
  }
}

/** Whether the client was there when the revision was delivered. */
const isCounted = (client: Pick<Attachment, "connectedWith">, revision: number) => client.connectedWith < revision;

/** It was there when the revision was delivered, and had not left. */
const wasThere = (departure: Departure, revision: number) =>
  isCounted(departure, revision) && revision <= departure.last;

function withDeparture(left: Tally["left"], departure: Departure, revision: number): Tally["left"] {
  const { sdk } = departure;
  // A name may be "__proto__": only what is its own counts.
  const counts = Object.hasOwn(left, sdk) ? { ...(left[sdk] as Counts) } : noCounts();
  count(counts, departure, revision, "gone");
  return bounded({ ...left, [sdk]: counts });
}

/** Adds a client to the counts; `otherwise` is what it is that has it not. Returns whether it has it. */
function count(
  counts: Counts,
  client: Pick<Attachment, "transport" | "applied">,
  revision: number,
  otherwise: "gone" | null,
): boolean {
  counts.connected++;
  if (client.transport === "sse") counts.delivered++;
  else if (client.applied >= revision) counts.applied++;
  else if (otherwise !== null) counts[otherwise]++;
  else return false;
  return true;
}
