/** Streams of values: what they push for a change and for whom, over both transports, and what they let go of. */
import type { PutMessage, ValuesMessage } from "@bunting/core/wire";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { newFlag } from "../support/admin.ts";
import { fetchPath, newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";
import { EventClient } from "../support/event-source.ts";
import { relayOf } from "../support/relay-socket.ts";

let place: Place;

beforeEach(async () => {
  place = await newPlace();
});

const json = { "content-type": "application/json" };
const connected = async () => (await relayOf(place.environmentId).receipt(Number.MAX_SAFE_INTEGER, 800)).connected;
const targeting = (key: string) => `/projects/${place.project}/flags/${key}/environments/production`;

async function edited(key: string, change: object): Promise<number> {
  const { status, body } = await place.api("PATCH", targeting(key), change);
  expect(status).toBe(200);
  return body.revision;
}

/** POST, as our SDKs do. */
async function stream(context: object, headers: Record<string, string> = {}): Promise<EventClient> {
  const client = await EventClient.open("/client/v1/stream", {
    method: "POST",
    headers: withKey(place.clientKey, { ...json, ...headers }),
    body: JSON.stringify({ context }),
  });
  onTestFinished(() => client.close());
  return client;
}

class Socket {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages of every shape
  readonly messages: any[] = [];
  closed: { code: number; reason: string } | null = null;
  readonly socket: WebSocket;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => {
      this.messages.push(data === "pong" ? data : JSON.parse(data as string));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.closed = { code, reason };
    });
    socket.accept();
  }

  static async open(query = ""): Promise<Socket> {
    const response = await fetchPath(`/client/v1/socket?key=${place.clientKey}${query}`, {
      headers: { upgrade: "websocket" },
    });
    if (response.webSocket === null) throw new Error(`The socket answered ${response.status}`);
    const opened = new Socket(response.webSocket);
    onTestFinished(() => opened.socket.close());
    return opened;
  }

  say(message: unknown): void {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  of(...types: string[]) {
    return this.messages.filter(({ type }) => types.includes(type));
  }
}

/** Either transport, as one list of messages. */
const transports = {
  async sse(context: object) {
    const client = await stream(context);
    return (...types: string[]): (PutMessage | ValuesMessage)[] => client.of(...types).map(({ data }) => data);
  },
  async websocket(context: object) {
    const client = await Socket.open();
    client.say({ context });
    return (...types: string[]): (PutMessage | ValuesMessage)[] => client.of(...types);
  },
};

