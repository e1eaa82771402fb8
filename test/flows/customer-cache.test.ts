/** Isolates of a customer's Worker, in workerd, with the real KV and Cache API: a thousand requests at once, and starts while Bunting is away. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../support/peer.ts";
import { bundle } from "../support/server.ts";

let script: string;
beforeAll(() => {
  script = bundle("examples/worker/index.ts", "examples/worker/wrangler.toml");
});

describe.each(["FLAGS_KV", "the Cache API"])("with %s", (place) => {
  let persist: string;
  let peer: Peer;
  let isolate: Miniflare;

  /** An isolate that has just started, beside what the one before has left. */
  async function restart(): Promise<void> {
    await isolate?.dispose();
    isolate = new Miniflare({
      ...convertV4MiniflareOptions({
        name: "shop",
        modules: [{ type: "ESModule", path: join(script, "index.js") }],
        modulesRoot: "/",
        compatibilityDate: "2026-10-23",
        bindings: { BUNTING_URL: peer.url, BUNTING_SERVER_KEY: SERVER_KEY },
        ...(place === "FLAGS_KV" && { kvNamespaces: { FLAGS_KV: "flags" } }),
      }),
      resourcePersistencePath: persist,
    });
    await isolate.ready;
  }

  async function visit(): Promise<object> {
    const response = await isolate.dispatchFetch("http://shop.test/?user=ada");
    expect(response.status).toBe(200);
    return (await response.json()) as object;
  }

  /** The revision that is kept. */
  async function kept(): Promise<number | undefined> {
    if (place === "FLAGS_KV") {
      const kv = await isolate.getKVNamespace("FLAGS_KV");
      return ((await kv.getWithMetadata("bunting:env-1", "text")).metadata as { revision: number } | null)?.revision;
    }
    const { open } = await isolate.getCaches();
    const response = await (await open("bunting")).match("https://bunting.invalid/env-1");
    return response === undefined ? undefined : ((await response.json()) as { revision: number }).revision;
  }

  beforeAll(async () => {
    persist = mkdtempSync(join(tmpdir(), "bunting-isolate-"));
    peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", true, 1)])).start();
  });
  afterAll(async () => {
    await isolate?.dispose();
    await peer?.stop();
    rmSync(persist, { recursive: true, force: true });
  });

  test("a thousand requests at once to an isolate that has just started are all answered, for one request to Bunting", async () => {
    await restart();
    const since = performance.now();
    const answers = await Promise.all(Array.from({ length: 1_000 }, visit));
    for (const answer of answers)
      expect(answer).toMatchObject({ "new-checkout": true, source: "snapshot", stale: false });
    // And one more for each second that a slow machine takes for them.
    expect(peer.count("ruleset")).toBeLessThanOrEqual(1 + (performance.now() - since) / 1_000);
    await vi.waitFor(async () => expect(await kept()).toBe(10), { timeout: 20_000, interval: 100 });
  });

  test("an isolate that starts asks whether what it found is still right, and a thousand at once are answered from it", async () => {
    await restart();
    const before = peer.count("ruleset");
    const answers = await Promise.all(Array.from({ length: 1_000 }, visit));
    for (const answer of answers) expect(answer).toMatchObject({ "new-checkout": true, revision: 10 });
    // Not verified in time, it is used all the same; it is verified with the first answer.
    await vi.waitFor(async () => expect(await visit()).toMatchObject({ source: "snapshot", stale: false }));
    const asked = peer.requests.filter(({ url }) => url.startsWith("/sdk/v1/ruleset")).slice(before);
    expect(asked[0]).toMatchObject({ url: "/sdk/v1/ruleset?revision=10", headers: { "if-none-match": '"10"' } });
  });

  test("with Bunting gone an isolate that starts serves the last ruleset, says stale, and comes back by itself (Q7)", async () => {
    await peer.stop();
    await restart();
    const last = { "new-checkout": true, revision: 10, source: "cache", stale: true };
    const answers = await Promise.all(Array.from({ length: 100 }, visit));
    for (const answer of answers) expect(answer).toMatchObject(last);
    peer.change(booleanFlag("new-checkout", false, 2));
    await peer.start();
    const next = { "new-checkout": false, revision: 11, source: "snapshot", stale: false };
    await vi.waitFor(async () => expect(await visit()).toMatchObject(next), { timeout: 20_000, interval: 100 });
  });
});
