/** What a page's client sends and stores, with a server that answers every request; test/browser has the real one. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { newStorage } from "../../test/support/visitor.ts";
import { type BrowserClient, type BrowserOptions, type Context, createClient, type DeviceStorage } from "./browser.ts";

let client: BrowserClient;
let asked: { path: string; body: { context: Context; events: object[] } }[] = [];
afterEach(async () => {
  await client.close();
  vi.restoreAllMocks();
  asked = [];
});

/** Answers each visitor's own name as the flag "who". */
const answer: NonNullable<BrowserOptions["fetch"]> = async (url, init) => {
  const { pathname: path } = new URL(url);
  const body = JSON.parse(init.body!);
  asked.push({ path, body });
  if (path.endsWith("/events")) return new Response(null, { status: 202 });
  const flag = { value: String(body.context.targetingKey), variation: "a", reason: "FALLTHROUGH", version: 1 };
  return Response.json({ revision: 5, flags: { who: flag } });
};

function open(options: Partial<BrowserOptions> = {}): BrowserClient {
  const logger = { warn: () => {}, error: () => {} };
  const url = "http://flags.test";
  client = createClient({
    clientKey: "bnt_cli_e_x",
    url,
    streams: [],
    cache: false,
    fetch: answer,
    logger,
    ...options,
  });
  return client;
}

describe("whom the flags are for", () => {
  test("a visitor without a user has the anonymous id, for metrics too, however the context says that there is none", async () => {
    for (const nobody of [undefined, null as unknown as undefined]) {
      asked = [];
      open({ context: { targetingKey: nobody, plan: "pro" } });
      await client.ready();
      const { anonymousId } = client.context;
      expect(client.context).toEqual({ targetingKey: anonymousId, anonymousId, plan: "pro" });
      expect(client.string("who", "")).toBe(anonymousId);
      client.track("bought");
      await client.close();
      expect(asked.at(-1)?.body.events[0]).toMatchObject({ kind: "metric", metric: "bought", unit: anonymousId });
    }
  });

  test("a context that is no JSON is refused and changes nothing", async () => {
    open({ context: { targetingKey: "ada" } });
    await client.ready();
    expect(() => client.setContext({ targetingKey: "ben", age: 1n })).toThrow(TypeError);
    expect(client.context).toMatchObject({ targetingKey: "ada" });
  });

  test("a context that a listener sets has its values when its promise says so", async () => {
    open({ context: { targetingKey: "ada" } });
    await client.ready();
    const seen = new Promise((resolve) => {
      const off = client.on("change", () => {
        off();
        void client.setContext({ targetingKey: "cem" }).then(() => resolve(client.string("who", "")));
      });
    });
    await client.setContext({ targetingKey: "ben" });
    expect(await seen).toBe("cem");
  });

  test("contexts that change within one tick of a coarse clock all resolve", async () => {
    open({ context: { targetingKey: "ada" } });
    await client.ready();
    vi.spyOn(performance, "now").mockReturnValue(performance.now());
    for (const targetingKey of ["ben", "cem", "dora"]) {
      const settled = client.setContext({ targetingKey }).then(() => true);
      expect(await Promise.race([settled, new Promise((resolve) => setTimeout(resolve, 1_000, false))])).toBe(true);
      expect(client.string("who", "")).toBe(targetingKey);
    }
  });
});

