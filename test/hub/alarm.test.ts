/** A hub and a relay each have one alarm for all of their background work. */
import { runInDurableObject } from "cloudflare:test";
import { expect, test, vi } from "vitest";
import { Alarm } from "../../durable-objects/alarm.ts";
import { relayOf } from "../support/relay-socket.ts";

const HOUR_MS = 60 * 60_000;

/** As in an object's constructor, before any request. */
async function newAlarm(state: DurableObjectState): Promise<Alarm> {
  const alarm = new Alarm(state);
  await scheduler.wait(0);
  return alarm;
}

/** In how many hours the alarm goes off after these calls of `wake`, made in one step. */
const hourAfter = (name: string, wishes: number[]) =>
  runInDurableObject(relayOf(name), async (_, state) => {
    const alarm = await newAlarm(state);
    for (const hours of wishes) alarm.wake(hours * HOUR_MS);
    return Math.round(((await state.storage.getAlarm()) as number) / HOUR_MS - Date.now() / HOUR_MS);
  });

test.for([[[1, 5]], [[5, 1]], [[5, 1, 3]]])("of %j hours the earliest is kept", async ([wishes]) => {
  expect(await hourAfter(`env_alarm_${wishes!.join("")}`, wishes!)).toBe(1);
});

test("the earliest requested time wins, until the alarm has gone off", async () => {
  await runInDurableObject(relayOf("env_alarm"), async (_, state) => {
    const alarm = await newAlarm(state);
    const at = async (hours: number) => {
      alarm.wake(hours * HOUR_MS);
      return Math.round(((await state.storage.getAlarm()) as number) / HOUR_MS - Date.now() / HOUR_MS);
    };
    expect([await at(4), await at(6), await at(2)]).toEqual([4, 4, 2]);
    await state.storage.deleteAlarm();
    alarm.wentOff();
    expect(await at(8)).toBe(8);
    await state.storage.deleteAlarm();
  });
});

test("a wake is written atomically with the writes before it", async () => {
  await runInDurableObject(relayOf("env_alarm_step"), async (_, state) => {
    const alarm = await newAlarm(state);
    const setAlarm = vi.spyOn(Object.getPrototypeOf(state.storage) as DurableObjectStorage, "setAlarm");
    alarm.wake(HOUR_MS);
    expect(setAlarm).toHaveBeenCalledOnce();
    alarm.wake(2 * HOUR_MS);
    expect(setAlarm).toHaveBeenCalledOnce();
    setAlarm.mockRestore();
    await state.storage.deleteAlarm();
  });
});

test("an evicted object reads its alarm before the first wake, and keeps the earlier time", async () => {
  await runInDurableObject(relayOf("env_alarm_known"), async (_, state) => {
    const soon = Date.now() + HOUR_MS;
    await state.storage.setAlarm(soon);
    const alarm = await newAlarm(state);
    alarm.wake(2 * HOUR_MS);
    expect(await state.storage.getAlarm()).toBe(soon);
    await state.storage.deleteAlarm();
  });
});

test("an alarm that the runtime no longer retries is set anew", async () => {
  await runInDurableObject(relayOf("env_alarm_lost"), async (_, state) => {
    const alarm = await newAlarm(state);
    vi.useFakeTimers({ toFake: ["Date"] });
    alarm.wake(1_000);
    await state.storage.deleteAlarm();
    vi.setSystemTime(Date.now() + HOUR_MS);
    alarm.wake(1_000);
    vi.useRealTimers();
    expect(await state.storage.getAlarm()).not.toBeNull();
    await state.storage.deleteAlarm();
  });
});
