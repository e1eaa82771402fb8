import type { Flag, Segment } from "@bunting/core";
import { expect, onTestFinished, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { type Client, createClient } from "../node.ts";

async function connected(flags: Flag[], segments: Record<string, Segment> = {}) {
  const peer = await new Peer({ ...rulesetOf(10, flags), segments }).start();
  const warn = vi.fn();
  const client: Client = createClient({ serverKey: SERVER_KEY, url: peer.url, logger: { warn, error() {} } });
  onTestFinished(async () => {
    await client.close();
    await peer.stop();
  });
  await new Promise((resolve) => client.once("connected", resolve));
  return { peer, client, warn };
}

test("`change:<flag>` is called for the flag itself and for what it depends on, at any distance, and for nothing else", async () => {
  const prerequisites = [{ flag: "billing", variations: ["on"] }];
  const gold = { key: "gold", version: 1, included: [], excluded: [], rules: [] } as unknown as Segment;
  const conditions = [{ segment: ["gold"] }];
  const rules = [{ id: "r_1", conditions, serve: { variation: "on" } }] as unknown as Flag["rules"];
  const flags = [
    booleanFlag("checkout", true, 1, { prerequisites }),
    booleanFlag("billing", true, 1, { rules }),
    booleanFlag("other", true, 1),
  ];
  const { peer, client } = await connected(flags, { gold });
  const calls: string[] = [];
  for (const key of ["checkout", "billing", "other"])
    client.on(`change:${key}`, ({ revision }) => calls.push(`${key} ${revision}`));
  const applied = (revision: number) => vi.waitFor(() => expect(client.status().revision).toBe(revision));
  peer.publish({ ...flags[1]!, version: 2 });
  await applied(11);
  peer.publish({ ...flags[2]!, version: 2 });
  await applied(12);
  peer.send({
    type: "patch",
    revision: 13,
    previous: 12,
    publishedAt: Date.now(),
    flags: {},
    segments: { gold: { ...gold, version: 2 } },
  });
  await applied(13);
  expect(calls.sort()).toEqual(["billing 11", "billing 13", "checkout 11", "checkout 13", "other 12"]);
});

test.each<[string, Partial<Flag>, RegExp]>([
  ["whose value is of another type", {}, /"new-checkout" has no string value: ask for the type that it has/],
  [
    "that is split by a key which the context does not have",
    {
      fallthrough: {
        split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to: 100_000 }] },
      } as never,
    },
    /"new-checkout" is split .*: pass a targetingKey/,
  ],
])("a flag %s is warned of once, and its default is used (EV-8)", async (_, more, sentence) => {
  const { client, warn } = await connected([booleanFlag("new-checkout", true, 1, more)]);
  expect([client.string("new-checkout", "plain"), client.string("new-checkout", "plain")]).toEqual(["plain", "plain"]);
  expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(sentence));
});
