/** How often a relay writes down what it knows of deliveries, and what is forgotten where it is lost between. */
import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { expect, test, vi } from "vitest";
import type { Attachment } from "../../durable-objects/fan-out/handshake.ts";
import { Tallies } from "../../durable-objects/relay/delivery-statistics.ts";
import { Sockets } from "../../durable-objects/relay/sockets.ts";
import { RelayStorage } from "../../durable-objects/relay/storage.ts";
import { flag } from "../support/environment.ts";
import { hubOf, livingEnvironment, RelaySocket, relayOf } from "../support/relay-socket.ts";

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
const withTallies = (name: string, run: (tallies: Tallies, rows: () => number, again: () => Tallies) => void) =>
  runInDurableObject(relayOf(name), (_, state) => {
    const storage = new RelayStorage(state.storage);
    storage.leapTo(1, {});
    const writes = [vi.spyOn(storage, "saveTally"), vi.spyOn(storage, "saveDepartures")];
    const made = () => new Tallies(storage, new Sockets(state));
    run(made(), () => writes.reduce((sum, { mock }) => sum + mock.calls.length, 0), made);
    return state.storage.deleteAll();
  });

/** As a relay calls it, whose alarm goes off when it is told to. */
class Clock {
  now = 1_000_000;
  #alarm = Number.POSITIVE_INFINITY;
  readonly #tallies: Tallies;

  constructor(tallies: Tallies) {
    this.#tallies = tallies;
  }

  after(ms: number, change: () => void): void {
    if (this.#alarm <= this.now + ms) this.#tallies.save(this.#alarm);
    if (this.#alarm <= this.now + ms) this.#alarm = Number.POSITIVE_INFINITY;
    this.now += ms;
    change();
    const inMs = this.#tallies.saveInMs(this.now);
    if (inMs === 0) this.#tallies.save(this.now);
    else if (inMs !== null) this.#alarm = Math.min(this.#alarm, this.now + inMs);
  }
}

test("acknowledgements that come for ten minutes cost a dozen rows and not one for each five seconds", async () => {
  await withTallies("env_tallies_spread", (tallies, rows, again) => {
    const clock = new Clock(tallies);
    tallies.begin(2, clock.now, 2_400, clock.now);
    const begun = rows();
    for (let each = 0; each < 2_400; each++) clock.after(250, () => tallies.applied(client(), 2, clock.now));
    expect(rows() - begun).toBeLessThan(20);
    // Whoever wakes next has all but those of the last minute.
    const known = again()
      .part(2, "enam")
      .durations.reduce((sum, count) => sum + count, 0);
    expect(known).toBeGreaterThan(2_400 - 4 * 61);
  });
});

test("where acknowledgements are rare each is written at once: the relay may sleep before the next", async () => {
  await withTallies("env_tallies_rare", (tallies, _, again) => {
    const clock = new Clock(tallies);
    tallies.begin(2, clock.now, 3, clock.now);
    for (let each = 0; each < 3; each++) {
      clock.after(90_000, () => tallies.applied(client(), 2, clock.now));
      expect(
        again()
          .part(2, "enam")
          .durations.reduce((sum, count) => sum + count, 0),
      ).toBe(each + 1);
    }
  });
});

test("who leaves costs one row, whatever the number of deliveries that it was there for, and is counted in each", async () => {
  await withTallies("env_tallies_left", (tallies, rows, again) => {
    const clock = new Clock(tallies);
    for (let revision = 2; revision <= 31; revision++) tallies.begin(revision, clock.now, 350, clock.now);
    const begun = rows();
    for (let each = 0; each < 350; each++) {
      clock.after(20_000, () => tallies.left(client({ applied: 20, sdk: `sdk-${each % 3}` })));
    }
    expect(rows() - begun).toBeLessThan(350 + 4 * 31);
    for (const memory of [tallies, again()]) {
      expect(memory.part(20, "enam")).toMatchObject({ connected: 350, applied: 350, gone: 0 });
      expect(memory.part(21, "enam")).toMatchObject({ connected: 350, applied: 0, gone: 350 });
      expect(Object.keys(memory.part(21, "enam").bySdk)).toEqual(["sdk-0", "sdk-1", "sdk-2"]);
    }
    // Who was gone before a delivery is no part of it.
    tallies.begin(32, clock.now, 0, clock.now);
    expect(tallies.part(32, "enam")).toMatchObject({ connected: 0 });
  });
});

test("a relay asleep still knows who has left, and what they had (X1)", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const [stays, leaves] = [await RelaySocket.open(environmentId), await RelaySocket.open(environmentId)];
  const { revision } = await publish({ flags: { a: flag("a") } });
  for (const { socket } of [stays, leaves]) socket.send(JSON.stringify({ applied: revision }));
  await vi.waitFor(async () => expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ applied: 2 }));
  // Written a while ago: what comes now is written at once.
  await evictDurableObject(relayOf(environmentId));
  leaves.socket.close(1000, "bye");
  await vi.waitFor(async () => {
    const kept = await runInDurableObject(relayOf(environmentId), (_, { storage }) => storage.kv.get("departures"));
    expect(kept).toHaveLength(1);
  });
  await evictDurableObject(relayOf(environmentId));
  expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 2, applied: 2, gone: 0 });
});
