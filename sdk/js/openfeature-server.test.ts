import type { Flag } from "@bunting/core";
import { OpenFeature, type Provider, ProviderEvents } from "@openfeature/server-sdk";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../test/support/peer.ts";
import { type Client, createClient, type NodeOptions } from "./node.ts";
import { BuntingProvider } from "./openfeature-server.ts";
import { createClient as createWorkersClient } from "./workers.ts";

const flag = (more: Partial<Flag> = {}, version = 1) => booleanFlag("new-checkout", true, version, more);
const json = (value: Flag["variations"][number]["value"]): Flag => ({
  ...flag(),
  key: "theme",
  type: "json",
  variations: [{ key: "on", value }],
  offVariation: null,
});
const half: Flag["fallthrough"] = {
  split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to: 100_000 }] },
};

let peer: Peer;
/** Ends the listening of a test: OpenFeature's clients are one object from test to test. */
let over: AbortController;

beforeEach(async () => {
  over = new AbortController();
  peer = await new Peer(rulesetOf(10, [flag()])).start();
});
afterEach(async () => {
  // Closes the clients, which their providers own.
  await OpenFeature.clearProviders();
  over.abort();
  await peer.stop();
});

const logger = { warn: () => {}, error: () => {} };

function make(options: Partial<NodeOptions> = {}): { client: Client; provider: Provider } {
  const client = createClient({ serverKey: SERVER_KEY, url: peer.url, logger, ...options });
  return { client, provider: new BuntingProvider(client, { readyMs: 500 }) };
}

async function registered(options: Partial<NodeOptions> = {}) {
  const { client, provider } = make(options);
  const events: { name: string; flagsChanged?: string[] }[] = [];
  const features = OpenFeature.getClient();
  for (const name of Object.values(ProviderEvents)) {
    const listen = (details: unknown) => {
      const { flagsChanged } = (details ?? {}) as { flagsChanged?: string[] };
      events.push({ name, ...(flagsChanged && { flagsChanged }) });
    };
    features.addHandler(name, listen, { signal: over.signal });
  }
  const initialised = OpenFeature.setProviderAndWait(provider);
  await initialised.catch(() => {});
  return { client, features, events, initialised };
}

describe("a resolution", () => {
  test.each<[string, Partial<Flag>, object]>([
    ["off", { on: false }, { value: false, variant: "off", reason: "DISABLED" }],
    ["killed", { killed: true }, { reason: "DISABLED", flagMetadata: { flagVersion: 1, buntingReason: "KILLED" } }],
    [
      "off without a variation",
      { on: false, offVariation: null },
      { value: false, reason: "DISABLED", flagKey: "new-checkout" },
    ],
    [
      "a failed prerequisite",
      { prerequisites: [{ flag: "billing", variations: ["on"] }] },
      { reason: "DISABLED", flagMetadata: { prerequisite: "billing" } },
    ],
    ["a target", { targets: [{ variation: "on", values: ["user-42"] }] }, { reason: "TARGETING_MATCH" }],
    [
      "a rule",
      { rules: [{ id: "r1", conditions: [], serve: { variation: "on" } }] },
      { reason: "TARGETING_MATCH", flagMetadata: { ruleId: "r1", ruleIndex: 0 } },
    ],
    ["a rule's split", { rules: [{ id: "r1", conditions: [], serve: half }] }, { reason: "SPLIT" }],
    ["a split", { fallthrough: half }, { reason: "SPLIT", flagMetadata: { bucket: expect.any(Number) } }],
    ["nothing that matched", { targets: [{ variation: "off", values: ["ada"] }] }, { reason: "DEFAULT" }],
    ["the same for all", {}, { value: true, variant: "on", reason: "STATIC" }],
    [
      "a malformed flag",
      { fallthrough: { variation: "gone" } },
      { value: false, reason: "ERROR", errorCode: "PARSE_ERROR" },
    ],
  ])("of %s is in OpenFeature's words", async (_name, more, expected) => {
    peer.ruleset = rulesetOf(10, [flag(more)]);
    const { features } = await registered();
    const details = await features.getBooleanDetails("new-checkout", false, { targetingKey: "user-42" });
    expect(details).toMatchObject(expected);
    expect("variant" in details).toBe(
      "variant" in expected || (details.reason !== "ERROR" && more.offVariation !== null),
    );
  });

  test("without the key that a split is made by says what to pass", async () => {
    peer.ruleset = rulesetOf(10, [flag({ fallthrough: half })]);
    const { features } = await registered();
    const details = await features.getBooleanDetails("new-checkout", false);
    expect(details).toMatchObject({ value: false, errorCode: "TARGETING_KEY_MISSING" });
    expect(details.errorMessage).toContain("pass a targetingKey");
  });

  test.each([
    [{ colour: "blue" }, {}, undefined],
    [["a"], {}, undefined],
    [null, {}, undefined],
    ["blue", "green", undefined],
    ["blue", {}, "TYPE_MISMATCH"],
    [7, [], "TYPE_MISMATCH"],
  ])("of a JSON flag of value %j as an object, by default %j, has error %s", async (value, byDefault, errorCode) => {
    peer.ruleset = rulesetOf(10, [json(value)]);
    const { features } = await registered();
    const details = await features.getObjectDetails("theme", byDefault);
    expect(details.value).toEqual(errorCode === undefined ? value : byDefault);
    expect(details.errorCode).toBe(errorCode);
  });
});

