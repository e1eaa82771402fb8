import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { PatchMessage } from "@bunting/core/wire";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { EnvironmentOccupancy } from "../../durable-objects/fan-out/delivery.ts";
import { KEY_REVOKED } from "../../durable-objects/fan-out/handshake.ts";
import { Relay } from "../../durable-objects/relay/relay.ts";
import { flag } from "../support/environment.ts";
import { environmentWithHub, hubOf, RelaySocket, relayOf } from "../support/relay-socket.ts";

/** The occupancy of an environment without reports. */
const occupancy: EnvironmentOccupancy = { relays: {}, connected: 0, keys: {} };

describe("delivery", () => {
  test("a change reaches every socket with the same bytes, each on top of the last (R7, Q8)", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const [one, two] = [await RelaySocket.open(environmentId), await RelaySocket.open(environmentId)];
    await publish({ flags: { a: flag("a") } });
    await publish({ flags: { b: flag("b") } });
    await vi.waitFor(() => expect(one.received).toEqual(["hello 1", "patch 2", "patch 3"]));
    await vi.waitFor(() => expect(two.messages).toEqual(one.messages));
    expect((one.messages[2] as PatchMessage).previous).toBe(2);
  });

  test("a client that resumes receives exactly the deliveries it has missed, also after an eviction", async () => {
    const { environmentId, publish } = await environmentWithHub();
    await RelaySocket.open(environmentId);
    for (const key of ["a", "b", "c"]) await publish({ flags: { [key]: flag(key) } });
    await vi.waitFor(async () => expect((await relayOf(environmentId).since(4))?.deliveries).toEqual([]));
    await evictDurableObject(relayOf(environmentId));
    const resumed = await RelaySocket.open(environmentId, 2);
    await vi.waitFor(() => expect(resumed.received).toEqual(["hello 4", "patch 3", "patch 4"]));
    const current = await RelaySocket.open(environmentId, 4);
    await vi.waitFor(() => expect(current.received).toEqual(["hello 4"]));
  });

  test("deliveries from before the relay existed are read from the hub's log", async () => {
    const { environmentId, publish } = await environmentWithHub();
    for (const key of ["a", "b", "c"]) await publish({ flags: { [key]: flag(key) } });
    const late = await RelaySocket.open(environmentId, 2);
    await vi.waitFor(() => expect(late.received).toEqual(["hello 4", "patch 3", "patch 4"]));
  });

  test("an unknown revision is answered by a resync with a window", async () => {
    const { environmentId } = await environmentWithHub();
    const lost = await RelaySocket.open(environmentId, 77);
    await vi.waitFor(() => expect(lost.received).toEqual(["hello 1", "resync 1"]));
    expect(lost.messages[1]).toMatchObject({ withinMs: 1_000 });
  });

  test("a relay that missed deliveries fills the gap, and its clients receive all of them in order", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
    // Two deliveries lost on the way: the hub has them, the relay does not.
    await runInDurableObject(hubOf(environmentId), (_, state) => void state.storage.sql.exec("DELETE FROM children"));
    await publish({ flags: { b: flag("b") } });
    await publish({ flags: { c: flag("c") } });
    expect(client.received).toEqual(["hello 1", "patch 2"]);
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2", "patch 3", "patch 4"]));
    await publish({ flags: { d: flag("d") } });
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 5"));
  });

  test("a delivery that arrives during an attach for an earlier one waits and is sent, not dropped", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    await runInDurableObject(hubOf(environmentId), (_, state) => void state.storage.sql.exec("DELETE FROM children"));
    await publish({ flags: { a: flag("a") } });
    const patch = { type: "patch", revision: 3, previous: 2, publishedAt: 0, ackWithinMs: 0, flags: {}, segments: {} };
    const delivery = {
      revision: 3,
      previous: 2,
      publishedAt: 0,
      message: JSON.stringify(patch),
      urgent: false,
      keys: {},
    };
    await runInDurableObject(relayOf(environmentId), async (relay) => {
      // The hub is at revision 2 when it answers.
      const attaching = relay.alarm();
      expect(await relay.deliver(delivery, occupancy)).toMatchObject({ revision: 3, connected: 1 });
      await attaching;
    });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2", "patch 3"]));
  });

  test("a delivery that arrives before its parent applied it is sent once the deliveries before it have arrived", async () => {
    const { environmentId } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    const delivered = (revision: number) => {
      const previous = revision - 1;
      const patch = { type: "patch", revision, previous, publishedAt: 0, ackWithinMs: 0, flags: {}, segments: {} };
      return { revision, previous, publishedAt: 0, message: JSON.stringify(patch), urgent: false, keys: {} };
    };
    // The first attach is answered before either was published, the second between the two.
    const answers = [
      { revision: 1, deliveries: [], occupancy },
      { revision: 2, deliveries: [delivered(2)], occupancy },
    ];
    const parent = { attach: () => scheduler.wait(10).then(() => answers.shift()) };
    const HUB = { idFromName: () => "hub", get: () => parent } as unknown as typeof env.HUB;
    await runInDurableObject(relayOf(environmentId), async (_, state) => {
      const relay = new Relay(state, { ...env, HUB });
      const attaching = relay.refresh();
      expect(await relay.deliver(delivered(3), occupancy)).toMatchObject({ revision: 3 });
      await attaching;
    });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2", "patch 3"]));
  });

  test("the hub's alarm retries a delivery that failed", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    const hub = hubOf(environmentId);
    await runInDurableObject(hub, (_, { storage }) => void storage.sql.exec("UPDATE children SET name = name || '0'"));
    await publish({ flags: { a: flag("a") } });
    await runInDurableObject(hub, async (instance, { storage }) => {
      storage.sql.exec("UPDATE children SET name = substr(name, 1, length(name) - 1), revision = 1");
      await instance.alarm();
    });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
  });

  test("a relay catches up at once when a caller has a later revision", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    await runInDurableObject(hubOf(environmentId), (_, state) => void state.storage.sql.exec("DELETE FROM children"));
    await publish({ flags: { a: flag("a") } });
    expect(await relayOf(environmentId).since(2)).toMatchObject({ revision: 2, deliveries: [] });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
  });

  test("a client that has missed more than a megabyte fetches the ruleset instead", async () => {
    const { environmentId, publish } = await environmentWithHub();
    await RelaySocket.open(environmentId);
    const values = Array.from({ length: 4_000 }, (_, index) => `user-${index}`);
    for (let version = 1; version <= 25; version++) {
      await publish({ flags: { a: flag("a", { version, targets: [{ variation: "on", values }] }) } });
    }
    const far = await RelaySocket.open(environmentId, 1);
    const near = await RelaySocket.open(environmentId, 24);
    await vi.waitFor(() => expect(far.received).toEqual(["hello 26", "resync 26"]));
    await runInDurableObject(relayOf(environmentId), (_, { storage }) => {
      const { bytes } = storage.sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM ring").one();
      expect(bytes).toBeLessThanOrEqual(1024 * 1024);
    });
    await vi.waitFor(() => expect(near.received).toEqual(["hello 26", "patch 25", "patch 26"]));
  });

  test("a repeated or old delivery is sent once", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    await publish({ flags: { a: flag("a") } });
    const { deliveries } = await hubOf(environmentId).since(1);
    for (let times = 0; times < 3; times++) await relayOf(environmentId).deliver(deliveries![0]!, occupancy);
    await publish({ flags: { b: flag("b") } });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2", "patch 3"]));
  });

  test("a change over 64 KB is sent as a resync", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    const values = Array.from({ length: 10_000 }, (_, index) => `user-${index}`);
    await publish({ flags: { a: flag("a", { targets: [{ variation: "on", values }] }) } });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "resync 2"]));
  });
});