for (const [name, open] of Object.entries(transports)) {
  describe(`values over ${name}`, () => {
    test("all of them first, then those of a touched flag and of all that depend on it, and nothing else (X5)", async () => {
      const fields = { clientSide: true };
      await turnedOn(place, "base", fields);
      await turnedOn(place, "needs-base", fields, { prerequisites: [{ flag: "base", variations: ["on"] }] });
      await turnedOn(place, "needs-that", fields, {
        rules: [{ conditions: [{ flag: "needs-base", variations: ["on"] }], serve: { variation: "on" } }],
        fallthrough: { variation: "off" },
      });
      const before = await turnedOn(place, "alone", fields);
      const received = await open({ targetingKey: "u" });
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      expect(received("put")[0]).toMatchObject({
        revision: before,
        flags: { base: { value: true }, "needs-base": { value: true }, "needs-that": { value: true }, alone: {} },
      });
      const revision = await edited("base", { on: false });
      await vi.waitFor(() => expect(received("patch")).toHaveLength(1));
      expect(received("patch")[0]).toEqual({
        type: "patch",
        revision,
        previous: before,
        flags: {
          base: { value: false, variation: "off", reason: "OFF", version: expect.any(Number) },
          "needs-base": { value: false, variation: "off", reason: "PREREQUISITE_FAILED", version: expect.any(Number) },
          "needs-that": { value: false, variation: "off", reason: "FALLTHROUGH", version: expect.any(Number) },
        },
      });
    });

    test("a segment's change reaches the flags that ask for it, and only for whom it holds do values differ", async () => {
      const segments = `/projects/${place.project}/environments/production/segments`;
      await place.api("POST", segments, { key: "beta", included: [] });
      await turnedOn(
        place,
        "for-beta",
        { clientSide: true },
        {
          rules: [{ conditions: [{ segment: ["beta"] }], serve: { variation: "on" } }],
          fallthrough: { variation: "off" },
        },
      );
      await turnedOn(place, "other", { clientSide: true });
      const [member, other] = [await open({ targetingKey: "member-1" }), await open({ targetingKey: "u" })];
      await vi.waitFor(() => expect([...member("put"), ...other("put")]).toHaveLength(2));
      await place.api("PATCH", `${segments}/beta`, { included: ["member-1"] });
      await vi.waitFor(() => expect([...member("patch"), ...other("patch")]).toHaveLength(2));
      expect(member("patch")[0]?.flags).toEqual({ "for-beta": expect.objectContaining({ value: true }) });
      expect(other("patch")[0]?.flags).toEqual({ "for-beta": expect.objectContaining({ value: false }) });
    });

    test("what concerns no flag for clients is not mentioned, and `previous` stays what was last sent", async () => {
      const before = await turnedOn(place, "seen", { clientSide: true });
      await turnedOn(place, "server-only-secret");
      const received = await open({});
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      const start = received("put")[0]?.revision;
      expect(start).toBeGreaterThan(before);
      await edited("server-only-secret", { on: false });
      await edited("server-only-secret", { on: true });
      const revision = await edited("seen", { on: false });
      await vi.waitFor(() => expect(received("patch")).toHaveLength(1));
      expect(received("patch")[0]).toMatchObject({ revision, previous: start });
      expect(JSON.stringify(received("put", "patch"))).not.toContain("secret");
    });

    test("a flag that is no longer for clients, and one that is deleted, are gone; one that newly is, comes", async () => {
      for (const key of ["withdrawn", "deleted"]) await turnedOn(place, key, { clientSide: true });
      await turnedOn(place, "given");
      await turnedOn(place, "deleted-secret");
      const received = await open({});
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      const flags = `/projects/${place.project}/flags`;
      await place.api("PATCH", `${flags}/withdrawn`, { clientSide: false });
      await place.api("PATCH", `${flags}/given`, { clientSide: true });
      for (const key of ["deleted", "deleted-secret"]) {
        await place.api("POST", `${flags}/${key}/archive`);
        await place.api("DELETE", `${flags}/${key}`);
      }
      await vi.waitFor(() => {
        const all = Object.assign({}, ...received("patch").map((patch) => patch.flags));
        expect(all).toEqual({ withdrawn: null, deleted: null, given: expect.objectContaining({ value: true }) });
      });
    });

    test("a kill comes at once (R7)", async () => {
      await turnedOn(place, "killed", { clientSide: true });
      const received = await open({});
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      await place.api("POST", `${targeting("killed")}/kill?wait=0`, { reason: "test" });
      await vi.waitFor(() =>
        expect(received("patch")[0]?.flags).toMatchObject({ killed: { value: false, reason: "KILLED" } }),
      );
    });

    test("a change too large for a message is told as all values anew", async () => {
      const text = (letter: string) => [
        { key: "a", value: letter.repeat(40_000) },
        { key: "b", value: letter.repeat(40_000) },
      ];
      await newFlag(place.api, place.project, "long", { clientSide: true, type: "string", variations: text("x") });
      await turnedOn(place, "short", { clientSide: true });
      const received = await open({});
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      await place.api("PATCH", `/projects/${place.project}/flags/long`, { variations: text("y") });
      await vi.waitFor(() => expect(received("put")).toHaveLength(2), 5_000);
      expect(received("put")[1]?.flags).toMatchObject({ short: { value: true }, long: { value: "y".repeat(40_000) } });
      expect(received("patch")).toEqual([]);
    });

    test("no byte of it tells of rules, members, targets or other flags", async () => {
      const segments = `/projects/${place.project}/environments/production/segments`;
      await place.api("POST", segments, { key: "segment-secret", included: ["member-secret"] });
      await turnedOn(place, "flag-secret");
      await turnedOn(
        place,
        "shown",
        { clientSide: true, description: "words-secret", tags: ["tag-secret"] },
        {
          targets: [{ variation: "off", values: ["target-secret"] }],
          prerequisites: [{ flag: "flag-secret", variations: ["on"] }],
          rules: [
            { description: "rule-secret", conditions: [{ segment: ["segment-secret"] }], serve: { variation: "off" } },
            { conditions: [{ attribute: "a-secret", op: "in", values: ["v-secret"] }], serve: { variation: "off" } },
          ],
        },
      );
      const received = await open({ targetingKey: "u" });
      await vi.waitFor(() => expect(received("put")).toHaveLength(1));
      await edited("flag-secret", { on: false });
      await place.api("PATCH", `${segments}/segment-secret`, { included: ["u", "member-2-secret"] });
      await edited("flag-secret", { on: true });
      await vi.waitFor(() =>
        expect(received("patch").at(-1)?.flags).toMatchObject({ shown: { reason: "RULE_MATCH" } }),
      );
      expect(JSON.stringify(received("hello", "put", "patch", "heartbeat"))).not.toMatch(
        /secret|r_|rules|segment|bnt_/,
      );
    });
  });
}