test("a scalar that an object getter meets is counted as no variation, and exposes nobody", async () => {
  peer.ruleset = rulesetOf(10, [
    { ...json("blue"), trackExposures: true },
    { ...json({ a: 1 }), key: "whole", trackExposures: true },
  ]);
  const { client, features } = await registered();
  await features.getObjectDetails("theme", {}, { targetingKey: "ada" });
  await features.getObjectDetails("whole", {}, { targetingKey: "ada" });
  await client.flush();
  const events = peer.batches.flatMap((batch) => batch.events);
  expect(events.filter(({ kind }) => kind === "exposure")).toMatchObject([{ flag: "whole", unit: "ada" }]);
  const counts = events.flatMap((event) => (event.kind === "summary" ? event.counts : []));
  expect(counts.map(({ flag, variation }) => [flag, variation])).toEqual([
    ["theme", null],
    ["whole", "on"],
  ]);
});

describe("a context", () => {
  const launched = (attribute: string) =>
    flag({
      fallthrough: { variation: "off" },
      rules: [
        {
          id: "r1",
          conditions: [{ attribute, op: "before", values: ["2026-01-01T00:00:00Z"] }],
          serve: { variation: "on" },
        },
      ],
    });

  test.each([
    ["at the top", "since", { since: new Date("2025-06-01") }],
    ["in an object", "/account/since", { account: { since: new Date("2025-06-01") } }],
    ["in a list", "dates", { dates: [new Date("2027-01-01"), new Date("2025-06-01")] }],
  ])("has its dates compared as dates: %s", async (_where, attribute, context) => {
    peer.ruleset = rulesetOf(10, [launched(attribute)]);
    const { features } = await registered();
    expect(await features.getBooleanValue("new-checkout", false, context)).toBe(true);
  });

  test("that nobody can read leaves its attributes missing, and never throws (EV-1)", async () => {
    peer.ruleset = rulesetOf(10, [launched("/hostile/since")]);
    const { features } = await registered();
    const cycle: Record<string, unknown> = { since: new Date("2027-01-01") };
    cycle.self = cycle;
    const getter = Object.defineProperty({}, "since", {
      enumerable: true,
      get: () => {
        throw new Error("no");
      },
    });
    let deep: object = {};
    for (let level = 0; level < 20_000; level++) deep = { deep };
    const nobody = new Date(Number.NaN);
    for (const hostile of [cycle, getter, deep, { since: nobody }, JSON.parse('{"__proto__": {"since": 1}}')]) {
      const context = { hostile } as never;
      expect(await features.getBooleanDetails("new-checkout", true, context)).toMatchObject({
        value: false,
        reason: "DEFAULT",
      });
    }
  });
});

