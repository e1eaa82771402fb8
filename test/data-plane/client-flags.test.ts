/** Values for client keys, polled: what they get, what they never get, and what a 304 costs. */
import { beforeAll, describe, expect, test } from "vitest";
import { type Api, newFlag } from "../support/admin.ts";
import { fetchPath, newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";

let place: Place;
let revision: number;

const json = { "content-type": "application/json" };
const encoded = (text: string) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

const post = (context: unknown, headers: Record<string, string> = {}, key = place.clientKey) =>
  fetchPath("/client/v1/flags", {
    method: "POST",
    headers: withKey(key, { ...json, ...headers }),
    body: JSON.stringify({ context }),
  });

const get = (query: string) => fetchPath(`/client/v1/flags?key=${place.clientKey}&${query}`);

async function secretive(api: Api, project: string): Promise<void> {
  await api("POST", `/projects/${project}/environments/production/segments`, {
    key: "segment-secret",
    included: ["member-secret"],
  });
  await newFlag(api, project, "server-only-secret");
}

beforeAll(async () => {
  place = await newPlace();
  await secretive(place.api, place.project);
  await turnedOn(place, "plain", { clientSide: true });
  revision = await turnedOn(
    place,
    "ruled",
    {
      clientSide: true,
      type: "string",
      variations: [
        { key: "blue", value: "blue-value" },
        { key: "green", value: "value-not-served" },
      ],
    },
    {
      targets: [{ variation: "green", values: ["target-secret"] }],
      rules: [
        {
          description: "rule-secret",
          conditions: [{ attribute: "attribute-secret", op: "in", values: ["operand-secret"] }],
          serve: { variation: "green" },
        },
        { conditions: [{ segment: ["segment-secret"] }], serve: { variation: "green" } },
        { conditions: [{ flag: "server-only-secret", variations: ["on"] }], serve: { variation: "green" } },
      ],
      prerequisites: [{ flag: "plain", variations: ["on"] }],
      fallthrough: { variation: "blue" },
    },
  );
});

/** What of the environment must be in no byte that a client key is sent. */
const PRIVATE = /secret|value-not-served|segment|rules|targets|prerequisite|bnt_/;

describe("GET and POST /client/v1/flags", () => {
  test("answer the value, variation, reason and version of every flag for clients, and the revision (R14)", async () => {
    const response = await post({ targetingKey: "u" });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      revision,
      flags: {
        plain: { value: true, variation: "on", reason: "STATIC", version: expect.any(Number) },
        ruled: { value: "blue-value", variation: "blue", reason: "FALLTHROUGH", version: expect.any(Number) },
      },
    });
  });

  test("never tell rules, targets, members, segments or other flags, whatever the context (R14)", async () => {
    for (const context of [{}, { targetingKey: "target-secret" }, { targetingKey: "x", attribute: "operand-secret" }]) {
      const response = await post(context);
      const text = (await response.text()) + JSON.stringify([...response.headers]);
      expect(text).toContain("ruled");
      // Of the flag that is served green, its value is all that is new.
      expect(text.replaceAll("value-not-served", "").replaceAll("green", "")).not.toMatch(PRIVATE);
    }
  });

  test("say the same of a context in the URL, with the key there too", async () => {
    const response = await get(`context=${encoded('{"targetingKey":"target-secret"}')}`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ flags: { ruled: { variation: "green", reason: "TARGET_MATCH" } } });
  });

  test("send nobody a value where the code's default is meant", async () => {
    await newFlag(place.api, place.project, "defaulted", { clientSide: true });
    const path = `/projects/${place.project}/flags/defaulted/environments/production`;
    const { body } = await place.api("PATCH", path, { offVariation: null });
    const response = await fetchPath(`/client/v1/flags?revision=${body.revision}`, {
      method: "POST",
      headers: withKey(place.clientKey, json),
      body: '{"context":{}}',
    });
    const { flags } = (await response.json()) as { flags: Record<string, unknown> };
    expect(flags.defaulted).toEqual({ value: null, variation: null, reason: "OFF", version: expect.any(Number) });
  });
});

