/** Failover: the hub, the relay and the whole runtime killed in the middle of writes and streams. */
import type { Mix } from "./schedule.ts";
import type { Kind } from "./senders.ts";
import { type Size, Stage, type Verdict } from "./stage.ts";

export type Failover = { size: Size; perSecond: number; kills: number; everySeconds: number };

const MIX: Mix<Kind> = { "ruleset poll": 10, "flag poll": 5, "management read": 5, write: 15, kill: 3 };

export const failover: Failover = {
  size: {
    processes: 2,
    clients: 24,
    evaluationsPerSecond: 20_000,
    written: 18,
    rulesetPollers: 16,
    flagPollers: 8,
    readers: 8,
  },
  perSecond: 60,
  kills: 3,
  everySeconds: 4,
};

const BACK_MS = 60_000;

export async function runFailover(
  folder: string,
  { size, perSecond, kills, everySeconds }: Failover,
): Promise<Verdict> {
  const stage = await Stage.set(folder, size);
  const { server, environmentId } = stage;
  const load = { mix: MIX, perSecond, seconds: (kills + 1) * everySeconds };
  const wait = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const repeatedly = (act: () => Promise<void>) => async () => {
    for (let times = 0; times < kills; times++) {
      await wait(everySeconds);
      await act();
    }
  };
  /** How long until every client has its stream again. */
  const comeBack = async (after: string) => {
    const since = performance.now();
    while ((await stage.fleet.streaming()) < size.clients && performance.now() - since < BACK_MS) await wait(0.25);
    const seconds = ((performance.now() - since) / 1_000).toFixed(1);
    stage.remarks.push(
      `${after}: ${await stage.fleet.streaming()} of ${size.clients} streams are there ${seconds} s later`,
    );
  };
  try {
    await stage.phase(
      "hub killed",
      load,
      repeatedly(() => server.abort("HUB", environmentId)),
    );
    await comeBack("hub killed");
    await stage.phase(
      "relay killed",
      load,
      repeatedly(() => server.abort("RELAY", `relay:${environmentId}:enam:0`)),
    );
    await comeBack("relay killed");
    stage.log.mayBeLost = true;
    await stage.phase(
      "runtime killed",
      load,
      repeatedly(async () => {
        await server.kill();
        await server.resume();
      }),
    );
    await comeBack("runtime killed");
    // The queue of a local runtime lives in its memory: what becomes of events is asked elsewhere.
    return await stage.judge("failover", { events: false });
  } finally {
    await stage.close();
  }
}
