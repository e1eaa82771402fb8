/** Propagation receipts (X1): relays count, the tree adds up, the API returns them. */
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, test, vi } from "vitest";
import { newFlag } from "../support/admin.ts";
import { fetchPath, newPlace, withKey } from "../support/data-plane.ts";
import { flag } from "../support/environment.ts";
import { away, environmentWithHub, hubOf, RelaySocket, relayOf } from "../support/relay-socket.ts";

const client = (instance: string, sdk: string) => ({ instance, sdk, name: "shop" });

describe("a receipt", () => {
  test("adds up the tree: by region, by SDK, durations, and stragglers by name", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const [one, two] = [
      await RelaySocket.open(environmentId, 1, client("i-1", "js/1"), 0),
      await RelaySocket.open(environmentId, 1, client("i-2", "js/1"), 1),
    ];
    await RelaySocket.open(environmentId, 1, client("i-3", "go/2"), 3);
    await RelaySocket.open(environmentId, 1, { ...client("i-4", "js/1"), transport: "sse" }, 3);
    const { revision } = await publish({ flags: { a: flag("a") } });
    for (const client of [one, two]) {
      await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 2"));
      client.socket.send(JSON.stringify({ applied: revision }));
    }
    const sum = { connected: 4, applied: 2, delivered: 1, gone: 0, silent: 0 };
    await vi.waitFor(async () => {
      const receipt = await hubOf(environmentId).receipt(revision);
      expect(receipt).toMatchObject({
        revision,
        ...sum,
        byRegion: { enam: sum },
        bySdk: {
          "js/1": { connected: 3, applied: 2, delivered: 1, gone: 0, silent: 0 },
          "go/2": { connected: 1, applied: 0, delivered: 0, gone: 0, silent: 0 },
        },
        stragglers: [{ instance: "i-3", name: "shop", sdk: "go/2", revision: 1, lastSeen: expect.any(Number) }],
      });
      const { p50, p99, max } = receipt!;
      expect([p50, p99, max]).toEqual([p50, p99, max].sort((a, b) => a! - b!));
    });
  });

  test("counts a client that applied and disconnected as applied, one that only disconnected as gone, a later one not at all", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const [applying, leaving] = [await RelaySocket.open(environmentId), await RelaySocket.open(environmentId)];
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(applying.received.at(-1)).toBe("patch 2"));
    applying.socket.send(JSON.stringify({ applied: revision }));
    applying.socket.close(1000, "bye");
    leaving.socket.close(1000, "bye");
    await RelaySocket.open(environmentId);
    await vi.waitFor(async () =>
      expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 2, applied: 1, gone: 1 }),
    );
    await runDurableObjectAlarm(relayOf(environmentId));
    await evictDurableObject(relayOf(environmentId));
    expect(await hubOf(environmentId).receipt(revision)).toMatchObject({
      connected: 2,
      applied: 1,
      gone: 1,
      silent: 0,
    });
  });

  test("subtracts how long a client delayed its acknowledgement", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const one = await RelaySocket.open(environmentId);
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(one.received.at(-1)).toBe("patch 2"));
    one.socket.send(JSON.stringify({ applied: revision, waitedMs: 3_600_000 }));
    await vi.waitFor(async () =>
      expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ applied: 1, p50: 0, max: 0 }),
    );
  });

  test("of an older revision, acknowledged together with a later one, is complete too", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const one = await RelaySocket.open(environmentId);
    await publish({ flags: { a: flag("a") } });
    await publish({ flags: { b: flag("b") } });
    await vi.waitFor(() => expect(one.received.at(-1)).toBe("patch 3"));
    one.socket.send('{"applied":3}');
    for (const revision of [2, 3]) {
      await vi.waitFor(async () => {
        const receipt = await hubOf(environmentId).receipt(revision);
        expect(receipt).toMatchObject({ connected: 1, applied: 1, stragglers: [] });
        expect(receipt?.p50).not.toBeNull();
      });
    }
  });

  test("counts the clients that an unreachable relay last reported as silent, and still includes the other relays", async () => {
    const { environmentId, publish } = await environmentWithHub();
    const one = await RelaySocket.open(environmentId);
    for (let more = 0; more < 2; more++) await RelaySocket.open(environmentId, undefined, {}, 1);
    await runDurableObjectAlarm(relayOf(environmentId, 1));
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(() => expect(one.received.at(-1)).toBe("patch 2"));
    one.socket.send(JSON.stringify({ applied: revision }));
    const back = await away(relayOf(environmentId, 1));
    await vi.waitFor(async () =>
      expect(await hubOf(environmentId).receipt(revision)).toMatchObject({
        connected: 3,
        applied: 1,
        silent: 2,
        byRegion: { enam: { connected: 3, silent: 2 } },
      }),
    );
    await back();
    expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ connected: 3, applied: 1, silent: 0 });
  });

  test("names an SDK whatever it calls itself, and no more than twenty of them", async () => {
    const { environmentId, publish } = await environmentWithHub();
    for (const sdk of ["__proto__", "constructor", ...Array.from({ length: 30 }, (_, index) => `sdk/${index}`)]) {
      await RelaySocket.open(environmentId, 1, client(sdk, sdk));
    }
    const { revision } = await publish({ flags: { a: flag("a") } });
    await vi.waitFor(async () => {
      const receipt = await hubOf(environmentId).receipt(revision);
      expect(receipt).toMatchObject({ connected: 32 });
      expect(Object.keys(receipt!.bySdk)).toHaveLength(20);
      expect(receipt!.stragglers).toHaveLength(20);
    });
  });
});

test("the API returns it, with pollers counted by the revision that they request; a write with ?wait returns it too", async () => {
  const place = await newPlace();
  const path = `${await newFlag(place.api, place.project, "counted")}/environments/production`;
  const poll = async (etag?: string) => {
    const headers = withKey(place.serverKey, etag === undefined ? {} : { "if-none-match": etag });
    const response = await fetchPath("/sdk/v1/ruleset", { headers });
    await response.arrayBuffer();
    return response.headers.get("etag") ?? "";
  };
  const { body } = await place.api("PATCH", `${path}?wait=5000`, { on: true });
  expect(body.receipt).toMatchObject({ revision: body.revision, connected: 0, silent: 0, stragglers: [] });
  expect(body.receiptPath).toContain(`/receipts/${body.revision}`);
  const current = await poll();
  for (let times = 0; times < 3; times++) await poll(current);
  // Names this revision, and was never answered.
  for (let times = 0; times < 5; times++) await poll(current.replace('"', '"forged'));
  await vi.waitFor(async () => {
    await poll();
    const receipt = await place.api("GET", body.receiptPath.slice("/api/v1".length));
    expect(receipt.body).toMatchObject({ revision: body.revision, polling: 3, p50: null });
    // Right after a kill nobody has asked again: it says by when they will have.
    expect(receipt.body.pollingCompleteAt).toBe(receipt.body.publishedAt + 40_000);
  }, 5_000);
  const { body: killed } = await place.api("POST", `${path}/kill`, { reason: "test" });
  expect(killed.receipt).toMatchObject({ revision: killed.revision, polling: 0 });
  expect((await place.api("POST", `${path}/kill?wait=10001`, { reason: "test" })).status).toBe(400);
});
