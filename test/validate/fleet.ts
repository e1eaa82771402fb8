/** Processes full of SDK clients, each on a stream of its own. */
import { type ChildProcess, fork } from "node:child_process";
import { percentile, type Row, rounded } from "./figures.ts";
import type { Ended, Remembered } from "./invariants.ts";
import { History } from "./invariants.ts";
import type { FleetOptions, FleetReport, Rest } from "./sdk-process.ts";

export class Fleet {
  /** As far as they have been reported. */
  evaluations = 0;
  failed = 0;
  readonly #processes: ChildProcess[];

  private constructor(processes: ChildProcess[]) {
    this.#processes = processes;
  }

  /** `clients` and `evaluationsPerSecond` are those of all processes together. */
  static async start(count: number, options: Omit<FleetOptions, "name">): Promise<Fleet> {
    const processes = Array.from({ length: count }, (_, index) => {
      const own: FleetOptions = {
        ...options,
        clients: Math.floor(options.clients / count),
        evaluationsPerSecond: options.evaluationsPerSecond / count,
        name: `sdk-${index}`,
      };
      return fork("test/validate/sdk-process.ts", [JSON.stringify(own)], { execPath: process.execPath });
    });
    const fleet = new Fleet(processes);
    await Promise.all(processes.map((child) => answerOf(child)));
    return fleet;
  }

  /** What has happened since the last report, and where every client stands now. */
  async report(): Promise<FleetReport[]> {
    const reports = await this.#request<FleetReport>("report");
    for (const { evaluations, failed } of reports) {
      this.evaluations += evaluations;
      this.failed += failed;
    }
    return reports;
  }

  /** How many clients have a stream. */
  async streaming(): Promise<number> {
    return (await this.#request<number>("streaming")).reduce((sum, count) => sum + count, 0);
  }

  /** The end of evaluating, and of what is to be told about it. */
  async rest(): Promise<Rest> {
    return (await this.#request<Rest>("rest")).reduce((sum, one) => ({
      evaluations: sum.evaluations + one.evaluations,
      buffered: sum.buffered + one.buffered,
      dropped: sum.dropped + one.dropped,
    }));
  }

  async close(): Promise<void> {
    const closed = this.#processes.map(async (child) => {
      if (child.exitCode !== null) return;
      const exited = new Promise((resolve) => child.on("exit", resolve));
      child.send("close");
      await exited;
    });
    await Promise.all(closed);
  }

  #request<T>(task: "report" | "streaming" | "rest"): Promise<T[]> {
    return Promise.all(
      this.#processes.map((child) => {
        const answer = answerOf<T>(child);
        child.send(task);
        return answer;
      }),
    );
  }
}

function answerOf<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null) => reject(new Error(`An SDK process ended with ${code}`));
    child.once("exit", ended);
    child.once("message", (message) => {
      child.off("exit", ended);
      resolve(message as T);
    });
  });
}

/** Evaluations, and changes on their way from the hub to a client's change event. */
export function fleetRows(phase: string, reports: readonly FleetReport[]): Row[] {
  const sum = (count: (report: FleetReport) => number) => reports.reduce((all, report) => all + count(report), 0);
  const evaluations = sum((report) => report.evaluations);
  const failed = sum((report) => report.failed);
  const seconds = Math.max(...reports.map((report) => report.seconds));
  const changes = reports.flatMap(({ changeLatenciesMs }) => changeLatenciesMs);
  const at = (q: number) => rounded(percentile(changes, q));
  const p99 = Math.max(...reports.map(({ evaluationP99 }) => evaluationP99 ?? 0)) * 1_000;
  const note = `p99 of one ${p99.toFixed(0)} µs`;
  return [
    {
      phase,
      what: "evaluation",
      perSecond: rounded(evaluations / seconds)!,
      p50: null,
      p95: null,
      p99: null,
      errorRate: evaluations === 0 ? 0 : failed / evaluations,
      note,
    },
    {
      phase,
      what: "hub → client",
      perSecond: rounded(changes.length / seconds)!,
      p50: at(0.5),
      p95: at(0.95),
      p99: at(0.99),
      errorRate: 0,
      note: `${sum((report) => report.disconnects)} streams cut`,
    },
  ];
}

/** What all processes saw, as one history; and where all clients stand. */
export function merged(reports: readonly FleetReport[]): {
  history: Remembered[];
  ended: Ended[];
  violations: string[];
} {
  const history = new History();
  for (const entry of reports.flatMap((report) => report.history)) history.add(entry);
  return {
    history: history.entries(),
    ended: reports.flatMap(({ ended }) => ended),
    violations: [...history.violations, ...reports.flatMap(({ violations }) => violations)],
  };
}