describe("events", () => {
  test("say which flags have changed", async () => {
    const { events, client } = await registered();
    await vi.waitFor(() => expect(client.status().transport).toBe("websocket"));
    peer.publish(flag({ on: false }, 2));
    await vi.waitFor(() =>
      expect(events).toContainEqual({ name: ProviderEvents.ConfigurationChanged, flagsChanged: ["new-checkout"] }),
    );
  });

  test("say STALE with flags of last time while the server is away, and READY once it has answered", async () => {
    await peer.stop();
    const { events, features } = await registered({ bootstrap: rulesetOf(9, [flag()]) });
    expect(await features.getBooleanDetails("new-checkout", false)).toMatchObject({ value: true, reason: "STATIC" });
    await vi.waitFor(() => expect(features.providerStatus).toBe("STALE"));
    await peer.start();
    await vi.waitFor(() => expect(features.providerStatus).toBe("READY"), 10_000);
    expect(events.map(({ name }) => name).slice(0, 3)).toEqual(["PROVIDER_READY", "PROVIDER_STALE", "PROVIDER_READY"]);
  });

  test("say ERROR where no flags came in time, and READY once they come", async () => {
    await peer.stop();
    const { features, initialised } = await registered();
    await expect(initialised).rejects.toThrow("check the address, the key and the network");
    expect(features.providerStatus).toBe("ERROR");
    const details = await features.getBooleanDetails("new-checkout", true);
    expect(details).toMatchObject({ value: true, errorCode: "PROVIDER_NOT_READY" });
    await peer.start();
    await vi.waitFor(() => expect(features.providerStatus).toBe("READY"), 10_000);
    expect(await features.getBooleanValue("new-checkout", false)).toBe(true);
  });

  test("say ERROR when the key is refused later, while the last flags are evaluated with", async () => {
    const { features } = await registered({ streams: ["sse"] });
    await vi.waitFor(() => expect(peer.streams.size).toBe(1));
    peer.refuse = { ruleset: 401, stream: 401, socket: 401 };
    for (const stream of peer.streams) stream.destroy();
    await vi.waitFor(() => expect(features.providerStatus).toBe("ERROR"), 10_000);
    expect(await features.getBooleanValue("new-checkout", false)).toBe(true);
  });

  test("say FATAL where the key is refused from the start", async () => {
    peer.refuse = { ruleset: 401, stream: 401, socket: 401 };
    const { features, initialised } = await registered();
    await expect(initialised).rejects.toThrow("refuses the SDK key: make a new one");
    expect(features.providerStatus).toBe("FATAL");
  });
});

test("tracking is a metric of the targeting key", async () => {
  const { client, features } = await registered();
  features.track("checkout-completed", { targetingKey: "user-42" }, { value: 99.5, currency: "EUR" });
  features.track("visited", { targetingKey: "user-42" });
  await client.flush();
  expect(peer.batches.flatMap(({ events }) => events)).toMatchObject([
    { kind: "metric", metric: "checkout-completed", unit: "user-42", value: 99.5 },
    { kind: "metric", metric: "visited", unit: "user-42", value: 1 },
  ]);
});

test("a Worker hands over the client of its isolate, once that has flags", async () => {
  const worker = createWorkersClient({ serverKey: SERVER_KEY, url: peer.url, logger, events: false });
  expect(await worker.ready({ waitUntil: () => {} })).toBe(true);
  await OpenFeature.setProviderAndWait(new BuntingProvider(worker.client));
  const features = OpenFeature.getClient();
  expect(await features.getBooleanDetails("new-checkout", false)).toMatchObject({ value: true, reason: "STATIC" });
  expect(features.providerStatus).toBe("READY");
});

test("closing OpenFeature closes the client", async () => {
  const { client } = await registered();
  await OpenFeature.clearProviders();
  expect(client.status().closed).toBe(true);
});
