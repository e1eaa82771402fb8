import { env } from "cloudflare:workers";
import type { Ruleset } from "@bunting/core";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { Relay } from "../../durable-objects/relay/relay.ts";
import { limitReader } from "../../workers/edge/read-limit.ts";
import { sha256 } from "../../workers/platform/sha256.ts";
import { evaluateRemotely, fetchPath, newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";

let place: Place;

beforeAll(async () => {
  place = await newPlace(["https://shop.example"]);
});

describe("SDK keys", () => {
  const refused: [string, RequestInit, string, number][] = [
    ["no key", {}, "/sdk/v1/ruleset", 401],
    ["something else", { headers: withKey("hello") }, "/sdk/v1/ruleset", 401],
    ["an API token", { headers: withKey("bnt_api_0123456789") }, "/sdk/v1/ruleset", 401],
    [
      "a made-up environment",
      { headers: withKey(`bnt_srv_${"0".repeat(20)}_${"1".repeat(40)}`) },
      "/sdk/v1/ruleset",
      401,
    ],
  ];
  for (const [what, init, path, status] of refused) {
    test(`${what} is refused with a problem that says what to send`, async () => {
      const response = await fetchPath(path, init);
      expect(response.status).toBe(status);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(await response.json()).toMatchObject({
        status,
        code: "unauthenticated",
        correlationId: expect.any(String),
      });
    });
  }

  test("a wrong secret for a real environment is refused, and so is a server key in a URL", async () => {
    const wrong = place.serverKey.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    expect((await fetchPath("/sdk/v1/ruleset", { headers: withKey(wrong) })).status).toBe(401);
    const inUrl = await fetchPath(`/sdk/v1/ruleset?key=${place.serverKey}`);
    expect(await inUrl.json()).toMatchObject({ status: 401, code: "key-in-url" });
  });

  test("a client key never reads rules", async () => {
    for (const path of ["/sdk/v1/ruleset", "/sdk/v1/stream", "/sdk/v1/socket"]) {
      expect((await fetchPath(path, { headers: withKey(place.clientKey) })).status).toBe(403);
    }
  });

  test("a client key works from its origins and from no browser elsewhere", async () => {
    await turnedOn(place, "in-browser", { clientSide: true });
    const from = (origin: string) =>
      evaluateRemotely(
        place.clientKey,
        "in-browser",
        { targetingKey: "u" },
        {
          headers: withKey(place.clientKey, { "content-type": "application/json", origin }),
        },
      );
    expect((await from("https://shop.example")).status).toBe(200);
    expect((await from("https://evil.example")).status).toBe(403);
  });

  test("a new key works at once, on an isolate that has just checked", async () => {
    const keys = `/projects/${place.project}/environments/production/keys`;
    for (let times = 0; times < 5; times++) {
      const { body } = await place.api("POST", keys, { kind: "server" });
      expect((await fetchPath("/sdk/v1/ruleset", { headers: withKey(body.key) })).status).toBe(200);
    }
  });

  test("an address that keeps trying keys that are not good is told to wait, and nobody else is", async () => {
    const attempt = (address: string, key = `bnt_srv_${"0".repeat(20)}_${"2".repeat(40)}`) =>
      fetchPath("/sdk/v1/ruleset", { headers: withKey(key, { "cf-connecting-ip": address }) });
    const statuses = new Set<number>();
    let last: Response | undefined;
    for (const response of await Promise.all(Array.from({ length: 150 }, () => attempt("192.0.2.7")))) {
      last = response;
      statuses.add(response.status);
    }
    expect([...statuses]).toEqual([401, 429]);
    expect(Number(last?.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await attempt("192.0.2.8", place.serverKey)).status).toBe(200);
    expect((await attempt("192.0.2.7", place.serverKey)).status).toBe(200);
  });

  test("an IPv6 network counts as one address, however it is written: whoever has one of them has all", async () => {
    const attempt = async (address: string) => {
      const key = `bnt_srv_${"0".repeat(20)}_${"3".repeat(40)}`;
      return (await fetchPath("/sdk/v1/ruleset", { headers: withKey(key, { "cf-connecting-ip": address }) })).status;
    };
    // So that nothing is granted meanwhile.
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => void vi.useRealTimers());
    const hosts = Array.from({ length: 150 }, (_, host) => attempt(`2001:db8:0:7::${host.toString(16)}`));
    expect(new Set(await Promise.all(hosts))).toEqual(new Set([401, 429]));
    for (const same of ["2001:db8:0:7:1:2:3:4", "2001:db8::7:1:2:3:4"]) expect(await attempt(same)).toBe(429);
    for (const other of ["2001:db8:0:8::1", "2001:db8::7", "::1", "::ffff:192.0.2.1", "a:b:c:d:e:f:g:h:i::j"]) {
      expect(await attempt(other)).toBe(401);
    }
  });

  test("one instance that asks in a loop is told to wait, and no other (Q9)", async () => {
    const limit = { perSecond: 0.1, burst: 20 };
    const asked = async (instance: string) => {
      limitReader({ env, ctx: { waitUntil: () => {} } }, "hash", instance, limit);
      return 200;
    };
    for (let times = 0; times < limit.burst; times++) expect(await asked("loop")).toBe(200);
    const refused: unknown = await asked("loop").catch((error: unknown) => error);
    expect(refused).toMatchObject({
      status: 429,
      extra: { headers: { "retry-after": expect.stringMatching(/^\d+$/) } },
    });
    expect(await asked("another")).toBe(200);
  });

  test("history has its limit whatever the one who asks for it is called, and does not use up anybody's own", async () => {
    const ask = async (path: string, instance: string) => {
      const headers = withKey(place.serverKey, { "x-bunting-client": `sdk;instance=${instance}` });
      const response = await fetchPath(path, { headers });
      await response.body?.cancel();
      return response.status;
    };
    const past = () => ask("/sdk/v1/ruleset?exact&revision=0", "history");
    const statuses = await Promise.all(Array.from({ length: 150 }, past));
    expect([...new Set(statuses)].sort()).toEqual([404, 429]);
    expect(await ask("/sdk/v1/ruleset", "history")).toBe(200);
  });

  test("one that asks in a loop for what is not there yet costs the relay nothing beyond its limit", async () => {
    const keyHash = await sha256(place.clientKey);
    const address = "192.0.2.9";
    const headers = withKey(place.clientKey, { "cf-connecting-ip": address });
    const ask = () => fetchPath("/client/v1/flags?context=e30&revision=999999999", { headers });
    expect((await ask()).status).toBe(200);
    const asked = vi.spyOn(Relay.prototype, "since");
    const useUp = () => {
      for (;;) limitReader({ env, ctx: { waitUntil: () => {} } }, keyHash, address);
    };
    const refused: number[] = [];
    for (let times = 0; times < 20; times++) {
      expect(useUp).toThrow(expect.objectContaining({ status: 429 }));
      const before = asked.mock.calls.length;
      const { status } = await ask();
      if (status === 429) refused.push(asked.mock.calls.length - before);
    }
    asked.mockRestore();
    expect(refused.length).toBeGreaterThan(0);
    expect(new Set(refused)).toEqual(new Set([0]));
  });

  test("one that asks too often over several isolates is refused once the platform has said so", async () => {
    const waiting: Promise<unknown>[] = [];
    const asking = { env, ctx: { waitUntil: (promise: Promise<unknown>) => void waiting.push(promise) } };
    const unlimitedHere = { perSecond: 1, burst: 1_000_000 };
    const ask = (instance: string) => limitReader(asking, "hash", instance, unlimitedHere);
    // The platform counts each hundredth and grants 40 in ten seconds.
    for (let times = 0; times < 4_900; times++) ask("many");
    await Promise.all(waiting);
    expect(() => ask("many")).toThrow(
      expect.objectContaining({ status: 429, extra: { headers: { "retry-after": "10" } } }),
    );
    ask("few");
  });

  test("a key works until it expires", async () => {
    const keys = `/projects/${place.project}/environments/production/keys`;
    const { body } = await place.api("POST", keys, { kind: "server", expiresAt: Date.now() + 600 });
    const status = async () => (await fetchPath("/sdk/v1/ruleset", { headers: withKey(body.key) })).status;
    await vi.waitFor(async () => expect(await status()).toBe(200));
    await vi.waitFor(async () => expect(await status()).toBe(401), 2_000);
  });

  test("neither key nor hash of a key is in what SDKs are sent", async () => {
    const response = await fetchPath("/sdk/v1/ruleset", { headers: withKey(place.serverKey) });
    const text = await response.text();
    expect(Object.keys(JSON.parse(text)).sort()).toEqual([
      "environment",
      "events",
      "flags",
      "revision",
      "schema",
      "segments",
    ]);
    expect(text).not.toMatch(/bnt_|origins/);
  });
});