describe("the ETag of values", () => {
  test("is strong and says 304 for the same context at the same revision, and for no other (Q6)", async () => {
    const first = await post({ targetingKey: "u", plan: "free" });
    const etag = first.headers.get("etag") ?? "";
    await first.arrayBuffer();
    expect(etag).toMatch(/^"[^"]+"$/);
    const again = await post({ targetingKey: "u", plan: "free" }, { "if-none-match": etag });
    expect(again.status).toBe(304);
    expect(again.headers.get("etag")).toBe(etag);
    expect(await again.text()).toBe("");
    expect((await post({ targetingKey: "u", plan: "pro" }, { "if-none-match": etag })).status).toBe(200);
    const next = await turnedOn(place, "moves-values", { clientSide: true });
    const after = await fetchPath(`/client/v1/flags?revision=${next}`, {
      method: "POST",
      headers: withKey(place.clientKey, { ...json, "if-none-match": etag }),
      body: '{"context":{"targetingKey":"u","plan":"free"}}',
    });
    expect(after.status).toBe(200);
  });
});

describe("hostile and mistaken contexts", () => {
  const bodies: [string, string, number, string?][] = [
    ["no JSON", "{", 400],
    ["nothing", "", 400],
    ["no context", "{}", 400, "/context"],
    ["an array", '{"context":[]}', 400, "/context"],
    ["depth of 10,000", `{"context":${'{"a":'.repeat(10_000)}1${"}".repeat(10_001)}`, 400],
    ["300 KB", `{"context":{"a":"${"x".repeat(300_000)}"}}`, 413],
  ];
  test.each([7, "", null, {}])(
    "a targeting key of %j is none, as evaluation reads it (EV-10)",
    async (targetingKey) => {
      await turnedOn(
        place,
        "split",
        { clientSide: true },
        { fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } },
      );
      const init = {
        method: "POST",
        headers: withKey(place.clientKey, json),
        body: JSON.stringify({ context: { targetingKey } }),
      };
      const response = await fetchPath("/client/v1/flags", init);
      expect(response.status).toBe(200);
      const split = { variation: null, reason: "ERROR", errorCode: "TARGETING_KEY_MISSING" };
      expect(await response.json()).toMatchObject({ flags: { split } });
    },
  );

  for (const [what, body, status, pointer] of bodies) {
    test(`${what} is answered by ${status}${pointer === undefined ? "" : ` at ${pointer}`} (Q12)`, async () => {
      const init = { method: "POST", headers: withKey(place.clientKey, json), body };
      for (const path of ["/client/v1/flags", "/client/v1/stream"]) {
        const response = await fetchPath(path, init);
        expect(response.status).toBe(status);
        expect(response.headers.get("content-type")).toBe("application/problem+json");
        const problem = await response.json();
        if (pointer !== undefined) expect(problem).toMatchObject({ errors: [{ pointer }] });
      }
    });
  }

  const queries: [string, string, number][] = [
    ["none", "", 400],
    ["what is no base64url", "context=%7B%7D", 400],
    ["half a character", "context=A", 400],
    ["base64url of no JSON", `context=${encoded("{")}`, 400],
    ["base64url of two contexts", `context=${encoded('{},"context":[]')}`, 400],
    ["base64url of no UTF-8", "context=_w", 400],
    ["5 KB", `context=${encoded(`{"a":"${"x".repeat(5_000)}"}`)}`, 414],
    ["3.9 KB", `context=${encoded(`{"a":"${"x".repeat(3_900)}"}`)}`, 200],
    ["a revision that is none", `context=${encoded("{}")}&revision=abc`, 400],
  ];
  for (const [what, query, status] of queries) {
    test(`a context in the URL that is ${what} is answered by ${status}`, async () => {
      const response = await get(query);
      expect(response.status).toBe(status);
      const text = await response.text();
      if (status === 414) expect(text).toContain("POST");
    });
  }

  test("a stream takes a smaller context than a poll, because it keeps it", async () => {
    const init = {
      method: "POST",
      headers: withKey(place.clientKey, json),
      body: `{"context":{"a":"${"x".repeat(70_000)}"}}`,
    };
    expect((await fetchPath("/client/v1/stream", init)).status).toBe(413);
    expect((await fetchPath("/client/v1/flags", init)).status).toBe(200);
  });

  test("one that reaches for prototypes is data like any other (EV-10)", async () => {
    const body = '{"context":{"__proto__":{"targetingKey":"target-secret"},"constructor":{"prototype":{}}}}';
    const response = await fetchPath("/client/v1/flags", {
      method: "POST",
      headers: withKey(place.clientKey, json),
      body,
    });
    expect(await response.json()).toMatchObject({ flags: { ruled: { variation: "blue" } } });
  });
});