describe("a new context that gets no values", () => {
  const unauthorised = async () => new Response(null, { status: 401 });
  const unreachable = () => Promise.reject(new TypeError("no network"));
  const silent: NonNullable<BrowserOptions["fetch"]> = (_, { signal }) =>
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  const after = (next: NonNullable<BrowserOptions["fetch"]>, options: Partial<BrowserOptions> = {}) => {
    let reply = answer;
    open({ context: { targetingKey: "ada" }, fetch: (url, init) => reply(url, init), events: false, ...options });
    return async () => {
      await client.ready();
      reply = next;
      return () => {
        reply = answer;
      };
    };
  };

  test("resolves to false when the key is refused, and the previous context's values are served", async () => {
    await after(unauthorised)();
    expect(await client.setContext({ targetingKey: "ben" }, { timeoutMs: Number.POSITIVE_INFINITY })).toBe(false);
    expect(client.status()).toMatchObject({ refused: true, connected: false });
    expect(client.string("who", "")).toBe("ada");
  });

  test.each([
    ["cannot be reached", unreachable],
    ["says nothing", silent],
  ])("resolves to false when the time is up and the server %s, and no values count as confirmed", async (_, next) => {
    await after(next)();
    expect(await client.setContext({ targetingKey: "ben" }, { timeoutMs: 20 })).toBe(false);
    expect(client.status()).toMatchObject({ connected: false, verifiedAgeMs: null });
    expect(client.string("who", "")).toBe("ada");
    expect(client.context).toMatchObject({ targetingKey: "ben" });
  });

  test("has them as soon as somebody answers, though its time was up", async () => {
    const back = await after(unreachable)();
    const changed = new Promise((resolve) => client.on("change", resolve));
    expect(await client.setContext({ targetingKey: "ben" }, { timeoutMs: 1 })).toBe(false);
    back();
    await changed;
    expect(client.string("who", "")).toBe("ben");
    expect(client.status()).toMatchObject({ connected: true });
  });

  test.each([
    ["refuses the key", unauthorised],
    ["cannot be reached", unreachable],
    ["says nothing", silent],
  ])("has what the device kept for it, when the server %s", async (_, next) => {
    const make = after(next, { cache: newStorage() });
    await client.ready();
    expect(await client.setContext({ targetingKey: "ben" })).toBe(true);
    expect(await client.setContext({ targetingKey: "ada" })).toBe(true);
    await make();
    expect(await client.setContext({ targetingKey: "ben" }, { timeoutMs: 50 })).toBe(true);
    expect(client.string("who", "")).toBe("ben");
  });

  test("resolves when the client is closed, and at once where it is or where a server draws", async () => {
    await after(silent)();
    const asked = client.setContext({ targetingKey: "ben" }, { timeoutMs: Number.POSITIVE_INFINITY });
    await client.close();
    expect(await asked).toBe(false);
    expect(await client.setContext({ targetingKey: "cem" })).toBe(false);
    expect(await open({ offline: true }).setContext({ targetingKey: "cem" })).toBe(false);
  });
});

test("waits for the first values for as long as `timeoutMs` says, however long that is", async () => {
  let reply = () => {};
  const late = new Promise<void>((resolve) => {
    reply = resolve;
  });
  open({ fetch: async (url, init) => late.then(() => answer(url, init)) });
  const ready = client.ready({ timeoutMs: Number.POSITIVE_INFINITY });
  setTimeout(reply, 20);
  expect(await ready).toBe(true);
});

test.each([
  ["REFUSED", async () => new Response(null, { status: 401 }), "Bunting: REFUSED, the server answered 401"],
  ["UNREACHABLE", () => Promise.reject(new TypeError("Failed to fetch")), "Bunting: UNREACHABLE, Failed to fetch"],
] as const)("the log names the documented code: %s", async (_, fetch, message) => {
  const error = vi.fn();
  open({ fetch, logger: { warn: () => {}, error }, events: false });
  await vi.waitFor(() => expect(error).toHaveBeenCalledWith(message));
});

