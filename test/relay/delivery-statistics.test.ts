/** How often a relay writes its delivery statistics, and what an eviction between two writes loses. */
import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { expect, test, vi } from "vitest";
import type { Attachment } from "../../durable-objects/fan-out/handshake.ts";
import { DeliveryStatistics } from "../../durable-objects/relay/delivery-statistics.ts";
import { Sockets } from "../../durable-objects/relay/sockets.ts";
import { RelayStorage } from "../../durable-objects/relay/storage.ts";
import { flag } from "../support/environment.ts";
import { environmentWithHub, hubOf, RelaySocket, relayOf } from "../support/relay-socket.ts";

const client = (fields: Partial<Attachment> = {}): Attachment => ({
  keyHash: "hash",
  transport: "socket",
  instance: "i",
  name: "n",
  sdk: "s",
  connectedAt: 0,
  connectedWith: 1,
  applied: 1,
  ...fields,
});

/** Of a relay at revision 1, and what it writes. */
const withStatistics = (
  name: string,
  run: (statistics: DeliveryStatistics, rows: () => number, again: () => DeliveryStatistics) => void,
) =>
  runInDurableObject(relayOf(name), (_, state) => {
    const storage = new RelayStorage(state.storage);
    storage.skipTo(1, {});
    const writes = [vi.spyOn(storage, "saveStatistics"), vi.spyOn(storage, "saveDepartures")];
    const made = () => new DeliveryStatistics(storage, new Sockets(state));
    run(made(), () => writes.reduce((sum, { mock }) => sum + mock.calls.length, 0), made);
    return state.storage.deleteAll();
  });

/** Drives the statistics as a relay does, with its alarm. */
class Clock {
  now = 1_000_000;
  #alarm = Number.POSITIVE_INFINITY;
  readonly #statistics: DeliveryStatistics;

  constructor(statistics: DeliveryStatistics) {
    this.#statistics = statistics;
  }

  after(ms: number, change: () => void): void {
    if (this.#alarm <= this.now + ms) this.#statistics.save(this.#alarm);
    if (this.#alarm <= this.now + ms) this.#alarm = Number.POSITIVE_INFINITY;
    this.now += ms;
    change();
    const inMs = this.#statistics.saveInMs(this.now);
    if (inMs === 0) this.#statistics.save(this.now);
    else if (inMs !== null) this.#alarm = Math.min(this.#alarm, this.now + inMs);
  }
}

test("acknowledgements spread over ten minutes cost a dozen rows, not one every five seconds", async () => {
  await withStatistics("env_tallies_spread", (statistics, rows, again) => {
    const clock = new Clock(statistics);
    statistics.start(2, clock.now, 2_400, clock.now);
    const begun = rows();
    for (let each = 0; each < 2_400; each++) clock.after(250, () => statistics.recordApplied(client(), 2, clock.now));
    expect(rows() - begun).toBeLessThan(20);
    // After an eviction only those of the last minute are missing.
    const known = again()
      .part(2, "enam")
      .durations.reduce((sum, count) => sum + count, 0);
    expect(known).toBeGreaterThan(2_400 - 4 * 61);
  });
});

test("rare acknowledgements are written at once: the relay may hibernate before the next", async () => {
  await withStatistics("env_tallies_rare", (statistics, _, again) => {
    const clock = new Clock(statistics);
    statistics.start(2, clock.now, 3, clock.now);
    for (let each = 0; each < 3; each++) {
      clock.after(90_000, () => statistics.recordApplied(client(), 2, clock.now));
      expect(
        again()
          .part(2, "enam")
          .durations.reduce((sum, count) => sum + count, 0),
      ).toBe(each + 1);
    }
  });
});

test("a client that disconnects costs one row, and is counted in every delivery that it was connected for", async () => {
  await withStatistics("env_tallies_left", (statistics, rows, again) => {
    const clock = new Clock(statistics);
    for (let revision = 2; revision <= 31; revision++) statistics.start(revision, clock.now, 350, clock.now);
    const begun = rows();
    for (let each = 0; each < 350; each++) {
      clock.after(20_000, () => statistics.recordDeparture(client({ applied: 20, sdk: `sdk-${each % 3}` })));
    }
    expect(rows() - begun).toBeLessThan(350 + 4 * 31);
    for (const memory of [statistics, again()]) {
      expect(memory.part(20, "enam")).toMatchObject({ connected: 350, applied: 350, gone: 0 });
      expect(memory.part(21, "enam")).toMatchObject({ connected: 350, applied: 0, gone: 350 });
      expect(Object.keys(memory.part(21, "enam").bySdk)).toEqual(["sdk-0", "sdk-1", "sdk-2"]);
    }
    // A client that had disconnected before a delivery is not counted in it.
    statistics.start(32, clock.now, 0, clock.now);
    expect(statistics.part(32, "enam")).toMatchObject({ connected: 0 });
  });
});

test("a hibernated relay still knows which clients have disconnected, and what they had applied (X1)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [stays, leaves] = [await RelaySocket.open(environmentId), await RelaySocket.open(environmentId)];
  const { revision } = await publish({ flags: { a: flag("a") } });
  for (const { socket } of [stays, leaves]) socket.send(JSON.stringify({ applied: revision }));
  await vi.waitFor(async () => expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ applied: 2 }));
  // After an eviction the next statistics are written at once.
  await evictDurableObject(relayOf(environmentId));
  leaves.socket.close(1000, "bye");
  await vi.waitFor(async () => {
    const kept = await runInDurableObject(relayOf(environmentId), (_, { storage }) => storage.kv.get("departures"));
    expect(kept).toHaveLength(1);
  });
  await evictDurableObject(relayOf(environmentId));
  expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 2, applied: 2, gone: 0 });
});
