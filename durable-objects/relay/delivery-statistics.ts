/**
 * Statistics of a relay's latest deliveries to its own sockets. Open sockets are counted when a receipt is requested;
 * only what they cannot show is stored: how long clients took, and which clients have disconnected since.
 */

import type { Attachment } from "../fan-out/handshake.ts";
import {
  boundSdks,
  emptyCounts,
  emptyPart,
  type ReceiptCounts,
  type ReceiptPart,
  recordDuration,
  type Straggler,
  worstStragglers,
} from "../fan-out/receipt.ts";
import type { Region } from "../fan-out/tree.ts";
import type { Sockets } from "./sockets.ts";
import type { Departure, RelayStorage, RevisionStatistics } from "./storage.ts";

/** The SDK under which clients are counted that were lost in a crash. */
const UNKNOWN_SDK = "unknown";
const KEPT_REVISIONS = 32;
/**
 * Departures are one row. Once there are this many, they are added to the statistics, which are a row for each
 * revision.
 */
export const MAX_DEPARTURES = 100;

/**
 * Rows cost money, and one change is acknowledged for up to ten minutes: the first statistics are written at once, the
 * next after five seconds, and then after twice as long each time, up to a minute. A relay that is evicted in between
 * loses the durations of a random sample of clients, and departures, which then count as gone. Which revision each open
 * client has applied is never lost: it is in its socket's attachment.
 */
export const FIRST_PAUSE_MS = 5_000;
export const LAST_PAUSE_MS = 60_000;

export class DeliveryStatistics {
  readonly #storage: RelayStorage;
  readonly #sockets: Sockets;
  #byRevision: Map<number, RevisionStatistics> | null = null;
  #departures: Departure[] | null = null;
  readonly #unsaved = new Set<RevisionStatistics>();
  #hasUnsavedDepartures = false;
  #savedAt = 0;
  #pauseMs = FIRST_PAUSE_MS;

  constructor(storage: RelayStorage, sockets: Sockets) {
    this.#storage = storage;
    this.#sockets = sockets;
  }