describe("SSE streams of values", () => {
  test("begin with hello and the window of the next reconnect, and only what moves a client has an id", async () => {
    const revision = await turnedOn(place, "a", { clientSide: true });
    const client = await stream({});
    await vi.waitFor(() => expect(client.events).toHaveLength(2));
    expect(client.events[0]).toMatchObject({ event: "hello", id: null, data: { reconnectWithinMs: 1_000 } });
    expect(client.events[1]).toMatchObject({ event: "put", id: String(revision), data: { type: "put", revision } });
    expect(client.text).toMatch(/^event: hello\nretry: \d+\ndata: /);
    expect(client.response.headers.get("cache-control")).toBe("no-store");
  });

  test("take the key and the context in the URL, as EventSource has to send them", async () => {
    await turnedOn(place, "a", { clientSide: true }, { targets: [{ variation: "off", values: ["é"] }] });
    const context = btoa(String.fromCharCode(...new TextEncoder().encode('{"targetingKey":"é"}')));
    const client = await EventClient.open(`/client/v1/stream?key=${place.clientKey}&context=${context}`);
    onTestFinished(() => client.close());
    await vi.waitFor(() => expect(client.of("put")[0]?.data.flags.a).toMatchObject({ reason: "TARGET_MATCH" }));
  });

  test("resume by Last-Event-ID with the values of every flag touched since, and no others", async () => {
    for (const key of ["a", "b", "c"]) await turnedOn(place, key, { clientSide: true });
    const client = await stream({});
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    const since = client.of("put")[0]!.id!;
    await client.close();
    await edited("a", { on: false });
    const revision = await edited("c", { on: false });
    const again = await stream({}, { "last-event-id": since });
    await vi.waitFor(() => expect(again.of("put", "patch")).toHaveLength(1));
    expect(again.of("patch")[0]).toMatchObject({ id: String(revision), data: { revision, previous: Number(since) } });
    expect(Object.keys(again.of("patch")[0]?.data.flags).sort()).toEqual(["a", "c"]);
  });

  test("tell one that missed nothing of its concern that it has everything", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const since = await turnedOn(place, "server-only");
    const revision = await edited("server-only", { on: false });
    const client = await stream({}, { "last-event-id": String(since) });
    await vi.waitFor(() => expect(client.of("patch")).toHaveLength(1));
    expect(client.of("patch")[0]?.data).toEqual({ type: "patch", revision, previous: since, flags: {} });
  });

  test("begin anew for a revision that nobody knows", async () => {
    await turnedOn(place, "a", { clientSide: true });
    for (const since of ["0", "999999999"]) {
      const client = await stream({}, { "last-event-id": since });
      await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
      await client.close();
    }
    const response = await fetchPath("/client/v1/stream?context=e30&since=yesterday", {
      headers: withKey(place.clientKey),
    });
    expect(await response.json()).toMatchObject({ status: 400, errors: [{ pointer: "/since" }] });
  });

  test("leave no socket at the relay when the client goes", async () => {
    await vi.waitFor(async () => expect(await connected()).toBe(0));
    const [one, two] = [await stream({}), await stream({})];
    await vi.waitFor(async () => expect(await connected()).toBe(2));
    await one.close();
    await vi.waitFor(async () => expect(await connected()).toBe(1));
    await two.close();
    await vi.waitFor(async () => expect(await connected()).toBe(0));
  });

  test("end when their key is revoked", async () => {
    const keys = `/projects/${place.project}/environments/production/keys`;
    const { body } = await place.api("POST", keys, { kind: "client" });
    const client = await EventClient.open(`/client/v1/stream?key=${body.key}&context=e30`);
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    await place.api("DELETE", `${keys}/${body.id}`);
    await vi.waitFor(() => expect(client.ended).toBe(true));
  });
});

