/** During a storm of edits a relay sends fewer messages with the same documents, in order, and a kill at once. */
import type { PatchMessage } from "@bunting/core/wire";
import fc from "fast-check";
import { expect, onTestFinished, test, vi } from "vitest";
import { flag } from "../../test/support/environment.ts";
import { type EnvironmentOccupancy, encodeDelivery, mergeMessages } from "../fan-out/delivery.ts";
import { DeliveryQueue } from "./delivery-queue.ts";

const occupancy: EnvironmentOccupancy = { relays: {}, connected: 0, keys: {} };
const delivery = (revision: number, flags: Record<string, ReturnType<typeof flag> | null> = {}, urgent = false) =>
  encodeDelivery({ revision, previous: revision - 1, publishedAt: revision, flags, segments: {} }, {}, 0, urgent)
    .delivery;

const documents = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.option(fc.nat(9).map((version) => version + 1)));

test("a client that applies merged messages has the same documents as one that applies each (Q8)", () => {
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

test("changes too large to merge, changes of members, and resyncs are not merged", () => {
  const values = Array.from({ length: 1_500 }, (_, index) => `user-${index}`);
  const large = (revision: number) =>
    delivery(revision, { [`large-${revision}`]: flag("large", { targets: [{ variation: "on", values }] }) });
  expect(mergeMessages([large(1), large(2)])).toHaveLength(2);
  const members = { ...delivery(2), message: JSON.stringify({ ...JSON.parse(delivery(2).message), members: {} }) };
  expect(mergeMessages([delivery(1), members, delivery(3), delivery(4)])).toHaveLength(3);
  const resync = { ...delivery(2), message: JSON.stringify({ type: "resync", revision: 2, withinMs: 0 }) };
  expect(mergeMessages([delivery(1), resync, delivery(3)])).toHaveLength(3);
});

test("single changes are sent at once, those of a storm together, and kills wait only for other kills (R7)", async () => {
  const queue = new DeliveryQueue();
  const take = async (sent: number) => (await queue.next(() => sent)).map(({ delivery }) => delivery.revision);
  const add = (revision: number, urgent = false) =>
    queue.add({ delivery: delivery(revision, {}, urgent), occupancy, sentTo: undefined });
  expect(await take(0)).toEqual([]);
  queue.setSocketCount(1_000_000);
  for (const revision of [1, 2]) {
    add(revision);
    expect(await take(revision - 1)).toEqual([revision]);
  }
  // The third one waits, and is sent together with those that arrive meanwhile.
  add(3);
  const storm = take(2);
  for (const revision of [4, 5, 6]) add(revision);
  expect(await storm).toEqual([3, 4, 5, 6]);
  add(7);
  const next = take(6);
  add(8, true);
  add(9, true);
  expect(await next).toEqual([7, 8, 9]);
  // A delivery that the relay already has is not sent again, and one after a gap is dropped.
  queue.setSocketCount(0);
  add(10);
  add(12);
  expect(await take(9)).toEqual([10]);
  add(10);
  expect(await take(10)).toEqual([]);
});

test("kills in quick succession are sent 20 ms after the first of them, also while more arrive (R7)", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const queue = new DeliveryQueue();
  const add = (revision: number) => queue.add({ delivery: delivery(revision, {}, true), occupancy, sentTo: undefined });
  queue.setSocketCount(1_000_000);
  for (const revision of [1, 2]) {
    add(revision);
    await queue.next(() => revision - 1);
  }
  add(3);
  let sent: number[] = [];
  void queue
    .next(() => 2)
    .then((run) => {
      sent = run.map(({ delivery }) => delivery.revision);
    });
  for (let revision = 4; revision < 10; revision++) {
    await vi.advanceTimersByTimeAsync(10);
    add(revision);
  }
  expect(sent[0]).toBe(3);
});