  start(revision: number, publishedAt: number, connected: number, sentAt: number): void {
    const one: RevisionStatistics = { revision, publishedAt, sentAt, connected, durations: [], max: 0, left: {} };
    const statistics = this.#all();
    statistics.set(revision, one);
    for (const oldest of statistics.keys()) {
      if (statistics.size <= KEPT_REVISIONS) break;
      statistics.delete(oldest);
    }
    this.#storage.saveStatistics(one);
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** `client` is its attachment before this acknowledgement. `at` (epoch ms) is when it had applied up to `applied`. */
  recordApplied(client: Attachment, applied: number, at: number): void {
    for (const one of this.#all().values()) {
      if (one.revision <= client.applied || one.revision > applied || !isCounted(client, one.revision)) continue;
      const ms = Math.max(0, Math.round(at - one.publishedAt));
      recordDuration(one.durations, ms);
      one.max = Math.max(one.max, ms);
      this.#unsaved.add(one);
    }
  }

  recordDeparture({ sdk, transport, applied, connectedWith }: Attachment): void {
    const last = Math.max(0, ...this.#all().keys());
    if (connectedWith >= last) return;
    const departures = this.#allDepartures();
    departures.push({ sdk, transport, applied, connectedWith, last });
    this.#hasUnsavedDepartures = true;
    if (departures.length < MAX_DEPARTURES) return;
    for (const departure of departures.splice(0)) this.#countDeparture(departure);
  }

  #countDeparture(departure: Departure): void {
    for (const one of this.#all().values()) {
      if (!wasConnected(departure, one.revision)) continue;
      one.left = withDeparture(one.left, departure, one.revision);
      this.#unsaved.add(one);
    }
  }

  /** In how many ms `save` has to be called; null where there is nothing to write. */
  saveInMs(now: number): number | null {
    if (this.#unsaved.size === 0 && !this.#hasUnsavedDepartures) return null;
    return Math.max(0, this.#savedAt + this.#pauseMs - now);
  }

  save(now: number): void {
    if (this.saveInMs(now) === null) return;
    for (const one of this.#unsaved) this.#storage.saveStatistics(one);
    if (this.#hasUnsavedDepartures) this.#storage.saveDepartures(this.#allDepartures());
    this.#unsaved.clear();
    this.#hasUnsavedDepartures = false;
    const isBusy = now - this.#savedAt < 2 * this.#pauseMs;
    this.#pauseMs = isBusy ? Math.min(2 * this.#pauseMs, LAST_PAUSE_MS) : FIRST_PAUSE_MS;
    this.#savedAt = now;
  }

  reset(): void {
    this.#byRevision = null;
    this.#departures = null;
    this.#unsaved.clear();
    this.#hasUnsavedDepartures = false;
  }

  part(revision: number, region: Region): ReceiptPart {
    const one = this.#all().get(revision);
    const left = this.#allDepartures()
      .filter((departure) => wasConnected(departure, revision))
      .reduce((sum, departure) => withDeparture(sum, departure, revision), one?.left ?? {});
    const bySdk = new Map(Object.entries(left).map(([sdk, counts]) => [sdk, { ...counts }]));
    const behind: WebSocket[] = [];
    const reached = (this.#storage.revision ?? 0) >= revision;
    for (const socket of this.#sockets.open()) {
      const client = this.#sockets.attachmentOf(socket);
      if (!isCounted(client, revision)) continue;
      const counts = bySdk.get(client.sdk) ?? emptyCounts();
      bySdk.set(client.sdk, counts);
      if (!reached) counts.connected++;
      else if (count(counts, client, revision, null)) continue;
      behind.push(socket);
    }
    const seen = [...bySdk.values()].reduce((sum, { connected }) => sum + connected, 0);
    const lost = (one?.connected ?? 0) - seen;
    if (lost > 0) {
      const unknown = bySdk.get(UNKNOWN_SDK) ?? emptyCounts();
      bySdk.set(UNKNOWN_SDK, { ...unknown, connected: unknown.connected + lost, gone: unknown.gone + lost });
    }
    const own = [...bySdk.values()].reduce((sum, counts) => {
      for (const name of Object.keys(sum) as (keyof ReceiptCounts)[]) sum[name] += counts[name];
      return sum;
    }, emptyCounts());
    const durations = [...(one?.durations ?? [])];
    let max = one?.max ?? 0;
    if (one !== undefined && own.delivered > 0) {
      const written = Math.max(0, one.sentAt - one.publishedAt);
      recordDuration(durations, written, own.delivered);
      max = Math.max(max, written);
    }
    return {
      ...emptyPart(),
      ...own,
      durations,
      max,
      byRegion: own.connected > 0 ? { [region]: own } : {},
      bySdk: boundSdks(Object.fromEntries(bySdk)),
      stragglers: this.#worstStragglers(behind),
    };
  }

  #worstStragglers(sockets: WebSocket[]): Straggler[] {
    let kept: Straggler[] = [];
    let last: Straggler | undefined;
    for (const socket of sockets) {
      const { instance, name, sdk, applied: revision } = this.#sockets.attachmentOf(socket);
      if (last !== undefined && revision > last.revision) continue;
      const lastSeen = this.#sockets.lastSeenAt(socket);
      if (last !== undefined && revision === last.revision && lastSeen > last.lastSeen) continue;
      kept.push({ instance, name, sdk, revision, lastSeen });
      // Sorting every 500 is cheaper than sorting all: of ten thousand only twenty are kept.
      if (kept.length < 500) continue;
      kept = worstStragglers(kept);
      last = kept.at(-1);
    }
    return worstStragglers(kept);
  }

  #all(): Map<number, RevisionStatistics> {
    this.#byRevision ??= new Map(this.#storage.statistics().map((one) => [one.revision, one]));
    return this.#byRevision;
  }

  #allDepartures(): Departure[] {
    this.#departures ??= this.#storage.departures();
    return this.#departures;
  }
}

/** Whether the client was connected when the revision was delivered. */
const isCounted = (client: Pick<Attachment, "connectedWith">, revision: number) => client.connectedWith < revision;

/** Whether the client was connected then and has disconnected since. */
const wasConnected = (departure: Departure, revision: number) =>
  isCounted(departure, revision) && revision <= departure.last;

function withDeparture(
  left: RevisionStatistics["left"],
  departure: Departure,
  revision: number,
): RevisionStatistics["left"] {
  const { sdk } = departure;
  // Clients choose the name: it may be "__proto__".
  const counts = Object.hasOwn(left, sdk) ? { ...(left[sdk] as ReceiptCounts) } : emptyCounts();
  count(counts, departure, revision, "gone");
  return boundSdks({ ...left, [sdk]: counts });
}

/**
 * Adds a client to the counts, as `otherwise` if it does not have the revision. Returns whether it was counted as
 * anything.
 */
function count(
  counts: ReceiptCounts,
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
