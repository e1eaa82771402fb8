/** Requests as they are due, whatever becomes of the ones before (open loop), by senders that are free. */
import { Totals } from "./figures.ts";
import { dueAt, dueBy, interleave, type Mix, type Step } from "./schedule.ts";
import type { Kind, Sender } from "./senders.ts";

export type TotalsByKind = Map<Kind, Totals>;

const TICK_MS = 5;

export class Traffic {
  readonly #free = new Map<Kind, Sender[]>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #senders: readonly Sender[];

  constructor(senders: readonly Sender[]) {
    this.#senders = senders;
    for (const sender of senders) this.#free.set(sender.kind, [...(this.#free.get(sender.kind) ?? []), sender]);
  }

  /**
   * Sends for so long and answers at the end of it, whatever is still on its way by then. A latency counts from when the
   * request was due and not from when it was sent: a generator that is late hides nothing.
   */
  async run(mix: Mix<Kind>, perSecond: number, seconds: number): Promise<{ totalsByKind: TotalsByKind; step: Step }> {
    const round = interleave(mix);
    const totalsByKind: TotalsByKind = new Map(round.map((kind) => [kind, new Totals()]));
    const started = performance.now();
    let offered = 0;
    let over = false;
    while (performance.now() - started < seconds * 1_000) {
      for (const due = dueBy(perSecond, performance.now() - started); offered < due; offered++) {
        const kind = round[offered % round.length]!;
        const totals = totalsByKind.get(kind)!;
        const sender = this.#free.get(kind)?.shift();
        if (sender === undefined) totals.shed += 1;
        else
          this.#send(
            sender,
            started + dueAt(perSecond, offered),
            (status, latencyMs) => over || totals.note(status, latencyMs),
          );
      }
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
    over = true;
    const sum = (count: (totals: Totals) => number) =>
      [...totalsByKind.values()].reduce((all, totals) => all + count(totals), 0);
    const failed = sum(({ failures }) => failures);
    const step = { offered, answered: sum(({ ok }) => ok) + failed, failed, shed: sum(({ shed }) => shed) };
    return { totalsByKind, step };
  }

  /** Until nothing is on its way. */
  async quiet(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  /** Each sender of the kind once more, until it succeeds: what was left unanswered gets its answer. False: time was up. */
  async finish(kind: Kind, withinMs: number): Promise<boolean> {
    await this.quiet();
    const until = performance.now() + withinMs;
    const finished = this.#senders
      .filter((sender) => sender.kind === kind)
      .map(async (sender) => {
        while (performance.now() < until) {
          const status = await sender.next();
          if (status >= 200 && status < 300) return true;
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
        return false;
      });
    return (await Promise.all(finished)).every(Boolean);
  }

  #send(sender: Sender, dueMs: number, note: (status: number, latencyMs: number) => void): void {
    const sent = sender.next().then((status) => {
      note(status, performance.now() - dueMs);
      this.#underWay.delete(sent);
      this.#free.get(sender.kind)!.push(sender);
    });
    this.#underWay.add(sent);
  }
}
