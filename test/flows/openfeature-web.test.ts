/** Our provider for OpenFeature's SDK for browsers, with the client for browsers and the Worker: contexts, events, tracking. */
import { type BrowserOptions, createClient } from "@bunting/sdk/browser";
import { BuntingWebProvider } from "@bunting/sdk/openfeature-web";
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { bundle, freePort, Server } from "../support/server.ts";

const ENTRY = "workers/index.ts";
let server: Server;
let clientKey: string;
let targeting: string;
/** Ends the listening of a test. */
let over: AbortController;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const { flags, path } = await server.environment();
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" }));
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "new-checkout", type: "boolean", variations, clientSide: true });
  targeting = `${flags}/new-checkout/environments/production`;
  const conditions = [{ attribute: "/account/since", op: "before", values: ["2026-01-01T00:00:00Z"] }];
  const rules = [{ conditions, serve: { variation: "on" } }];
  await server.ask("PATCH", targeting, { on: true, rules, fallthrough: { variation: "off" } });
});
afterAll(() => server.dispose());

beforeEach(() => {
  over = new AbortController();
});
afterEach(async () => {
  over.abort();
  await OpenFeature.clearProviders();
  await OpenFeature.setContext({});
});

const quiet = { warn() {}, error() {} };
const old = { targetingKey: "ada", account: { since: new Date("2025-06-01") } };
const young = { targetingKey: "grace", account: { since: new Date("2026-06-01") } };

async function registered(options: Partial<BrowserOptions> = {}) {
  const client = createClient({ clientKey, url: server.url, cache: false, logger: quiet, ...options });
  const features = OpenFeature.getClient();
  const emitted: { name: string; value: boolean; flags?: string[] | undefined }[] = [];
  for (const name of Object.values(ProviderEvents)) {
    const listen = (details: unknown) => {
      const flags = (details as { flagsChanged?: string[] } | undefined)?.flagsChanged;
      emitted.push({ name, value: features.getBooleanValue("new-checkout", false), ...(flags && { flags }) });
    };
    features.addHandler(name, listen, { signal: over.signal });
  }
  await OpenFeature.setProviderAndWait(new BuntingWebProvider(client, { readyMs: 1_000 })).catch(() => {});
  return { client, features, emitted };
}

test("the context is the client's, dates in it are dates, and a value is there at once", async () => {
  await OpenFeature.setContext(old);
  const { features } = await registered();
  expect(features.getBooleanDetails("new-checkout", false)).toMatchObject({
    value: true,
    variant: "on",
    reason: "TARGETING_MATCH",
    flagMetadata: { flagVersion: expect.any(Number), buntingReason: "RULE_MATCH" },
  });
});

test("while another context is reconciled the values of the one before are served, never the defaults", async () => {
  await OpenFeature.setContext(old);
  const { features, emitted } = await registered();
  emitted.length = 0;
  const reconciled = OpenFeature.setContext(young);
  expect(features.providerStatus).toBe("RECONCILING");
  expect(features.getBooleanValue("new-checkout", false)).toBe(true);
  await reconciled;
  expect(features.getBooleanValue("new-checkout", true)).toBe(false);
  expect(features.providerStatus).toBe("READY");
  expect(emitted.map(({ name }) => name)).toEqual([
    ProviderEvents.Reconciling,
    ProviderEvents.ConfigurationChanged,
    ProviderEvents.ContextChanged,
  ]);
  expect(emitted.at(-1)?.value).toBe(false);
});

test("an empty context leaves the client its own", async () => {
  const { features } = await registered({ context: { account: { since: "2025-06-01T00:00:00Z" } } });
  expect(features.getBooleanValue("new-checkout", false)).toBe(true);
});

test("a kill says which flag has changed, once its value has", async () => {
  await OpenFeature.setContext(old);
  const { client, features, emitted } = await registered();
  await vi.waitFor(() => expect(client.status().transport).toBe("websocket"));
  await server.ask("POST", `${targeting}/kill`, { reason: "test" });
  const name = ProviderEvents.ConfigurationChanged;
  await vi.waitFor(() => expect(emitted).toContainEqual({ name, value: false, flags: ["new-checkout"] }));
  expect(features.getBooleanDetails("new-checkout", true)).toMatchObject({ value: false, reason: "DISABLED" });
  await server.ask("POST", `${targeting}/restore`, { reason: "test" });
});

test("a context that nobody answers for leaves the provider in error with the values it had, until somebody does", async () => {
  await OpenFeature.setContext(old);
  let isAway = false;
  const away: NonNullable<BrowserOptions["fetch"]> = (url, init) =>
    isAway ? Promise.reject(new TypeError("no network")) : fetch(url, init);
  const { features } = await registered({ fetch: away, streams: [] });
  isAway = true;
  await OpenFeature.setContext(young);
  expect(features.providerStatus).toBe("ERROR");
  expect(features.getBooleanValue("new-checkout", false)).toBe(true);
  isAway = false;
  await vi.waitFor(() => expect(features.getBooleanValue("new-checkout", true)).toBe(false), 15_000);
  expect(features.providerStatus).toBe("READY");
});

test("values of last time are served, as STALE, while the server is away", async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  const flag = { value: true, variation: "on", reason: "STATIC", version: 1 } as const;
  const { features } = await registered({ url, bootstrap: { revision: 1, flags: { "new-checkout": flag } } });
  await vi.waitFor(() => expect(features.providerStatus).toBe("STALE"));
  expect(features.getBooleanValue("new-checkout", false)).toBe(true);
});

test("tracking is a metric of the visitor", async () => {
  await OpenFeature.setContext(old);
  const batches: string[] = [];
  const watched: NonNullable<BrowserOptions["fetch"]> = (url, init) => {
    if (url.includes("/events")) batches.push(String(init?.body));
    return fetch(url, init);
  };
  const { client, features } = await registered({ fetch: watched });
  features.track("ordered", { value: 99.5, currency: "EUR" });
  await client.flush();
  const events = batches.flatMap((batch) => JSON.parse(batch).events);
  expect(events).toContainEqual(
    expect.objectContaining({ kind: "metric", metric: "ordered", unit: "ada", value: 99.5 }),
  );
  expect(client.status().events).toEqual({ buffered: 0, dropped: 0 });
});