describe("receipts and sockets", () => {
  test("the hub counts clients that applied a revision, that were sent it over SSE, and that are gone (X1)", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const [one, two] = [await RelaySocket.open(environmentId), await RelaySocket.open(environmentId)];
    const stream = await RelaySocket.open(environmentId, undefined, { transport: "sse" });
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(stream.received.at(-1)).toBe("patch 2"));
    one.socket.send(JSON.stringify({ applied: revision }));
    await vi.waitFor(async () =>
      expect(await hubOf(environmentId).receipt(revision)).toMatchObject({
        connected: 3,
        applied: 1,
        delivered: 1,
        gone: 0,
      }),
    );
    two.socket.close(1000, "bye");
    await vi.waitFor(async () =>
      expect(await hubOf(environmentId).receipt(revision)).toMatchObject({
        connected: 3,
        applied: 1,
        gone: 1,
        silent: 0,
      }),
    );
    const late = await RelaySocket.open(environmentId);
    await vi.waitFor(() => expect(late.received).toEqual(["hello 2"]));
    expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 3, applied: 1 });
  });

  test("a receipt counts connections by revision: differing clocks count no client as gone (X1)", async () => {
    const { environmentId } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    const publishedAt = Date.now() - 60_000;
    const patch = { type: "patch", revision: 2, previous: 1, publishedAt, ackWithinMs: 0, flags: {}, segments: {} };
    await relayOf(environmentId).deliver(
      { ...patch, message: JSON.stringify(patch), urgent: false, keys: {} },
      occupancy,
    );
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
    await RelaySocket.open(environmentId);
    expect(await relayOf(environmentId).receipt(2, 800)).toMatchObject({
      connected: 1,
      applied: 0,
      delivered: 0,
      gone: 0,
    });
  });

  test("a revoked key opens no socket, even while the Worker still has it as valid", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const grant = { id: "key_1", kind: "server" as const, origins: [], expiresAt: null };
    const { revision } = await publish({ keys: { early: grant } });
    const open = (keyHash: string, keyValidAt: number) =>
      RelaySocket.open(environmentId, undefined, { keyHash, keyValidAt });
    await open("early", revision);
    await publish({ keys: { early: null, late: { ...grant, id: "key_2" } } });
    await vi.waitFor(async () => expect((await relayOf(environmentId).since(3))?.revision).toBe(3));
    await expect(open("early", revision)).rejects.toThrow("401");
    await evictDurableObject(relayOf(environmentId));
    await expect(open("early", revision)).rejects.toThrow("401");
    const late = await open("late", 3);
    expect(late.closed).toBeNull();
    // Skipping revisions loses deliveries, but not which keys are valid.
    await runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) => {
      sql.exec("DELETE FROM children");
      sql.exec("DELETE FROM deltas");
    });
    await publish({ keys: { late: null } });
    await runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) => void sql.exec("DELETE FROM deltas"));
    await runDurableObjectAlarm(relayOf(environmentId));
    await expect(open("late", 3)).rejects.toThrow("401");
    await vi.waitFor(() => expect(late.closed).toEqual({ code: KEY_REVOKED, reason: "key-revoked" }));
  });

  test("acknowledging a revision before it was sent does not count once it is", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    client.socket.send(JSON.stringify({ applied: 1_000_000 }));
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 2"));
    expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 1, applied: 0 });
  });

  test("revoking a key closes its open sockets and no others", async () => {
    const { environmentId, publish } = await environmentWithHub();
    await publish({ keys: { valid: { id: "key_1", kind: "server", origins: [], expiresAt: null } } });
    const revoked = await RelaySocket.open(environmentId, undefined, { keyHash: "revoked" });
    const kept = await RelaySocket.open(environmentId, undefined, { keyHash: "valid" });
    await publish({ keys: { revoked: null } });
    await vi.waitFor(() => expect(revoked.closed).toEqual({ code: KEY_REVOKED, reason: "key-revoked" }));
    expect(kept.closed).toBeNull();
  });

  test("the alarm evicts silent sockets; the others stay", async () => {
    const { environmentId, publish } = await environmentWithHub();
    await publish({ keys: { hash: { id: "key_1", kind: "server", origins: [], expiresAt: null } } });
    const silent = await RelaySocket.open(environmentId);
    await runInDurableObject(relayOf(environmentId), (_, state) => {
      const [socket] = state.getWebSockets();
      socket!.serializeAttachment({ ...socket!.deserializeAttachment(), connectedAt: Date.now() - 76_000 });
    });
    await evictDurableObject(relayOf(environmentId));
    const kept = await RelaySocket.open(environmentId);
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(silent.closed).toEqual({ code: 4408, reason: "silent" }));
    expect(kept.closed).toBeNull();
  });

  test("an expiry that a key is given while its sockets are open closes them, unless it is postponed", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const grant = { id: "key_1", kind: "server" as const, origins: [], expiresAt: null };
    const soon = Date.now() + 60_000;
    await publish({ keys: { ending: grant, prolonged: { ...grant, expiresAt: soon }, skipped: grant, late: grant } });
    const open = (keyHash: string) => RelaySocket.open(environmentId, undefined, { keyHash, keyValidAt: 2 });
    const [ending, prolonged, skipped] = [await open("ending"), await open("prolonged"), await open("skipped")];
    await publish({ keys: { ending: { ...grant, expiresAt: soon }, prolonged: { ...grant, expiresAt: 2 * soon } } });
    await vi.waitFor(() => expect(prolonged.received.at(-1)).toBe("patch 3"));
    await runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) => void sql.exec("DELETE FROM children"));
    await publish({ keys: { skipped: { ...grant, expiresAt: soon }, late: { ...grant, expiresAt: soon } } });
    await runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) => void sql.exec("DELETE FROM deltas"));
    await runDurableObjectAlarm(relayOf(environmentId));
    expect([ending.closed, prolonged.closed, skipped.closed]).toEqual([null, null, null]);

    vi.useFakeTimers({ toFake: ["Date"], now: soon + 1_000 });
    onTestFinished(() => void vi.useRealTimers());
    for (const { socket } of [ending, prolonged, skipped]) socket.send("ping");
    await evictDurableObject(relayOf(environmentId));
    await runDurableObjectAlarm(relayOf(environmentId));
    const expired = { code: KEY_REVOKED, reason: "key-expired" };
    await vi.waitFor(() => expect([ending.closed, skipped.closed]).toEqual([expired, expired]));
    await expect(open("late")).rejects.toThrow("401");
    expect(prolonged.closed).toBeNull();
  });

  test("a full relay admits no client until one disconnects", async () => {
    const { environmentId } = await environmentWithHub();
    await runInDurableObject(
      relayOf(environmentId),
      (relay) => void Reflect.set(relay, "env", { ...env, RELAY_CAP: "1" }),
    );
    const first = await RelaySocket.open(environmentId);
    await expect(RelaySocket.open(environmentId)).rejects.toThrow("503");
    first.socket.close(1000, "bye");
    await vi.waitFor(() => RelaySocket.open(environmentId));
  });

  test("pings are answered without waking the relay, and invalid messages are ignored", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const client = await RelaySocket.open(environmentId);
    const pongs: unknown[] = [];
    client.socket.addEventListener("message", ({ data }) => {
      if (data === "pong") pongs.push(data);
    });
    client.socket.send("ping");
    for (const invalid of ["", "{", "null", '{"applied":"2"}', '{"applied":1e999}', "x".repeat(100_000)]) {
      client.socket.send(invalid);
    }
    await vi.waitFor(() => expect(pongs).toEqual(["pong"]));
    await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
  });

  test("a relay of an environment that does not exist refuses sockets", async () => {
    await expect(RelaySocket.open("env_00000000000000000001")).rejects.toThrow("404");
  });
});
