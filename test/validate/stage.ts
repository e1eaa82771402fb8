/** One environment under load: a server, SDK processes on it, and all who ask it; and the judgement in the end. */
import { cpus, loadavg } from "node:os";
import { Server } from "../support/server.ts";
import { type Row, rowOf } from "./figures.ts";
import { Fleet, fleetRows, merged } from "./fleet.ts";
import { judge } from "./invariants.ts";
import { requester } from "./requests.ts";
import type { Mix, Step } from "./schedule.ts";
import {
  flagPoller,
  type Kind,
  Logbook,
  managementReader,
  type Place,
  rulesetPoller,
  type Sender,
  switcher,
  writer,
} from "./senders.ts";
import { Traffic } from "./traffic.ts";

export const ENTRY = "test/support/faulty-worker.ts";

export type Size = {
  processes: number;
  clients: number;
  evaluationsPerSecond: number;
  /** Flags that are written, each by a writer of its own; a third of them is also killed and restored. */
  written: number;
  rulesetPollers: number;
  flagPollers: number;
  readers: number;
};

export type Verdict = {
  test: string;
  rows: Row[];
  /** Of the whole test. */
  evaluations: number;
  acknowledged: { writes: number; kills: number };
  /** Empty: everything held. */
  violations: string[];
  machine: { cores: number; loadBefore: number; loadAfter: number };
  remarks: string[];
};

/** Flags that nobody writes: what an ordinary evaluation costs, and what must not change. */
const STEADY = 8;
const FINISH_MS = 60_000;
const ARRIVE_MS = 60_000;

export class Stage {
  readonly rows: Row[] = [];
  readonly remarks: string[] = [];
  readonly server: Server;
  readonly environmentId: string;
  readonly fleet: Fleet;
  readonly log: Logbook;
  readonly #traffic: Traffic;
  readonly #first: Record<string, number>;
  readonly #hangUp: () => void;
  readonly #loadBefore = loadavg()[0]!;
  readonly #violations: string[] = [];

  private constructor(
    server: Server,
    fleet: Fleet,
    place: Place,
    senders: Sender[],
    log: Logbook,
    first: Record<string, number>,
    hangUp: () => void,
  ) {
    this.server = server;
    this.fleet = fleet;
    this.log = log;
    this.environmentId = `env_${place.serverKey.split("_")[2]}`;
    this.#traffic = new Traffic(senders);
    this.#first = first;
    this.#hangUp = hangUp;
  }

  static async set(folder: string, size: Size): Promise<Stage> {
    const server = await Server.start(ENTRY, folder);
    const { serverKey, path, flags } = await server.environment();
    const { key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, {
      kind: "client",
      name: "polls",
    });
    const written = Array.from({ length: size.written }, (_, index) => `written-${index}`);
    const all = [...written, ...Array.from({ length: STEADY }, (_, index) => `steady-${index}`)];
    const first: Record<string, number> = {};
    for (const key of all) first[key] = await makeFlag(server, flags, key);

    const { ask, close } = requester(server.url);
    const place: Place = { ask, token: server.token, serverKey, clientKey, flags: all, path: flags };
    const log = new Logbook();
    const several = (count: number, make: (place: Place, log: Logbook, number: number) => Sender) =>
      Array.from({ length: count }, (_, number) => make(place, log, number));
    const senders = [
      ...several(size.rulesetPollers, rulesetPoller),
      ...several(size.flagPollers, flagPoller),
      ...several(size.readers, managementReader),
      ...written.map((flag) => writer(place, log, flag)),
      ...written.filter((_, index) => index % 3 === 0).map((flag) => switcher(place, log, flag)),
    ];
    const { processes, clients, evaluationsPerSecond } = size;
    const fleet = await Fleet.start(processes, {
      url: server.url,
      serverKey,
      clients,
      evaluationsPerSecond,
      flags: all,
    });
    return new Stage(server, fleet, place, senders, log, first, close);
  }

