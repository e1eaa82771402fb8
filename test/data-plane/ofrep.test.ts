/** OFREP in bulk and its event streams. Single evaluations are in data-plane.test.ts, official clients in test/flows. */
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Relay } from "../../durable-objects/relay/relay.ts";
import { limitReader } from "../../workers/edge/read-limit.ts";
import { heldRuleset } from "../../workers/edge/ruleset/cache.ts";
import { bulkEtag, contextHashOf, dayOf, eventStreamPath } from "../../workers/edge/streams/refetch-stream.ts";
import { newFlag } from "../support/admin.ts";
import { fetchPath, newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";
import { EventClient } from "../support/event-source.ts";
import { relayOf } from "../support/relay-socket.ts";

let place: Place;

beforeEach(async () => {
  place = await newPlace();
});

const json = { "content-type": "application/json" };
const ada = { targetingKey: "ada" };
const bulk = (key: string, context: unknown, headers: Record<string, string> = {}, query = "") =>
  fetchPath(`/ofrep/v1/evaluate/flags${query}`, {
    method: "POST",
    headers: withKey(key, { ...json, ...headers }),
    body: JSON.stringify({ context }),
  });

type Bulk = {
  flags: Record<string, unknown>[];
  metadata: object;
  eventStreams: { type: string; endpoint: { requestUri: string } }[];
};

async function streamUrl(key: string, context: unknown = ada): Promise<string> {
  const answer = (await (await bulk(key, context)).json()) as Bulk;
  return answer.eventStreams[0]!.endpoint.requestUri;
}

async function follow(path: string, headers: Record<string, string> = {}): Promise<EventClient> {
  const client = await EventClient.open(path, { headers });
  onTestFinished(() => client.close());
  return client;
}

const edit = (key: string, change: object) =>
  place.api("PATCH", `/projects/${place.project}/flags/${key}/environments/production`, change);

describe("POST /ofrep/v1/evaluate/flags", () => {
  test("evaluates every flag of a server key and only those for clients of a client key", async () => {
    await turnedOn(place, "public", { clientSide: true });
    await turnedOn(place, "server-only");
    const keysFor = async (key: string) => ((await (await bulk(key, ada)).json()) as Bulk).flags.map(({ key }) => key);
    expect(await keysFor(place.serverKey)).toEqual(["public", "server-only"]);
    expect(await keysFor(place.clientKey)).toEqual(["public"]);
  });

  test("answers each flag where it stands, and leaves out the value of one that is the code's default", async () => {
    await turnedOn(place, "good");
    await turnedOn(place, "split", {}, { fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } });
    await newFlag(place.api, place.project, "defaulted");
    const { body } = await edit("defaulted", { offVariation: null });
    const answer = (await (await bulk(place.serverKey, ada, {}, `?revision=${body.revision}`)).json()) as Bulk;
    const of = (key: string) => answer.flags.find((flag) => flag.key === key);
    expect(of("good")).toMatchObject({ value: true, variant: "on", reason: "STATIC" });
    expect(of("split")).toMatchObject({ reason: "SPLIT" });
    expect(of("defaulted")).toEqual({ key: "defaulted", reason: "DISABLED", metadata: expect.any(Object) });
    expect(answer.metadata).toEqual({ revision: body.revision });
  });

  test("says 304 for the same context, key, revision and day", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const first = await bulk(place.clientKey, { targetingKey: "u" });
    const etag = first.headers.get("etag") ?? "";
    await first.arrayBuffer();
    const again = (key: string, context: object) => bulk(key, context, { "if-none-match": etag });
    expect((await again(place.clientKey, { targetingKey: "u" })).status).toBe(304);
    expect((await again(place.clientKey, { targetingKey: "v" })).status).toBe(200);
    // Another key sees other flags, and has a stream of its own.
    expect((await again(place.serverKey, { targetingKey: "u" })).status).toBe(200);
  });

  test("waits for the revision that an event stream told of", async () => {
    await turnedOn(place, "a");
    const { body } = await edit("a", { on: false });
    const etag = bulkEtag(place.environmentId, body.revision, "0".repeat(64), dayOf(Date.now()));
    const response = await bulk(place.serverKey, ada, {}, `?flagConfigEtag=${encodeURIComponent(etag)}`);
    expect(((await response.json()) as Bulk).flags[0]).toMatchObject({ key: "a", value: false });
    const other = bulkEtag("env_another", 999_999_999, "0".repeat(64), 1);
    expect((await bulk(place.serverKey, ada, {}, `?flagConfigEtag=${encodeURIComponent(other)}`)).status).toBe(200);
  });

  const invalid: [string, string, string][] = [
    ["no JSON", "{", "PARSE_ERROR"],
    ["no context", "{}", "INVALID_CONTEXT"],
    ["no targeting key", '{"context":{"plan":"pro"}}', "TARGETING_KEY_MISSING"],
    ["an empty targeting key", '{"context":{"targetingKey":""}}', "TARGETING_KEY_MISSING"],
    ["a targeting key that is a number", '{"context":{"targetingKey":1}}', "TARGETING_KEY_MISSING"],
  ];
  for (const [what, body, errorCode] of invalid) {
    test(`${what} is a 400 ${errorCode}`, async () => {
      const init = { method: "POST", headers: withKey(place.serverKey, json), body };
      const response = await fetchPath("/ofrep/v1/evaluate/flags", init);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ errorCode, errorDetails: expect.any(String) });
    });
  }
});

