/** During a storm of edits a relay sends fewer messages with the same documents, in order, and a kill at once. */
import { compile } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import fc from "fast-check";
import { expect, onTestFinished, test, vi } from "vitest";
import { flag } from "../../test/support/environment.ts";
import { type EnvironmentOccupancy, encodeDelivery, isResync, mergeMessages } from "../fan-out/delivery.ts";
import { DeliveryQueue } from "./delivery-queue.ts";

const occupancy: EnvironmentOccupancy = { relays: {}, connected: 0, keys: {} };
const delivery = (revision: number, flags: Record<string, ReturnType<typeof flag> | null> = {}, urgent = false) =>
  encodeDelivery({ revision, previous: revision - 1, publishedAt: revision, flags, segments: {} }, {}, 0, urgent)
    .delivery;

function runOf(changes: Record<string, number | null>[]) {
  return changes.map((change, index) => {
    const flags = Object.entries(change).map(
      ([key, version]) => [key, version === null ? null : flag(key, { version })] as const,
    );
    return delivery(index + 1, Object.fromEntries(flags));
  });
}

const documents = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.option(fc.nat(9).map((version) => version + 1)));

test("a client that applies merged messages has the same documents as one that applies each (Q8)", () => {
  fc.assert(
    fc.property(fc.array(documents, { minLength: 1, maxLength: 12 }), (changes) => {
      const run = runOf(changes);
      const messages = mergeMessages(run).map((message) => JSON.parse(message) as PatchMessage);
      expect(messages).toHaveLength(1);
      const apply = (all: PatchMessage[]) => Object.assign({}, ...all.map(({ flags }) => flags)) as object;
      expect(apply(messages)).toEqual(apply(run.map(({ message }) => JSON.parse(message) as PatchMessage)));
      expect(messages[0]).toMatchObject({ previous: 0, revision: changes.length });
    }),
  );
});

test("a client at any revision that a merged message includes can apply it (Q8)", () => {
  const empty = { schema: 1, environment: "e", revision: 0, flags: {}, segments: {} } as const;
  const events = { exposureSampleRate: 1, summarySeconds: 60 };
  fc.assert(
    fc.property(fc.array(documents, { minLength: 2, maxLength: 8 }), fc.nat(), (changes, some) => {
      const run = runOf(changes);
      const [each, ahead] = [compile({ ...empty, events }), compile({ ...empty, events })];
      const patches = run.map(({ message }) => JSON.parse(message) as PatchMessage);
      for (const patch of patches) each.apply(patch);
      for (const patch of patches.slice(0, some % changes.length)) ahead.apply(patch);
      ahead.apply(JSON.parse(mergeMessages(run)[0]!) as PatchMessage);
      expect(ahead.ruleset).toEqual(each.ruleset);
    }),
  );
});

test("edits of one large flag are merged while the message fits, also with values outside ASCII", () => {
  for (const [prefix, count] of [["user-", 4_000] as const, ["ユーザー", 2_500] as const]) {
    const values = Array.from({ length: count }, (_, index) => `${prefix}${index}`);
    const run = [1, 2, 3].map((revision) =>
      delivery(revision, { large: flag("large", { version: revision, targets: [{ variation: "on", values }] }) }),
    );
    expect(run.map(isResync)).toEqual([false, false, false]);
    const merged = mergeMessages(run);
    expect(merged).toHaveLength(1);
    expect(JSON.parse(merged[0]!)).toMatchObject({ previous: 0, revision: 3, flags: { large: { version: 3 } } });
  }
});

test("changes too large to merge, changes of members, and resyncs are not merged", () => {
  const values = Array.from({ length: 3_000 }, (_, index) => `user-${index}`);
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

test("a clock that is set back delays no message for longer than a pause", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const queue = new DeliveryQueue();
  queue.setSocketCount(1_000_000);
  let sent = 0;
  const send = (revision: number) => {
    queue.add({ delivery: delivery(revision), occupancy, sentTo: undefined });
    return queue.next(() => revision - 1).then((run) => (sent = run.at(-1)?.delivery.revision ?? sent));
  };
  for (const revision of [1, 2]) await send(revision);
  vi.setSystemTime(Date.now() - 60_000);
  void send(3);
  await vi.advanceTimersByTimeAsync(300);
  expect(sent).toBe(3);
});