  /**
   * So much of the mix for so long, while `meanwhile` happens. Where a request of a kind in `mustAnswer` is refused,
   * that is a violation.
   */
  async phase(
    name: string,
    {
      mix,
      perSecond,
      seconds,
      mustAnswer = [],
    }: { mix: Mix<Kind>; perSecond: number; seconds: number; mustAnswer?: Kind[] },
    meanwhile: () => Promise<void> = async () => {},
  ): Promise<Step> {
    await this.fleet.report();
    const [{ totalsByKind, step }] = await Promise.all([this.#traffic.run(mix, perSecond, seconds), meanwhile()]);
    await this.#traffic.quiet();
    for (const [kind, totals] of totalsByKind) {
      const row = rowOf(name, kind, totals, seconds);
      this.rows.push(row);
      if (mustAnswer.includes(kind) && totals.failures > 0) this.#violations.push(`${name}: ${kind}: ${row.note}`);
    }
    this.rows.push(...fleetRows(name, await this.fleet.report()));
    return step;
  }

  /** Everything is well again: what was left open is finished, then everybody has to have everything. `events`: each one, too. */
  async judge(test: string, { events }: { events: boolean }): Promise<Verdict> {
    await this.server.setFaults({});
    for (const kind of ["write", "kill"] as const) {
      if (!(await this.#traffic.finish(kind, FINISH_MS)))
        this.#violations.push(`a ${kind} was never answered with 2xx`);
    }
    await this.server.sweep();
    const until = performance.now() + ARRIVE_MS;
    let found = await this.#violated();
    while (found.length > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      found = await this.#violated();
    }
    if (events) found.push(...(await this.#eventsLost()));
    if (this.fleet.failed > 0) found.push(`${this.fleet.failed} evaluations failed`);
    const { writes, kills } = this.log;
    return {
      test,
      rows: this.rows,
      evaluations: this.fleet.evaluations,
      acknowledged: { writes: writes.length, kills: kills.length },
      violations: [...this.#violations, ...this.log.violations, ...found],
      machine: { cores: cpus().length, loadBefore: this.#loadBefore, loadAfter: loadavg()[0]! },
      remarks: this.remarks,
    };
  }

  async close(): Promise<void> {
    await this.fleet.close();
    this.#hangUp();
    await this.server.dispose();
  }

  /** Some of it may only not have arrived yet. */
  async #violated(): Promise<string[]> {
    const { history, ended, violations } = merged(await this.fleet.report());
    return [...violations, ...judge(this.#first, this.log, history, ended)];
  }

  /** Every evaluation is in a summary that landed, once. */
  async #eventsLost(): Promise<string[]> {
    const { evaluations, buffered, dropped } = await this.fleet.rest();
    if (buffered + dropped > 0) return [`${buffered} events could not be sent, ${dropped} were dropped`];
    const until = performance.now() + ARRIVE_MS;
    let landed = -1;
    while (landed !== evaluations && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      landed = summed(await (await fetch(`${this.server.url}/__events`)).text());
    }
    return landed === evaluations ? [] : [`${evaluations} evaluations were made and ${landed} counted in R2`];
  }
}

/** Its version once it is on. */
async function makeFlag(server: Server, path: string, key: string): Promise<number> {
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", path, { key, name: key, type: "boolean", clientSide: true, variations });
  const targeting = await server.api("PATCH", `${path}/${key}/environments/production`, {
    on: true,
    targets: [{ variation: "on", values: ["user-1", "user-2"] }],
    fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } },
    trackExposures: key === "steady-0",
  });
  if (!targeting.ok) throw new Error(`${key}: ${targeting.status} ${await targeting.text()}`);
  return Number(/\d+/.exec(targeting.headers.get("etag") ?? "")?.[0]);
}

/** A batch may land twice, and counts once. */
function summed(ndjson: string): number {
  type Line = { kind: string; batchId: string; index: number; counts?: { count: number }[] };
  const summaries = new Map<string, number>();
  for (const text of ndjson.split("\n").filter(Boolean)) {
    const { kind, batchId, index, counts = [] } = JSON.parse(text) as Line;
    const count = counts.reduce((sum, one) => sum + one.count, 0);
    if (kind === "summary") summaries.set(`${batchId} ${index}`, count);
  }
  return [...summaries.values()].reduce((sum, count) => sum + count, 0);
}