describe("GET /sdk/v1/ruleset", () => {
  const ruleset = (revision?: number) =>
    fetchPath(`/sdk/v1/ruleset${revision === undefined ? "" : `?revision=${revision}`}`, {
      headers: withKey(place.serverKey),
    });

  test("named by the revision of a write, it contains that write", async () => {
    const revision = await turnedOn(place, "read-back");
    const document = (await (await ruleset(revision)).json()) as Ruleset;
    expect(document.revision).toBeGreaterThanOrEqual(revision);
    expect(document.flags["read-back"]).toMatchObject({ on: true, killed: false });
  });

  test("its ETag is strong, says 304 while nothing changes, and changes with the revision", async () => {
    const first = await ruleset();
    const etag = first.headers.get("etag") ?? "";
    expect(etag).toMatch(/^"[^"]+"$/);
    await first.arrayBuffer();
    const again = (value: string) =>
      fetchPath("/sdk/v1/ruleset", { headers: withKey(place.serverKey, { "if-none-match": value }) });
    expect((await again(etag)).status).toBe(304);
    expect((await again(`W/"other", ${etag}`)).status).toBe(304);
    expect((await again('"other"')).status).toBe(200);
    const revision = await turnedOn(place, "moves-the-etag");
    expect((await ruleset(revision)).headers.get("etag")).not.toBe(etag);
  });
});