describe("WebSockets of values", () => {
  test("say hello before there is a context, and nothing else", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const client = await Socket.open();
    client.say("ping");
    await vi.waitFor(() => expect(client.messages).toHaveLength(2));
    client.say({ context: {} });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    expect(client.messages.filter((message) => message !== "pong").map(({ type }) => type)).toEqual(["hello", "put"]);
  });

  test("another context gets all values anew, for that context", async () => {
    await turnedOn(place, "a", { clientSide: true }, { targets: [{ variation: "off", values: ["u2"] }] });
    const client = await Socket.open();
    client.say({ context: { targetingKey: "u1" } });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    client.say({ context: { targetingKey: "u2" } });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(2));
    expect(client.of("put").map(({ flags }) => flags.a.value)).toEqual([true, false]);
    await edited("a", { targets: [] });
    await vi.waitFor(() => expect(client.of("patch")).toHaveLength(1));
    expect(client.of("patch")[0].flags.a.value).toBe(true);
  });

  test("resume by since with the first context", async () => {
    await turnedOn(place, "b", { clientSide: true });
    const since = await turnedOn(place, "a", { clientSide: true });
    const revision = await edited("a", { on: false });
    const client = await Socket.open(`&since=${since}`);
    client.say({ context: {} });
    await vi.waitFor(() => expect(client.of("patch")).toHaveLength(1));
    expect(client.of("patch")[0]).toMatchObject({ revision, previous: since, flags: { a: { value: false } } });
    expect(Object.keys(client.of("patch")[0].flags)).toEqual(["a"]);
  });

  test("answer ping with pong and let pass what later clients may say", async () => {
    const client = await Socket.open();
    for (const message of ["ping", '{"applied":1}', '{"later":true}', "7"]) client.say(message);
    client.say({ context: {} });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    expect(client.messages).toContain("pong");
    expect(client.closed).toBeNull();
  });

  const invalid: [string, string | ArrayBuffer][] = [
    ["no JSON", "{"],
    ["a context that is none", '{"context":[]}'],
    ["a context that is none", '{"context":[]}'],
    ["depth of 10,000", `{"context":${'{"a":'.repeat(10_000)}1${"}".repeat(10_001)}`],
    ["70 KB", `{"context":{"a":"${"x".repeat(70_000)}"}}`],
    ["bytes", new Uint8Array([1, 2, 3]).buffer],
  ];
  for (const [what, message] of invalid) {
    test(`${what} ends one with 4400 and a reason, and its socket at the relay (Q12)`, async () => {
      await vi.waitFor(async () => expect(await connected()).toBe(0));
      const client = await Socket.open();
      client.socket.send(message);
      await vi.waitFor(() => expect(client.closed).toMatchObject({ code: 4400, reason: expect.stringMatching(/./) }));
      await vi.waitFor(async () => expect(await connected()).toBe(0));
    });
  }

  test("a context that changes without end is stopped (Q9)", async () => {
    const client = await Socket.open();
    for (let n = 0; n < 40; n++) client.say({ context: { n } });
    await vi.waitFor(() => expect(client.closed).toMatchObject({ code: 4429 }));
  });

  test("leave no socket at the relay when the client goes", async () => {
    const client = await Socket.open();
    client.say({ context: {} });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    expect(await connected()).toBe(1);
    client.socket.close(1000, "bye");
    await vi.waitFor(async () => expect(await connected()).toBe(0));
  });

  test("are cut with 4401 when their key is revoked", async () => {
    const keys = `/projects/${place.project}/environments/production/keys`;
    const { body } = await place.api("POST", keys, { kind: "client" });
    const response = await fetchPath(`/client/v1/socket?key=${body.key}`, { headers: { upgrade: "websocket" } });
    const client = new Socket(response.webSocket!);
    client.say({ context: {} });
    await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
    await place.api("DELETE", `${keys}/${body.id}`);
    await vi.waitFor(() => expect(client.closed).toMatchObject({ code: 4401 }));
  });

  test("without Upgrade they say what they speak", async () => {
    const response = await fetchPath("/client/v1/socket", { headers: withKey(place.clientKey) });
    expect(response.status).toBe(426);
    expect(response.headers.get("upgrade")).toBe("websocket");
  });
});
