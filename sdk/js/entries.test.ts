/** What all entries have in common, each of its kind. */
import { OpenFeature } from "@openfeature/server-sdk";
import { OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, describe, expect, test, vi } from "vitest";
import { booleanFlag, rulesetOf } from "../../test/support/peer.ts";
import { type BrowserClient, createClient as createBrowserClient } from "./browser.ts";
import { createClient as createNoClient } from "./index.ts";
import { createClient as createNodeClient } from "./node.ts";
import { BuntingProvider } from "./openfeature-server.ts";
import { BuntingWebProvider } from "./openfeature-web.ts";
import { BuntingProvider as ReactProvider, useFlag } from "./react.tsx";
import { createTestBrowserClient, createTestClient } from "./testing.ts";
import { createClient as createWorkersClient } from "./workers.ts";

const logger = { warn() {}, error() {} };
const ruleset = rulesetOf(5, [booleanFlag("new-checkout", true, 1)]);
const flag = { value: true, variation: "on", reason: "STATIC", version: 1 };
const answer = async (url: string) =>
  url.includes("/events")
    ? new Response(null, { status: 202 })
    : Response.json(url.includes("/client/") ? { revision: 5, flags: { "new-checkout": flag } } : ruleset);
const shared = { url: "http://flags.test", streams: [], logger, fetch: answer };
const serverKey = "bnt_srv_e_x";
const clientKey = "bnt_cli_e_x";
const ctx = { waitUntil() {} };

const page = () => createBrowserClient({ ...shared, clientKey, cache: false });
const worker = () => createWorkersClient({ ...shared, serverKey, binding: { fetch: answer } });
type Closing = Pick<BrowserClient, "ready" | "status" | "close"> & AsyncDisposable;
const clients: Record<string, () => Closing | Promise<Closing>> = {
  "/node": () => createNodeClient({ ...shared, serverKey }) as unknown as Closing,
  "/workers": async () => (await worker().forRequest(ctx)) as unknown as Closing,
  "/browser": page,
  "/testing": () => createTestClient() as unknown as Closing,
  "/testing, for pages": () => createTestBrowserClient(),
};

afterEach(() => vi.restoreAllMocks());

describe("a closed client says so: neither ready nor connected, in", () => {
  test.each(Object.entries(clients))("%s", async (_, make) => {
    const client = await make();
    expect(await client.ready()).toBe(true);
    expect(client.status()).toMatchObject({ ready: true, connected: true, closed: false });
    await client.close();
    expect(await client.ready()).toBe(false);
    expect(client.status()).toMatchObject({ ready: false, connected: false, closed: true });
    await client.close();
  });

  test("/workers, which asks nobody any more", async () => {
    const asked = vi.fn(answer);
    const workers = createWorkersClient({ ...shared, serverKey, binding: { fetch: asked } });
    const client = await workers.forRequest(ctx);
    await client.close();
    const before = asked.mock.calls.length;
    await workers.forRequest(ctx);
    expect(await workers.refresh(ctx)).toBe(false);
    expect(asked.mock.calls.length).toBe(before);
  });
});

describe("`await using` closes, in", () => {
  test.each(Object.entries(clients))("%s", async (_, make) => {
    let kept: Closing;
    {
      await using client = await make();
      kept = client;
    }
    expect(kept.status().closed).toBe(true);
  });
});

describe("a provider that was closed with its client is not ready when it is registered again", () => {
  test("on servers", async () => {
    for (const client of [createNodeClient({ ...shared, serverKey }), createTestClient()]) {
      const provider = new BuntingProvider(client);
      await OpenFeature.setProviderAndWait("closed", provider);
      await provider.onClose();
      await expect(provider.initialize()).rejects.toThrow(/new client/);
    }
    await OpenFeature.clearProviders();
  });

  test("in pages", async () => {
    for (const client of [page(), createTestBrowserClient()]) {
      const provider = new BuntingWebProvider(client);
      await WebOpenFeature.setProviderAndWait("closed", provider);
      await provider.onClose();
      await expect(provider.initialize()).rejects.toThrow(/new client/);
    }
    await WebOpenFeature.clearProviders();
  });
});

describe("null is as good as absent", () => {
  const nulls = (...names: string[]) => Object.fromEntries(names.map((name) => [name, null])) as never;
  const events = nulls("sendAttributes", "privateAttributes", "maxBuffered");

  test("for every option of /node", async () => {
    const options = nulls("name", "bootstrap", "cache", "streams", "events", "logger", "fetch");
    const client = createNodeClient({ ...(options as object), serverKey, url: "http://127.0.0.1:9", logger });
    expect(client.status()).toMatchObject({ revision: null, closed: false });
    await client.close();
    const other = createNodeClient({ ...shared, serverKey, events });
    expect(await other.ready({ timeoutMs: null })).toBe(true);
    expect(await other.ready(null)).toBe(true);
    await other.close();
  });

  test("for every option of /workers", async () => {
    const options = nulls(
      "url",
      "name",
      "bootstrap",
      "cache",
      "revalidateMs",
      "verifyMs",
      "waitMs",
      "startMs",
      "flushMs",
    );
    const workers = createWorkersClient({
      ...(options as object),
      logger,
      events,
      serverKey,
      binding: { fetch: answer },
    });
    expect((await workers.forRequest(ctx)).boolean("new-checkout", false)).toBe(true);
  });

  test("for every option of /browser, and what the device kept is served", async () => {
    const kept = new Map<string, string>();
    const cache = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, text: string) => void kept.set(key, text),
    };
    const first = createBrowserClient({ ...shared, clientKey, cache });
    await first.ready();
    await first.close();
    const options = nulls("context", "name", "bootstrap", "offline", "events");
    const client = createBrowserClient({ ...shared, ...(options as object), clientKey, cache });
    expect(client.boolean("new-checkout", false)).toBe(true);
    expect(await client.ready(null)).toBe(true);
    expect(await client.setContext({ plan: "pro" }, { timeoutMs: null })).toBe(true);
    await client.close();
  });

  test("for the options of providers and test clients", async () => {
    expect(new BuntingProvider(createTestClient(null), null)).toBeTruthy();
    expect(new BuntingWebProvider(createTestBrowserClient(null), { readyMs: null })).toBeTruthy();
    expect(createTestBrowserClient({ flags: null, context: null }).all()).toEqual({});
  });
});

