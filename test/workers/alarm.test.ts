/** The one alarm that a hub or a relay has for all that can wait. */
import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import { Alarm } from "../../durable-objects/alarm.ts";
import { relayOf } from "../support/relay-socket.ts";

const HOUR_MS = 60 * 60_000;

/** In which hour from now the alarm goes off after all these wishes, made in one step. */
const hourAfter = (name: string, wishes: number[]) =>
  runInDurableObject(relayOf(name), async (_, state) => {
    const alarm = new Alarm(state);
    for (const hours of wishes) alarm.wake(hours * HOUR_MS);
    await scheduler.wait(0);
    return Math.round(((await state.storage.getAlarm()) as number) / HOUR_MS - Date.now() / HOUR_MS);
  });

test.for([[[1, 5]], [[5, 1]], [[5, 1, 3]]])("of %j hours the earliest is kept", async ([wishes]) => {
  expect(await hourAfter(`env_alarm_${wishes!.join("")}`, wishes!)).toBe(1);
});

test("a later wish changes nothing, an earlier one does, and after it has gone off the next counts", async () => {
  await runInDurableObject(relayOf("env_alarm"), async (_, state) => {
    const alarm = new Alarm(state);
    const at = async (hours: number) => {
      alarm.wake(hours * HOUR_MS);
      await scheduler.wait(0);
      return Math.round(((await state.storage.getAlarm()) as number) / HOUR_MS - Date.now() / HOUR_MS);
    };
    expect([await at(4), await at(6), await at(2)]).toEqual([4, 4, 2]);
    await state.storage.deleteAlarm();
    alarm.wentOff();
    expect(await at(8)).toBe(8);
    await state.storage.deleteAlarm();
  });
});
