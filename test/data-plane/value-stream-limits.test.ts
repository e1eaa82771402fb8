/** What a stream of values does not do for its client: buffer without end, go on where its page may not, go back. */
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { newFlag } from "../support/admin.ts";
import { fetchPath, newPlace, type Place, turnedOn, withKey } from "../support/data-plane.ts";
import { EventClient } from "../support/event-source.ts";
import { relayOf } from "../support/relay-socket.ts";

let place: Place;

beforeEach(async () => {
  place = await newPlace();
});

const keys = () => `/projects/${place.project}/environments/production/keys`;

async function openSocket(key = place.clientKey, headers: Record<string, string> = {}) {
  const response = await fetchPath(`/client/v1/socket?key=${key}`, { headers: { upgrade: "websocket", ...headers } });
  const socket = response.webSocket;
  if (socket === null) throw new Error(`The socket answered ${response.status}`);
  const texts: string[] = [];
  const state: { socket: WebSocket; texts: string[]; closed: number | null } = { socket, texts, closed: null };
  socket.addEventListener("message", ({ data }) => void texts.push(data as string));
  socket.addEventListener("close", ({ code }) => {
    state.closed = code;
  });
  socket.accept();
  onTestFinished(() => socket.close());
  return state;
}

const isPut = (text: string) => text.startsWith('{"type":"put"');

describe("a WebSocket of values", () => {
  test("is sent a few megabytes and then to come back: what its client reads cannot be seen (Q9)", async () => {
    for (let n = 0; n < 8; n++) {
      const variations = ["a", "b"].map((key) => ({ key, value: key.repeat(40_000) }));
      await newFlag(place.api, place.project, `long-${n}`, { clientSide: true, type: "string", variations });
    }
    await turnedOn(place, "short", { clientSide: true });
    const client = await openSocket();
    let changes = 0;
    for (; changes < 20 && client.closed === null; changes++) {
      client.socket.send(JSON.stringify({ context: { changes } }));
      await vi.waitFor(() => expect(client.texts.filter(isPut).length > changes || client.closed !== null).toBe(true));
      await scheduler.wait(5);
    }
    await vi.waitFor(() => expect(client.closed).toBe(1000));
    expect(JSON.parse(client.texts.at(-1)!)).toEqual({ type: "goodbye", withinMs: 5_000, reason: "renew" });
    const sent = client.texts.filter(isPut);
    expect(sent.length).toBeGreaterThan(1);
    expect(sent.join("").length).toBeLessThan(4 * 1024 * 1024 + sent[0]!.length);
    const connected = async () => (await relayOf(place.environmentId).receipt(Number.MAX_SAFE_INTEGER, 800)).connected;
    await vi.waitFor(async () => expect(await connected()).toBe(0));
  });

  test("answers no more pings than may wait for a client that does not read (Q9)", async () => {
    const client = await openSocket();
    client.socket.send('{"context":{}}');
    await vi.waitFor(() => expect(client.texts.some(isPut)).toBe(true));
    for (let n = 0; n < 20_000; n++) client.socket.send("ping");
    await vi.waitFor(() => expect(client.closed).toBe(1000), 5_000);
    expect(client.texts.filter((text) => text === "pong").length).toBeLessThan(20_000);
  });
});

describe("streams whose key lists other origins now", () => {
  const [here, elsewhere] = ["https://shop.example", "https://other.example"];

  test("end where the new ones leave theirs out, and nowhere else", async () => {
    await turnedOn(place, "a", { clientSide: true });
    const { body } = await place.api("POST", keys(), { kind: "client", origins: [here, elsewhere] });
    const sse = async (headers: Record<string, string>) => {
      const client = await EventClient.open(`/client/v1/stream?key=${body.key}&context=e30`, { headers });
      onTestFinished(() => client.close());
      await vi.waitFor(() => expect(client.of("put")).toHaveLength(1));
      return client;
    };
    const [leaving, staying, noPage] = [await sse({ origin: here }), await sse({ origin: elsewhere }), await sse({})];
    const socket = await openSocket(body.key, { origin: here });
    socket.socket.send('{"context":{}}');
    await vi.waitFor(() => expect(socket.texts.some(isPut)).toBe(true));
    const { status } = await place.api("PATCH", `${keys()}/${body.id}`, { origins: [elsewhere] });
    expect(status).toBe(200);
    await vi.waitFor(() => expect([leaving.ended, socket.closed]).toEqual([true, 4401]));
    await turnedOn(place, "b", { clientSide: true });
    await vi.waitFor(() => {
      for (const client of [staying, noPage]) expect(client.of("patch").at(-1)?.data.flags).toHaveProperty("b");
    });
    expect([staying.ended, noPage.ended]).toEqual([false, false]);
  });
});

describe("a stream that comes back with more than is known here", () => {
  const open = async (since: number) => {
    const client = await EventClient.open("/client/v1/stream?context=e30", {
      headers: withKey(place.clientKey, { "last-event-id": String(since) }),
    });
    onTestFinished(() => client.close());
    await vi.waitFor(() => expect(client.of("hello")).toHaveLength(1));
    return client;
  };
  const edit = async (change: object): Promise<number> => {
    const { body } = await place.api("PATCH", `/projects/${place.project}/flags/a/environments/production`, change);
    return body.revision;
  };

  test("is told nothing older, so that no kill is undone for a moment (R7)", async () => {
    const known = await turnedOn(place, "a", { clientSide: true });
    const client = await open(known + 1);
    // Long enough for an answer that does not wait.
    await scheduler.wait(100);
    expect(await edit({ on: false })).toBe(known + 1);
    const revision = await edit({ on: true });
    await vi.waitFor(() => expect(client.of("patch").at(-1)?.id).toBe(String(revision)), 5_000);
    expect(client.of("put")).toEqual([]);
    expect(client.of("patch").every(({ data }) => data.previous > known)).toBe(true);
  });

  test("and is told what there is where that does not come, or where nobody can have heard of it", async () => {
    const known = await turnedOn(place, "a", { clientSide: true });
    for (const since of [known + 1, known + 1_000_000]) {
      const client = await open(since);
      await vi.waitFor(() => expect(client.of("put")[0]?.id).toBe(String(known)), 5_000);
    }
  });
});