describe("GET /sdk/v1/stream", () => {
  async function open(headers: Record<string, string> = {}) {
    const gone = new AbortController();
    const response = await fetchPath("/sdk/v1/stream", {
      headers: withKey(place.serverKey, headers),
      signal: gone.signal,
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const until = async (part: string) => {
      while (!text.includes(part)) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`The stream ended; it said:\n${text}`);
        text += value;
      }
      return text;
    };
    return { until, reader, gone };
  }

  test("says hello, then each patch with its revision as id", async () => {
    const stream = await open();
    const hello = await stream.until("event: hello");
    expect(hello).not.toContain("\nid:");
    const revision = await turnedOn(place, "streamed");
    expect(await stream.until(`id: ${revision}\n`)).toContain("event: patch");
    await stream.reader.cancel();
  });

  test("Last-Event-ID resumes where the client was", async () => {
    const from = await turnedOn(place, "before-resume");
    const to = await turnedOn(place, "while-away");
    const stream = await open({ "last-event-id": String(from) });
    const text = await stream.until(`id: ${to}\n`);
    expect(text.match(/^id: \d+$/gm)).toEqual(
      Array.from({ length: to - from }, (_, index) => `id: ${from + index + 1}`),
    );
    await stream.reader.cancel();
  });

  test("what is not a revision is told so", async () => {
    const response = await fetchPath("/sdk/v1/stream?since=yesterday", { headers: withKey(place.serverKey) });
    expect(await response.json()).toMatchObject({ status: 400, errors: [{ pointer: "/since" }] });
  });

  test("a client that goes leaves no socket at the relay", async () => {
    const relay = () => env.RELAY.get(env.RELAY.idFromName(`relay:${place.environmentId}:enam:0`));
    const connected = async () => (await relay().receipt(Number.MAX_SAFE_INTEGER, 800)).connected;
    await vi.waitFor(async () => expect(await connected()).toBe(0));
    const streams = [await open(), await open(), await open()];
    for (const { until } of streams) await until("event: hello");
    expect(await connected()).toBe(3);
    await streams[0]!.reader.cancel();
    await vi.waitFor(async () => expect(await connected()).toBe(2));
    for (const { reader } of streams.slice(1)) await reader.cancel();
    await vi.waitFor(async () => expect(await connected()).toBe(0));
  });
});