describe("on a device", () => {
  const name = "bunting:bnt_cli_e_x";

  test("what it kept is served before anybody answers", async () => {
    const cache = newStorage();
    await open({ cache, context: { targetingKey: "ada" } }).ready();
    await client.close();
    expect(open({ cache, context: { targetingKey: "ada" } }).string("who", "default")).toBe("ada");
  });

  test.each([
    ["cut off", (kept: string) => kept.slice(0, -10)],
    ["no object", () => "[1]"],
    ["of somebody else", () => '"mine"'],
    ["of values that are none", (kept: string) => kept.replace(/"flags":\{.*?\}\}/g, '"flags":{"who":7}')],
    ["without a revision", (kept: string) => kept.replace('"revision":5', '"revision":"five"')],
  ])("an entry that is %s is nothing kept, and is written over", async (_, damage) => {
    const cache = newStorage();
    await open({ cache, context: { targetingKey: "ada" } }).ready();
    await client.close();
    const whole = cache.getItem(name)!;
    const damaged = damage(whole);
    expect(damaged).not.toBe(whole);
    cache.setItem(name, damaged);
    expect(open({ cache, context: { targetingKey: "ada" } }).string("who", "default")).toBe("default");
    await client.ready();
    expect(client.string("who", "default")).toBe("ada");
    expect(cache.getItem(name)).toBe(whole);
  });

  test.each<[string, Partial<DeviceStorage>]>([
    ["is full", { getItem: () => null }],
    ["is full of what it had", { getItem: (key: string) => (key === name ? "{}" : "the-id-it-had") }],
    ["may not be used", {}],
  ])("storage that %s keeps nothing, and flags are served all the same", async (_, reading) => {
    const refuse = () => {
      throw new DOMException("no", "QuotaExceededError");
    };
    open({ cache: { getItem: refuse, setItem: refuse, ...reading } });
    expect(await client.ready()).toBe(true);
    const { anonymousId } = client.context;
    expect(anonymousId).toMatch(reading.getItem?.("") ? /^the-id-it-had$/ : /^[0-9a-f-]{36}$/);
    expect(client.string("who", "default")).toBe(anonymousId);
    expect(await client.setContext({ targetingKey: "ben" })).toBe(true);
    expect(client.context).toEqual({ targetingKey: "ben", anonymousId });
  });
});

describe("where a server draws", () => {
  const who = { value: "from the page", variation: "a", reason: "STATIC", version: 1 } as const;

  test("nothing is requested or sent, and visitors share no storage", async () => {
    const getItem = vi.fn(() => null);
    const setItem = vi.fn();
    open({ offline: true, bootstrap: { revision: 1, flags: { who } }, cache: { getItem, setItem } });
    expect(client.string("who", "")).toBe("from the page");
    client.track("seen");
    await client.flush();
    await client.close();
    expect(asked).toEqual([]);
    expect(getItem).not.toHaveBeenCalled();
    expect(setItem).not.toHaveBeenCalled();
  });
});

describe("change", () => {
  /** Answers whatever is next in the list, and the last for ever. */
  const answering = (...answers: object[]): Partial<BrowserOptions> => {
    let next = 0;
    return {
      fetch: async () => {
        const flags = answers[Math.min(next++, answers.length - 1)];
        return Response.json({ revision: 5 + next, flags });
      },
    };
  };
  const theme = { value: "dark", variation: "a", reason: "FALLTHROUGH", version: 1 };

  test("is no change where a flag is as it was for this visitor, though not for others: all() stays the same object", async () => {
    open(answering({ theme }, { theme: { ...theme, version: 2 } }));
    await client.ready();
    const changed = vi.fn();
    client.on("change", changed);
    const before = client.all();
    await client.setContext({ targetingKey: "ada" });
    expect(client.status().revision).toBe(7);
    expect(client.all()).toBe(before);
    expect(changed).not.toHaveBeenCalled();
    // Its evaluations are those of the new version.
    expect(client.details("theme", "").flagVersion).toBe(2);
  });

  test.each([
    ["value", { value: "light" }],
    ["variation", { variation: "b" }],
    ["reason", { reason: "RULE_MATCH" }],
    ["exposure", { exposure: { unit: "ada", experiment: null, unitType: "user" } }],
  ])("is one where the %s differs, also to whoever waits for that flag alone", async (_, more) => {
    open(answering({ theme, other: theme }, { theme: { ...theme, version: 2, ...more }, other: theme }));
    await client.ready();
    const [any, own, others] = [vi.fn(), vi.fn(), vi.fn()];
    client.on("change", any);
    client.once("change:theme", own);
    client.on("change:other", others);
    await client.setContext({ targetingKey: "ada" });
    expect(any).toHaveBeenCalledExactlyOnceWith({ revision: 7, flags: ["theme"] });
    expect(own).toHaveBeenCalledExactlyOnceWith({ revision: 7, flags: ["theme"] });
    expect(others).not.toHaveBeenCalled();
  });

  test("of a frozen bootstrap's version is not one either", async () => {
    const bootstrap = { revision: 1, flags: { theme: Object.freeze({ ...theme }) } } as never;
    open({ ...answering({ theme: { ...theme, version: 2 } }), bootstrap });
    const changed = vi.fn();
    client.on("change", changed);
    await client.ready();
    expect(changed).not.toHaveBeenCalled();
    expect(client.all().theme).toBe((bootstrap as { flags: { theme: object } }).flags.theme);
  });
});