describe("keys and origins of client routes", () => {
  test("a server key is refused, in a header and all the more in a query", async () => {
    expect((await post({}, {}, place.serverKey)).status).toBe(403);
    for (const path of ["/client/v1/flags", "/client/v1/stream", "/client/v1/socket", "/ofrep/v1/evaluate/flags"]) {
      const method = path.startsWith("/ofrep") ? "POST" : "GET";
      const response = await fetchPath(`${path}?key=${place.serverKey}&context=e30`, { method });
      expect(await response.json()).toMatchObject({ status: 401, code: "key-in-url" });
    }
    const beside = await fetchPath(`/client/v1/flags?key=${place.serverKey}&context=e30`, {
      headers: withKey(place.clientKey),
    });
    expect(beside.status).toBe(401);
  });

  test("a preflight is answered for what clients send, without a key", async () => {
    for (const path of ["/client/v1/flags", "/client/v1/stream", "/client/v1/events", "/ofrep/v1/evaluate/flags"]) {
      const response = await fetchPath(path, {
        method: "OPTIONS",
        headers: {
          origin: "https://shop.example",
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,content-type,if-none-match,x-bunting-client",
        },
      });
      expect(response.status).toBe(204);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      const allowed = response.headers.get("access-control-allow-headers")?.split(",") ?? [];
      for (const name of ["authorization", "x-api-key", "content-type", "if-none-match", "x-bunting-client"])
        expect(allowed).toContain(name);
    }
  });

  test("a key with origins works from these, from no other page, and from what is no page", async () => {
    const { api, project, serverKey } = place;
    const keys = `/projects/${project}/environments/production/keys`;
    const { body } = await api("POST", keys, { kind: "client", origins: ["https://shop.example"] });
    await (await fetchPath(`/sdk/v1/ruleset?revision=${body.revision}`, { headers: withKey(serverKey) })).arrayBuffer();
    const ask = (path: string, origin: string | null, more: Record<string, string> = {}) =>
      fetchPath(`${path}?key=${body.key}&context=e30`, { headers: { ...(origin !== null && { origin }), ...more } });
    const socket = { upgrade: "websocket" };
    for (const [path, headers, valid] of [
      ["/client/v1/flags", {}, 200],
      ["/client/v1/stream", {}, 200],
      ["/client/v1/socket", socket, 101],
    ] as const) {
      for (const [origin, status] of [
        ["https://shop.example", valid],
        ["https://evil.example", 403],
        ["https://shop.example.evil.example", 403],
        ["http://shop.example", 403],
        ["null", 403],
        [null, valid],
      ] as const) {
        const response = await ask(path, origin, headers);
        expect([path, origin, response.status]).toEqual([path, origin, status]);
        if (status === 403) {
          // The page may read why.
          expect(response.headers.get("access-control-allow-origin")).toBe("*");
          expect(await response.json()).toMatchObject({ code: "forbidden", detail: expect.stringContaining("origin") });
        } else if (response.webSocket) {
          response.webSocket.accept();
          response.webSocket.close();
        } else await response.body?.cancel();
      }
    }
  });

  test("a page reads ETag and Retry-After", async () => {
    const response = await post({}, { origin: "https://shop.example" });
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-expose-headers")).toContain("etag");
    await response.arrayBuffer();
  });
});

