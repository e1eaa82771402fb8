/** The conformance vectors through the entries that evaluate rules: over each transport in Node, and in workerd. */
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Peer, rulesetOf, SERVER_KEY } from "../support/peer.ts";
import { readyClient } from "../support/sdk.ts";
import { bundle } from "../support/server.ts";
import { between, type Vector, wireVectors } from "../support/vectors.ts";

const vectors = wireVectors();
let peer: Peer;

beforeAll(async () => {
  peer = await new Peer(rulesetOf(1, [])).start();
});
afterAll(() => peer.stop());

test("nearly all vectors can be on the wire", () => {
  expect(vectors.length).toBeGreaterThan(480);
});

/** Serves the documents of a vector as the next revision. */
function serve({ ruleset }: Vector): object {
  const before = peer.ruleset;
  const revision = before.revision + 1;
  peer.ruleset = { ...ruleset, revision };
  return {
    type: "patch",
    revision,
    previous: before.revision,
    publishedAt: 1,
    ackWithinMs: 0,
    ...between(before, ruleset),
  };
}

/** Compares as JSON does, in which a field that does not apply is absent. */
const wrongAnswers = async (answer: (vector: Vector) => Promise<unknown>) => {
  const wrong: string[] = [];
  for (const vector of vectors) {
    const given = JSON.parse(JSON.stringify(await answer(vector)));
    try {
      expect(given).toEqual(JSON.parse(JSON.stringify(vector.expected)));
    } catch {
      wrong.push(`${vector.id}: ${JSON.stringify(given)}`);
    }
  }
  return wrong;
};

describe.each(["websocket", "sse"] as const)("Node, over %s", (stream) => {
  test("answers every vector", async () => {
    const client = await readyClient({ url: peer.url, serverKey: SERVER_KEY, streams: [stream] });
    const wrong = await wrongAnswers(async (vector) => {
      const change = new Promise((resolve) => client.on("change", resolve));
      peer.send(serve(vector));
      await change;
      return client.details(vector.flag, vector.defaultValue, vector.context);
    });
    expect(wrong).toEqual([]);
  });
});

test("Workers, in workerd, answers every vector", async () => {
  const script = bundle("test/support/vector-worker.ts", "examples/worker/wrangler.toml");
  const isolate = new Miniflare(
    convertV4MiniflareOptions({
      modules: [{ type: "ESModule", path: join(script, "vector-worker.js") }],
      modulesRoot: "/",
      compatibilityDate: "2026-10-23",
      bindings: { BUNTING_URL: peer.url, BUNTING_SERVER_KEY: SERVER_KEY },
    }),
  );
  try {
    await isolate.ready;
    const wrong = await wrongAnswers(async (vector) => {
      serve(vector);
      const { flag, context, defaultValue } = vector;
      const body = JSON.stringify({ flag, context, defaultValue });
      return (await isolate.dispatchFetch("http://shop.test/", { method: "POST", body })).json();
    });
    expect(wrong).toEqual([]);
  } finally {
    await isolate.dispose();
  }
});
