/** What a relay sends of a storm: fewer messages, the same documents, in order, and a kill at once. */
import type { PatchMessage } from "@bunting/core/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { flag } from "../test/support/environment.ts";
import { encodeDelivery, mergeMessages, type Standing } from "./delivery.ts";
import { DeliveryQueue } from "./delivery-queue.ts";

const standing: Standing = { relays: {}, connected: 0, keys: {} };
const delivery = (revision: number, flags: Record<string, ReturnType<typeof flag> | null> = {}, urgent = false) =>
  encodeDelivery({ revision, previous: revision - 1, publishedAt: revision, flags, segments: {} }, {}, 0, urgent)
    .delivery;

const documents = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.option(fc.nat(9).map((version) => version + 1)));

test("a client that takes the merged messages is where one is that took each of them (Q8)", () => {
  fc.assert(
    fc.property(fc.array(documents, { minLength: 1, maxLength: 12 }), (changes) => {
      const run = changes.map((change, index) => {
        const flags = Object.entries(change).map(
          ([key, version]) => [key, version === null ? null : flag(key, { version })] as const,
        );
        return delivery(index + 1, Object.fromEntries(flags));
      });
      const messages = mergeMessages(run).map((message) => JSON.parse(message) as PatchMessage);
      expect(messages).toHaveLength(1);
      const apply = (all: PatchMessage[]) => Object.assign({}, ...all.map(({ flags }) => flags)) as object;
      expect(apply(messages)).toEqual(apply(run.map(({ message }) => JSON.parse(message) as PatchMessage)));
      expect(messages[0]).toMatchObject({ previous: 0, revision: changes.length });
    }),
  );
});

test("what would not fit a message, what changes members, and a resync travel by themselves", () => {
  const values = Array.from({ length: 1_500 }, (_, index) => `user-${index}`);
  const large = (revision: number) =>
    delivery(revision, { [`large-${revision}`]: flag("large", { targets: [{ variation: "on", values }] }) });
  expect(mergeMessages([large(1), large(2)])).toHaveLength(2);
  const members = { ...delivery(2), message: JSON.stringify({ ...JSON.parse(delivery(2).message), members: {} }) };
  expect(mergeMessages([delivery(1), members, delivery(3), delivery(4)])).toHaveLength(3);
  const resync = { ...delivery(2), message: JSON.stringify({ type: "resync", revision: 2, withinMs: 0 }) };
  expect(mergeMessages([delivery(1), resync, delivery(3)])).toHaveLength(3);
});

test("a rested queue hands on at once, a busy one what has come meanwhile, and a kill wakes it (R7)", async () => {
  const queue = new DeliveryQueue();
  const take = async (sent: number) => (await queue.next(() => sent)).map(({ delivery }) => delivery.revision);
  const add = (revision: number, urgent = false) =>
    queue.add({ delivery: delivery(revision, {}, urgent), standing, told: undefined });
  add(1);
  expect(await take(0)).toEqual([1]);
  queue.sent(1_000_000);
  add(2);
  add(3);
  const next = take(1);
  add(4, true);
  expect(await next).toEqual([2, 3, 4]);
  // What was attached meanwhile is not sent again, and what does not follow is left to those who ask for it.
  add(5);
  add(7);
  expect(await take(4)).toEqual([5]);
  queue.sent(0);
  add(5);
  expect(await take(5)).toEqual([]);
});