describe("a context's bytes", () => {
  const bytesOf = (text: string) => new TextEncoder().encode(text);
  const around = (bytes: number[]) =>
    Uint8Array.from([...bytesOf('{"context":{"name":"'), ...bytes, ...bytesOf('"}}')]);
  const bodies: [string, Uint8Array, number][] = [
    ["ASCII", around([0x61]), 200],
    ["two, three and four bytes a character", around([...bytesOf("é€🐦")]), 200],
    ["a replacement character that was sent as one", around([...bytesOf("\ufffd")]), 200],
    ["a byte that begins nothing", around([0xff]), 400],
    ["a character cut after the first of two", around([0xc3]), 400],
    ["a character cut after two of three", around([0xe2, 0x82]), 400],
    ["a lone surrogate", around([0xed, 0xa0, 0x80]), 400],
    ["a byte order mark", Uint8Array.from([0xef, 0xbb, 0xbf, ...bytesOf('{"context":{}}')]), 400],
  ];
  for (const [what, body, status] of bodies) {
    test(`${what}: ${status}, whether or not the length is sent`, async () => {
      for (const length of [{}, { "content-length": String(body.byteLength) }] as Record<string, string>[]) {
        const headers = withKey(place.clientKey, { "content-type": "application/json", ...length });
        const response = await fetchPath("/client/v1/flags", { method: "POST", headers, body });
        expect([length, response.status]).toEqual([length, status]);
        await response.arrayBuffer();
      }
    });
  }

  test("a length that is not the body's is a 400, and not a way past the limit", async () => {
    const body = JSON.stringify({ context: { name: "a".repeat(300_000) } });
    const headers = withKey(place.clientKey, { "content-type": "application/json", "content-length": "100" });
    const response = await fetchPath("/client/v1/flags", { method: "POST", headers, body });
    expect(response.status).toBe(400);
  });
});

describe("wrong methods", () => {
  const wrong: [string, string, string][] = [
    ["POST", "/sdk/v1/ruleset", "GET"],
    ["DELETE", "/sdk/v1/stream", "GET"],
    ["OPTIONS", "/sdk/v1/ruleset", "GET"],
    ["GET", "/sdk/v1/events", "POST"],
    ["PUT", "/sdk/v1/segments/a/1", "GET"],
    ["PUT", "/client/v1/flags", "GET, POST"],
    ["DELETE", "/client/v1/stream", "GET, POST"],
    ["POST", "/client/v1/socket", "GET"],
    ["GET", "/client/v1/events", "POST"],
    ["GET", "/ofrep/v1/evaluate/flags", "POST"],
    ["PUT", "/ofrep/v1/evaluate/flags/some-flag", "POST"],
  ];
  for (const [method, path, allow] of wrong) {
    test(`${method} ${path} is a 405 that says ${allow}`, async () => {
      const response = await fetchPath(path, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get("allow")).toBe(allow);
      expect(await response.json()).toMatchObject({ code: "method-not-allowed" });
    });
  }

  test("what is no route stays a 404", async () => {
    for (const path of [
      "/",
      "/sdk/v1/nowhere",
      "/sdk/v1/ruleset/",
      "/sdk/v1/segments/a",
      "/sdk/v1/segments/a/1/2",
      "/sdk/v1//1",
      "/client/v1/",
      "/client/v1x/flags",
      "/ofrep/v1/evaluate",
      "/ofrep/v1/evaluate/flags/",
      "/constructor",
    ])
      expect([path, (await fetchPath(path)).status]).toEqual([path, 404]);
  });

  test("HEAD is a GET without the body", async () => {
    const response = await fetchPath("/sdk/v1/ruleset", { method: "HEAD", headers: withKey(place.serverKey) });
    expect([response.status, await response.text()]).toEqual([200, ""]);
    expect(response.headers.get("etag")).toMatch(/^"ruleset/);
    expect((await fetchPath("/client/v1/events", { method: "HEAD" })).status).toBe(405);
  });

  test("a revision that is none is told so, on rulesets as well", async () => {
    for (const revision of ["abc", "-1", "1.5", "1e3", "99999999999999999999"]) {
      const response = await fetchPath(`/sdk/v1/ruleset?revision=${revision}`, { headers: withKey(place.serverKey) });
      expect(await response.json()).toMatchObject({ status: 400, errors: [{ pointer: "/revision" }] });
    }
  });
});
