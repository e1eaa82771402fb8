/** The bridge between an SSE client and its relay: what becomes of the relay's socket when the client misbehaves. */
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { Caller } from "../../workers/edge/authenticate.ts";
import { Incoming } from "../../workers/edge/router.ts";
import { isolateRuleset } from "../../workers/edge/ruleset/cache.ts";
import { openEventStream } from "../../workers/edge/streams/ruleset-stream.ts";
import { commitDocuments, newEnvironment } from "../support/environment.ts";
import { relayOf } from "../support/relay-socket.ts";

const grant = { id: "key_1", kind: "server" as const, origins: [], expiresAt: null };

async function environment() {
  const head = await newEnvironment();
  const { environmentId } = head;
  const hub = env.HUB.get(env.HUB.idFromName(environmentId));
  await hub.create(environmentId);
  await hub.publish((await commitDocuments(head, { keys: { hash: grant } })).change);
  const visit = new Incoming(request(), env, { waitUntil: () => {} });
  const ruleset = (await isolateRuleset(visit, environmentId))!;
  const caller = new Caller(visit, ruleset, "hash", grant);
  const connected = async () => (await relayOf(environmentId).receipt(Number.MAX_SAFE_INTEGER, 800)).connected;
  return { caller, connected };
}

const request = (signal?: AbortSignal) => new Request("https://bunting.test/sdk/v1/stream", signal ? { signal } : {});

test("a client that was gone before its stream began leaves no socket behind", async () => {
  const { caller, connected } = await environment();
  const gone = new AbortController();
  const opening = openEventStream(caller, request(gone.signal));
  gone.abort();
  await opening;
  await vi.waitFor(async () => expect(await connected()).toBe(0));
});

test("a client that vanishes is told by its request, and its socket is closed", async () => {
  const { caller, connected } = await environment();
  const gone = new AbortController();
  await openEventStream(caller, request(gone.signal));
  expect(await connected()).toBe(1);
  gone.abort();
  await vi.waitFor(async () => expect(await connected()).toBe(0));
});