test("setContext() takes a function of the present context, to change a part of it", async () => {
  open({ context: { targetingKey: "ada", plan: "free" } });
  await client.ready();
  await client.setContext((context) => ({ ...context, plan: "pro" }));
  expect(client.context).toMatchObject({ targetingKey: "ada", plan: "pro" });
});

describe("a warning", () => {
  const quiet = () => {
    const warn = vi.fn();
    return { warn, logger: { warn, error: () => {} } };
  };
  test.each([
    ["a flag that no page is served", "hidden", /clientSide/],
    ["a value of another type", "who", /"who" has no boolean value/],
    ["a missing key of a split", "split", /pass a targetingKey/],
  ])("is logged once, of %s", async (_, key, sentence) => {
    const { warn, logger } = quiet();
    const split = { value: null, variation: null, reason: "ERROR", errorCode: "TARGETING_KEY_MISSING", version: 1 };
    const who = { value: "ada", variation: "a", reason: "STATIC", version: 1 };
    open({ logger, fetch: async () => Response.json({ revision: 5, flags: { who, split } }) });
    client.boolean(key, false);
    expect(warn, "nothing is known yet").not.toHaveBeenCalled();
    await client.ready();
    client.boolean(key, false);
    client.boolean(key, false);
    await vi.waitFor(() => expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(sentence)));
  });

  test.each([
    [400, "INVALID_RESPONSE"],
    [413, "INVALID_RESPONSE"],
    [404, "UNREACHABLE"],
    [408, "UNREACHABLE"],
    [429, "UNREACHABLE"],
    [503, "UNREACHABLE"],
  ])("of a request that is answered %i is an error %s: what no repetition helps is no outage", async (status, code) => {
    const errors = vi.fn();
    open({ fetch: async () => Response.json({ detail: "It has no such thing." }, { status }) });
    client.on("error", errors);
    await vi.waitFor(() => expect(errors).toHaveBeenCalledOnce());
    expect(errors).toHaveBeenCalledWith({ code, message: expect.stringContaining("It has no such thing.") });
  });

  test("of a refused origin says what the server says", async () => {
    const error = vi.fn();
    const detail = "This client key may not be used from this origin.";
    const headers = { "content-type": "application/problem+json" };
    const refuse = async () => new Response(JSON.stringify({ detail }), { status: 403, headers });
    open({ logger: { warn() {}, error }, fetch: refuse });
    expect(await client.ready()).toBe(false);
    expect(error).toHaveBeenCalledWith(expect.stringContaining(detail));
  });
});

test.each(["", 42, true, {}])(
  "a targeting key of %j is none: the visitor is anonymous, and no earlier user's values stay",
  async (key) => {
    open({ context: { targetingKey: "ada" } });
    await client.ready();
    expect(await client.setContext({ targetingKey: key as string, plan: "pro" })).toBe(true);
    const { anonymousId } = client.context;
    expect(client.context.targetingKey).toBe(anonymousId);
    expect(client.string("who", "")).toBe(anonymousId);
  },
);
