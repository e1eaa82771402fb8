/** From the API to SDKs and back to receipts, through whole processes and real sockets. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
let server: Server;
let serverKey: string;
let flags: string;

const booleanFlag = (key: string) => ({
  key,
  name: key,
  type: "boolean",
  variations: [
    { key: "on", value: true },
    { key: "off", value: false },
  ],
});

async function makeFlag(key: string): Promise<string> {
  await server.ask("POST", flags, booleanFlag(key));
  return `${flags}/${key}/environments/production`;
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  ({ serverKey, flags } = await server.environment());
});

afterAll(() => server.dispose());

const user = { targetingKey: "user-42" };

for (const stream of ["websocket", "sse"] as const) {
  test(`a flag made, turned on, split and killed by the API reaches a Node SDK over ${stream} (R7, R14)`, async () => {
    const sdk = await readyClient({ url: server.url, serverKey, streams: [stream] });
    const targeting = await makeFlag(`over-${stream}`);
    await vi.waitFor(() => expect(sdk.details(`over-${stream}`, false, user).reason).toBe("OFF"));
    await server.ask("PATCH", targeting, { on: true });
    await vi.waitFor(() => expect(sdk.boolean(`over-${stream}`, false, user)).toBe(true));
    await server.ask("PATCH", targeting, { fallthrough: { split: { weights: { on: 0, off: 100_000 } } } });
    await vi.waitFor(() => expect(sdk.boolean(`over-${stream}`, true, user)).toBe(false));
    await server.ask("POST", `${targeting}/kill`, { reason: "test" });
    const killed = () =>
      expect(sdk.details(`over-${stream}`, true, user)).toMatchObject({ reason: "KILLED", variation: "off" });
    // The answer waits until a WebSocket SDK has applied it; of an SSE stream it knows only that it was written.
    if (stream === "websocket") killed();
    else await vi.waitFor(killed);
  });
}

test("a poller without streams sees a change at its next poll, and the same ruleset twice is a 304 (Q6)", async () => {
  const poll = (etag?: string) =>
    fetch(`${server.url}/sdk/v1/ruleset`, {
      headers: { authorization: `Bearer ${serverKey}`, ...(etag === undefined ? {} : { "if-none-match": etag }) },
    });
  const first = await poll();
  const etag = first.headers.get("etag") ?? "";
  await first.arrayBuffer();
  expect((await poll(etag)).status).toBe(304);
  await makeFlag("for-pollers");
  await vi.waitFor(async () => {
    const next = await poll(etag);
    expect(next.status).toBe(200);
    expect(Object.keys(((await next.json()) as { flags: object }).flags)).toContain("for-pollers");
  }, 5_000);
});

test("a reader that asks for the revision it was answered sees that change at once", async () => {
  const answer = await server.ask<{ revision: number }>("PATCH", await makeFlag("read-own-write"), { on: true });
  const response = await fetch(`${server.url}/sdk/v1/ruleset?revision=${answer.revision}`, {
    headers: { authorization: `Bearer ${serverKey}` },
  });
  const ruleset = (await response.json()) as { revision: number };
  expect(ruleset.revision).toBeGreaterThanOrEqual(answer.revision);
});

test("a kill waits for its receipt: every live client, by what it is known to have (X1)", async () => {
  const targeting = await makeFlag("counted");
  const sockets = await Promise.all(Array.from({ length: 3 }, () => readyClient({ url: server.url, serverKey })));
  const stream = await readyClient({ url: server.url, serverKey, streams: ["sse"] });
  const { receipt } = await server.ask<{ receipt: Record<string, number> }>("POST", `${targeting}/kill`, {
    reason: "count",
  });
  expect(receipt).toMatchObject({ connected: 4, applied: 3, delivered: 1, gone: 0, silent: 0 });
  for (const sdk of sockets) expect(sdk.details("counted", true, user).reason).toBe("KILLED");
  await vi.waitFor(() => expect(stream.details("counted", true, user).reason).toBe("KILLED"));
});

test("two people racing on one flag both land, one on top of the other, and the SDK sees both (Q8)", async () => {
  const targeting = await makeFlag("raced");
  const sdk = await readyClient({ url: server.url, serverKey });
  await Promise.all([
    server.ask("PATCH", targeting, { on: true }),
    server.ask("PATCH", targeting, { targets: [{ variation: "off", values: ["user-42"] }] }),
  ]);
  await vi.waitFor(() =>
    expect(sdk.details("raced", true, user)).toMatchObject({ reason: "TARGET_MATCH", value: false }),
  );
});

test("a revoked key is refused at once and its open stream is cut", async () => {
  const { id, key } = await server.ask<{ id: string; key: string }>(
    "POST",
    "/projects/p/environments/production/keys",
    {
      kind: "server",
      name: "short-lived",
    },
  );
  const sdk = await readyClient({ url: server.url, serverKey: key });
  const cut = new Promise((resolve) => sdk.on("disconnected", resolve));
  await server.ask("DELETE", `/projects/p/environments/production/keys/${id}`);
  await cut;
  await vi.waitFor(async () => {
    const response = await fetch(`${server.url}/sdk/v1/ruleset`, { headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(401);
  }, 5_000);
});

for (const end of ["stop", "kill"] as const) {
  test(`after a server ${end}, an SDK evaluates from memory and resumes by itself, without a full reload (R15, Q7)`, async () => {
    const targeting = await makeFlag(`before-${end}`);
    await server.ask("PATCH", targeting, { on: true });
    const fetched: string[] = [];
    const sdk = await readyClient({
      url: server.url,
      serverKey,
      fetch: (url, init) => {
        fetched.push(String(url));
        return fetch(url, init);
      },
    });
    await vi.waitFor(() => expect(sdk.boolean(`before-${end}`, false, user)).toBe(true));
    const down = new Promise((resolve) => sdk.on("disconnected", resolve));
    await server[end]();
    await down;
    expect(sdk.boolean(`before-${end}`, false, user)).toBe(true);
    const whole = fetched.length;
    const up = new Promise((resolve) => sdk.on("connected", resolve));
    await server.resume();
    await up;
    await server.ask("POST", `${targeting}/kill`, { reason: "back again" });
    await vi.waitFor(() => expect(sdk.details(`before-${end}`, true, user).reason).toBe("KILLED"), 10_000);
    expect(fetched.slice(whole).filter((url) => url.includes("/ruleset")).length).toBe(0);
  });
}