test("a key that is not percent-encoded is one key, whatever is in it", async () => {
  for (const key of ["a/b", "a b", "100%", "ä", "flags/a", "..b/c", "a:b@c", "%zz"]) {
    const response = await fetchPath(`/ofrep/v1/evaluate/flags/${key}`, {
      method: "POST",
      headers: withKey(place.serverKey, json),
      body: '{"context":{}}',
    });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ errorCode: "FLAG_NOT_FOUND", key });
  }
});

describe("an event stream of OFREP's", () => {
  test("says to evaluate again at once, and with each change that concerns the key; nothing tells the key", async () => {
    await turnedOn(place, "public", { clientSide: true });
    await turnedOn(place, "hidden");
    const path = await streamUrl(place.clientKey, { targetingKey: "u" });
    expect(path).not.toContain(place.clientKey.split("_")[3]);
    const [forClient, forServer] = [await follow(path), await follow(await streamUrl(place.serverKey))];
    await vi.waitFor(() => expect([forClient.events.length, forServer.events.length]).toEqual([1, 1]));
    await edit("hidden", { on: false });
    await vi.waitFor(() => expect(forServer.events).toHaveLength(2));
    const { body } = await edit("public", { on: false });
    await vi.waitFor(() => expect([forClient.events.length, forServer.events.length]).toEqual([2, 3]));
    const { event, id, data } = forClient.events[1]!;
    expect([event, id]).toEqual(["message", String(body.revision)]);
    const answer = await bulk(place.clientKey, { targetingKey: "u" }, {}, `?revision=${body.revision}`);
    expect(data).toEqual({ type: "refetchEvaluation", etag: answer.headers.get("etag") });
    await answer.arrayBuffer();
  });

  test("that comes back with what it has seen is told only if it missed something", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const path = await streamUrl(place.clientKey);
    const first = await follow(path);
    await vi.waitFor(() => expect(first.events).toHaveLength(1));
    const seen = { "last-event-id": first.events[0]!.id! };
    await first.close();
    const unchanged = await follow(path, seen);
    const { body } = await edit("a", { on: false });
    await vi.waitFor(() => expect(unchanged.events).toHaveLength(1));
    expect(unchanged.events[0]?.id).toBe(String(body.revision));
    const changed = await follow(path, seen);
    await vi.waitFor(() => expect(changed.events).toHaveLength(1));
  });

  test("opens for nobody who has changed a letter of its URL, and for no day but its own and the next", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const path = await streamUrl(place.clientKey);
    const caller = {
      environmentId: place.environmentId,
      keyHash: Object.keys(heldRuleset(place.environmentId)?.keys ?? {}).find(
        (hash) => heldRuleset(place.environmentId)?.keys[hash]?.kind === "client",
      )!,
    };
    const grant = heldRuleset(place.environmentId)!.keys[caller.keyHash]!;
    const hash = await contextHashOf(grant.id, JSON.stringify({ context: ada }));
    const today = dayOf(Date.now());
    const onDay = (day: number) => eventStreamPath({ ...caller, grant }, hash, day);
    expect(path).toBe(await onDay(today));
    const tampered = [...new URLSearchParams(path.split("?")[1])].map(([name, value]) => {
      const url = new URL(path, "https://bunting.test");
      url.searchParams.set(
        name,
        value.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
      );
      return url.pathname + url.search;
    });
    const refused = [
      ...tampered,
      await onDay(today - 2),
      await onDay(today + 1),
      "/ofrep/v1/stream",
      path.replace(/signature=.*/, "signature="),
      path.replace(/day=\d+/, "day=NaN"),
    ];
    for (const url of refused) {
      const response = await fetchPath(url);
      expect([url, response.status]).toEqual([url, 401]);
      expect(response.headers.get("content-type")).toBe("application/json");
      await response.arrayBuffer();
    }
    const yesterday = await follow(await onDay(today - 1), { "last-event-id": "1" });
    // So that the client gets today's.
    await vi.waitFor(() => expect(yesterday.events).toHaveLength(1));
  });

  test("costs the relay nothing where the signature is not good, whatever is asked for", async () => {
    const path = await streamUrl(place.clientKey);
    const asked = vi.spyOn(Relay.prototype, "since");
    onTestFinished(() => asked.mockRestore());
    const forged = path.replace(/signature=.*/, `signature=${"0".repeat(64)}&revision=999999999`);
    expect((await fetchPath(forged, { headers: { "cf-connecting-ip": "192.0.2.77" } })).status).toBe(401);
    expect(asked).not.toHaveBeenCalled();
  });

  test("costs its key nothing where the signature is not good: a key's id is no secret", async () => {
    const path = await streamUrl(place.clientKey);
    const forged = path.replace(/signature=.*/, `signature=${"0".repeat(64)}`);
    const keys = heldRuleset(place.environmentId)?.keys ?? {};
    const keyHash = Object.keys(keys).find((hash) => keys[hash]?.kind === "client")!;
    const from = "192.0.2.77";
    // So that nothing is granted meanwhile.
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => void vi.useRealTimers());
    const used = () => {
      for (;;) limitReader({ env, ctx: { waitUntil: () => {} } }, keyHash, from);
    };
    expect(used).toThrow(expect.objectContaining({ status: 429 }));
    const status = async (url: string) => {
      const response = await fetchPath(url, { headers: { "cf-connecting-ip": from } });
      await response.arrayBuffer();
      return response.status;
    };
    expect([await status(forged), await status(path)]).toEqual([401, 429]);
  });

  test("keeps to its key's origins and ends with its key", async () => {
    const keys = `/projects/${place.project}/environments/production/keys`;
    const { body } = await place.api("POST", keys, { kind: "client", origins: ["https://shop.example"] });
    const path = await streamUrl(body.key);
    expect((await fetchPath(path, { headers: { origin: "https://evil.example" } })).status).toBe(403);
    const client = await follow(path, { origin: "https://shop.example" });
    await vi.waitFor(() => expect(client.events).toHaveLength(1));
    expect(client.response.headers.get("access-control-allow-origin")).toBe("*");
    await place.api("DELETE", `${keys}/${body.id}`);
    await vi.waitFor(() => expect(client.ended).toBe(true));
    await vi.waitFor(async () => expect((await fetchPath(path)).status).toBe(401), 3_000);
  });

  test("leaves no socket at the relay when the client goes", async () => {
    const connected = async () => (await relayOf(place.environmentId).receipt(Number.MAX_SAFE_INTEGER, 800)).connected;
    const path = await streamUrl(place.serverKey);
    await vi.waitFor(async () => expect(await connected()).toBe(0));
    const client = await EventClient.open(path);
    await vi.waitFor(async () => expect(await connected()).toBe(1));
    await client.close();
    await vi.waitFor(async () => expect(await connected()).toBe(0));
  });
});