describe("POST /ofrep/v1/evaluate/flags/{key}", () => {
  test("answers value, variant, reason and metadata as OFREP has them, with OpenFeature's reasons", async () => {
    await turnedOn(place, "remote", {}, { targets: [{ variation: "off", values: ["qa"] }] });
    await turnedOn(place, "split", {}, { fallthrough: { split: { weights: { on: 100_000 } } } });
    const answer = async (flag: string, context: object) =>
      (await evaluateRemotely(place.serverKey, flag, context)).json();
    expect(await answer("remote", { targetingKey: "qa" })).toMatchObject({
      key: "remote",
      value: false,
      variant: "off",
      reason: "TARGETING_MATCH",
      metadata: { buntingReason: "TARGET_MATCH", revision: expect.any(Number), flagVersion: expect.any(Number) },
    });
    expect(await answer("remote", { targetingKey: "u" })).toMatchObject({ value: true, reason: "UNKNOWN" });
    expect(await answer("split", { targetingKey: "u" })).toMatchObject({ value: true, reason: "SPLIT" });
  });

  test("a kill shows at the edge within a second", async () => {
    await turnedOn(place, "killed-remotely");
    await (await evaluateRemotely(place.serverKey, "killed-remotely", { targetingKey: "u" })).arrayBuffer();
    const path = `/projects/${place.project}/flags/killed-remotely/environments/production/kill?wait=0`;
    expect((await place.api("POST", path, { reason: "test" })).status).toBe(200);
    await vi.waitFor(async () => {
      const response = await evaluateRemotely(place.serverKey, "killed-remotely", { targetingKey: "u" });
      expect(await response.json()).toMatchObject({ reason: "DISABLED", metadata: { buntingReason: "KILLED" } });
    }, 2_000);
  });

  test("a flag that is not for clients does not exist for a client key", async () => {
    await turnedOn(place, "server-only");
    const response = await evaluateRemotely(place.clientKey, "server-only", {});
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ key: "server-only", errorCode: "FLAG_NOT_FOUND" });
  });

  test("a split without a targeting key says what is missing", async () => {
    await turnedOn(place, "needs-key", {}, { fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } });
    const response = await evaluateRemotely(place.serverKey, "needs-key", { plan: "free" });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ key: "needs-key", errorCode: "TARGETING_KEY_MISSING" });
  });

  const bodies: [string, BodyInit, number, string?][] = [
    ["a trailing comma", '{"context":{"targetingKey":"u",}}', 400, "PARSE_ERROR"],
    ["a comment", '{"context":{} /* x */}', 400, "PARSE_ERROR"],
    ["single quotes", "{'context':{}}", 400, "PARSE_ERROR"],
    ["two documents", '{"context":{}}{"context":{}}', 400, "PARSE_ERROR"],
    ["a root array", "[]", 400, "INVALID_CONTEXT"],
    ["a root string", '"context"', 400, "INVALID_CONTEXT"],
    ["a root null", "null", 400, "INVALID_CONTEXT"],
    ["nothing", "", 400, "PARSE_ERROR"],
    ["a null context", '{"context":null}', 400, "INVALID_CONTEXT"],
    ["an array context", '{"context":[]}', 400, "INVALID_CONTEXT"],
    ["a string context", '{"context":"u"}', 400, "INVALID_CONTEXT"],
    ["a numeric targeting key", '{"context":{"targetingKey":7}}', 400, "TARGETING_KEY_MISSING"],
    ["a null targeting key", '{"context":{"targetingKey":null}}', 400, "TARGETING_KEY_MISSING"],
    ["an empty targeting key", '{"context":{"targetingKey":""}}', 400, "TARGETING_KEY_MISSING"],
    ["NaN", '{"context":{"x":NaN}}', 400, "PARSE_ERROR"],
    ["depth without end", "[".repeat(100_000), 400, "PARSE_ERROR"],
    ["depth of 10,000", `{"context":${'{"a":'.repeat(10_000)}1${"}".repeat(10_001)}`, 400, "PARSE_ERROR"],
    ["UTF-16", new Uint8Array([0x7b, 0, 0x22, 0, 0xff, 0xfe]), 400, "PARSE_ERROR"],
    ["5 MB", `{"context":{"x":"${"a".repeat(5_000_000)}"}}`, 413],
  ];
  for (const [what, body, status, errorCode] of bodies) {
    test(`${what} is answered by ${status}${errorCode ? ` ${errorCode}` : ""}, and the next request is right (Q12)`, async () => {
      const headers = withKey(place.serverKey, { "content-type": "application/json" });
      const response = await fetchPath("/ofrep/v1/evaluate/flags/remote", { method: "POST", headers, body });
      expect(response.status).toBe(status);
      const answer = await response.json();
      if (errorCode) expect(answer).toMatchObject({ errorCode, key: "remote" });
      expect((await evaluateRemotely(place.serverKey, "remote", { targetingKey: "u" })).status).toBe(200);
    });
  }

  test("contexts that reach for prototypes are data like any other and change nothing (Q12, EV-10)", async () => {
    await turnedOn(
      place,
      "premium-only",
      {},
      {
        rules: [{ conditions: [{ attribute: "plan", op: "in", values: ["premium"] }], serve: { variation: "on" } }],
        fallthrough: { variation: "off" },
      },
    );
    const contexts = [
      '{"targetingKey":"u","__proto__":{"plan":"premium"}}',
      '{"targetingKey":"u","constructor":{"prototype":{"plan":"premium"}}}',
      '{"targetingKey":"u","a":{"__proto__":{"plan":"premium"}}}',
    ];
    for (const context of contexts) {
      const headers = withKey(place.serverKey, { "content-type": "application/json" });
      const body = `{"context":${context}}`;
      const response = await fetchPath("/ofrep/v1/evaluate/flags/premium-only", { method: "POST", headers, body });
      expect(await response.json()).toMatchObject({ value: false });
      expect(({} as { plan?: string }).plan).toBeUndefined();
    }
  });
});

test("an unknown path is a problem, and health needs no storage", async () => {
  expect(await (await fetchPath("/nowhere")).json()).toMatchObject({ status: 404, code: "not-found" });
  expect(await (await fetchPath("/healthz")).json()).toEqual({ status: "ok" });
});