/** As at module level of a Worker, where the platform allows no random numbers, no requests and no timers. */
function forbidEverything(): void {
  const forbid = (what: string) => () => {
    throw new Error(`${what} at module level`);
  };
  vi.spyOn(Math, "random").mockImplementation(forbid("a random number"));
  vi.spyOn(crypto, "getRandomValues").mockImplementation(forbid("a random number"));
  vi.spyOn(crypto, "randomUUID").mockImplementation(forbid("a random number"));
  vi.spyOn(globalThis, "fetch").mockImplementation(forbid("a request"));
  vi.spyOn(globalThis, "setTimeout").mockImplementation(forbid("a timer") as never);
  vi.spyOn(globalThis, "setInterval").mockImplementation(forbid("a timer") as never);
}

describe("at module level nothing random, no request and no timer is needed", () => {
  test.each([
    "browser",
    "explain",
    "node",
    "openfeature-server",
    "openfeature-web",
    "sse",
    "testing",
    "workers",
    "react",
  ])("to load /%s", async (entry) => {
    vi.resetModules();
    forbidEverything();
    await expect(import(`./${entry}.ts${entry === "react" ? "x" : ""}`)).resolves.toBeTruthy();
  });

  test("to make a client of /workers, of /browser where a server draws, or of /testing", () => {
    forbidEverything();
    const drawn = createBrowserClient({
      url: "https://flags.example.com",
      clientKey,
      offline: true,
      bootstrap: { revision: 1, flags: { "new-checkout": flag as never } },
    });
    expect(drawn.boolean("new-checkout", false)).toBe(true);
    expect(worker()).toBeTruthy();
    expect(createTestClient().boolean("new-checkout", true)).toBe(true);
    expect(createTestBrowserClient().boolean("new-checkout", true)).toBe(true);
  });
});

/** What every object has, and no environment of this test. */
const INHERITED = Object.getOwnPropertyNames(Object.prototype);

describe("a key that every object has is the key of no flag, and may be one's own, in", () => {
  const getters = (client: { json(key: string, value: null): unknown; all(): object }) =>
    INHERITED.map((key) => [client.json(key, null), (client.all() as Record<string, unknown>)[key]]);
  const nobody = INHERITED.map(() => [null, undefined]);

  test.each(Object.entries(clients))("%s", async (_, make) => {
    const client = (await make()) as unknown as Parameters<typeof getters>[0] & Closing;
    await client.ready();
    expect(getters(client)).toEqual(nobody);
    await client.close();
  });

  test("/browser, also after such a flag was there and is gone", async () => {
    const served = Object.fromEntries(INHERITED.filter((key) => key !== "__proto__").map((key) => [key, flag]));
    let flags: object = served;
    const client = createBrowserClient({
      ...shared,
      clientKey,
      cache: false,
      fetch: async () => Response.json({ revision: 5, flags }),
    });
    await client.ready();
    expect(client.boolean("valueOf", false)).toBe(true);
    flags = {};
    await client.setContext({ plan: "pro" });
    expect(getters(client)).toEqual(nobody);
    await client.close();
  });

  test("/react, where a server draws", () => {
    const client = createBrowserClient({ ...shared, clientKey, offline: true });
    const Drawn = ({ name }: { name: string }) => createElement("i", null, JSON.stringify(useFlag(name, 7)));
    const all = INHERITED.map((name) => createElement(Drawn, { name, key: name }));
    const drawn = renderToString(createElement(ReactProvider, { client }, ...all));
    expect(drawn).toBe("<i>7</i>".repeat(INHERITED.length));
  });
});

test("the package's own name has no client, and says where they are", () => {
  expect(createNoClient).toThrow(/@bunting\/sdk\/node, @bunting\/sdk\/workers or @bunting\/sdk\/browser/);
});

test("forContext() answers as the getters do with that context, and tracks it", () => {
  const client = createTestClient({ flags: { theme: ({ plan }) => (plan === "gold" ? "dark" : "light") } });
  const bound = client.forContext({ targetingKey: "ada", plan: "gold" });
  expect(bound.string("theme", "")).toBe("dark");
  expect(bound.details("theme", "")).toMatchObject({ value: "dark", reason: "RULE_MATCH" });
  expect([bound.boolean("no", true), bound.number("no", 7), bound.json("no", [1])]).toEqual([true, 7, [1]]);
  expect(Object.keys(bound.all())).toEqual(["theme"]);
  bound.track("bought", 3);
  expect(client.tracked).toMatchObject([{ metric: "bought", unit: "ada", value: 3 }]);
  expect(client.evaluations.every(({ context }) => context.targetingKey === "ada")).toBe(true);
});
