/**
 * Evaluation beside the peers and beside a floor that checks nothing: `npm run bench -- evaluate [side,…] [workload,…]`.
 * Every side runs in a process of its own; rounds go round the sides, and medians are reported. Peers are installed on demand.
 */
import { type ChildProcess, fork } from "node:child_process";
import { globSync } from "node:fs";
import { basename } from "node:path";
import { installPeers } from "./peers/install.ts";
import type { Loading, Order, Report } from "./peers/process.ts";
import { workloads } from "./peers/workloads.ts";

const PEERS = "bench/peers";
const ROUNDS = 10;
const OURS = "bunting";
const FLOOR = "floor";
const NOT_SIDES = new Set(["engine", "install", "process", "workloads", "worker", "sdk"]);

const all = globSync(`${PEERS}/*.ts`).map((file) => basename(file, ".ts"));
const peers = all.filter((name) => !NOT_SIDES.has(name) && name !== OURS && name !== FLOOR);
const chosen = process.argv[2] === undefined || process.argv[2] === "all" ? peers : process.argv[2].split(",");
const sides = [OURS, FLOOR, ...chosen.filter((name) => name !== OURS && name !== FLOOR)];
const names = process.argv[3]?.split(",") ?? [...workloads.map(({ name }) => name), "load"];
const unknown = sides.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`No such side: ${unknown}. Peers: ${peers.join(", ")}`);

if (sides.length > 2) installPeers(`Without them: evaluate ${FLOOR}`);

class Process {
  readonly #child: ChildProcess;
  readonly #name: string;

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
  }

  static async start(name: string, flags: string[] = []): Promise<Process> {
    const started = new Process(name, fork(`${PEERS}/process.ts`, [name], { execArgv: ["--expose-gc", ...flags] }));
    await started.#answer();
    return started;
  }

  async value(order: Order): Promise<number> {
    const report = await this.#send(order);
    return "value" in report ? report.value : Number.NaN;
  }

  async loading(repeat: number): Promise<Loading> {
    const report = await this.#send({ task: "load", repeat });
    if (!("loading" in report)) throw new Error("not a loading");
    return report.loading;
  }

  end(): void {
    this.#child.kill();
  }

  #send(order: Order): Promise<Report> {
    this.#child.send(order);
    return this.#answer();
  }

  #answer(): Promise<Report> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error(`${this.#name} ended`));
      this.#child.once("exit", ended);
      this.#child.once("message", (report: Report) => {
        this.#child.off("exit", ended);
        if ("error" in report) reject(new Error(`${this.#name}: ${report.error}`));
        else resolve(report);
      });
    });
  }
}

type Row = { label: string; cells: (number | undefined)[] };

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
const mean = (ratios: number[]): number =>
  Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
const short = (ns: number): string =>
  ns < 1e4 ? ns.toFixed(0) : ns < 1e6 ? `${(ns / 1e3).toFixed(1)} µs` : `${(ns / 1e6).toFixed(2)} ms`;

function print(header: string[], rows: Row[], format: (value: number) => string): void {
  console.log(`\n| ${header.join(" | ")} |\n|${"---|".repeat(header.length)}`);
  for (const { label, cells } of rows) {
    console.log(`| ${[label, ...cells.map((cell) => (cell === undefined ? "" : format(cell)))].join(" | ")} |`);
  }
}

async function timing(asked: string[]): Promise<void> {
  const processes = await Promise.all(sides.map((side) => Process.start(side)));
  const times = sides.map(() => asked.map(() => [] as number[]));
  // The first round is for every side to have seen every workload.
  for (let round = -1; round < ROUNDS; round++) {
    for (const [column, workload] of asked.entries()) {
      for (const [row, one] of processes.entries()) {
        const ns = await one.value({ task: "time", workload });
        if (round >= 0) times[row]![column]!.push(ns);
      }
    }
  }
  for (const one of processes) one.end();

  const medians = times.map((row) => row.map(median));
  const others = medians.slice(2);
  const rows: Row[] = sides.map((label, row) => ({ label, cells: medians[row]! }));
  // Of rounds that ran side by side, so that what slows the whole machine down cancels out.
  const ratio = (numerator: number, denominator: number, column: number): number =>
    median(times[numerator]![column]!.map((ns, round) => ns / times[denominator]![column]![round]!));
  if (others.length > 0) {
    const ratios = asked.map((_, column) => {
      const fastest = others.reduce((best, other, row) => (other[column]! < others[best]![column]! ? row : best), 0);
      return ratio(fastest + 2, 0, column);
    });
    rows.push({ label: "fastest peer ÷ bunting", cells: ratios });
    console.log(`\nGeometric mean over the fastest peer of each workload: ${mean(ratios).toFixed(2)}×`);
  }
  rows.push({ label: "bunting ÷ floor", cells: asked.map((_, column) => ratio(0, 1, column)) });
  console.log(`\nns per evaluation, medians of ${ROUNDS} interleaved rounds, Node ${process.versions.node}`);
  const titled = asked.map((name) => `${name} ${workloads.find((one) => one.name === name)?.title}`);
  print(["", ...titled], rows, (value) => (value < 40 ? value.toFixed(2) : short(value)));
}

async function allocation(asked: string[]): Promise<void> {
  const one = await Process.start(OURS, ["--max-semi-space-size=512", "--min-semi-space-size=512"]);
  const cells: number[] = [];
  for (const workload of asked) cells.push(await one.value({ task: "bytes", workload }));
  one.end();
  console.log("\nBytes allocated per evaluation");
  print(["", ...asked], [{ label: OURS, cells }], (value) => value.toFixed(0));
}

async function loading(): Promise<void> {
  const rows: Row[] = [];
  for (const side of sides) {
    const one = await Process.start(side);
    const { milliseconds, parsing, bytes, parsedBytes, textBytes } = await one.loading(5);
    one.end();
    const cells = [
      textBytes / 1e6,
      parsing,
      milliseconds,
      milliseconds / parsing,
      parsedBytes / 1e6,
      bytes / 1e6,
      bytes / parsedBytes,
    ];
    rows.push({ label: side, cells });
  }
  console.log("\nLoading 10,000 flags");
  const columns = ["JSON, MB", "JSON.parse, ms", "load, ms", "÷ parse", "parsed, MB", "loaded, MB", "÷ parsed"];
  print(["", ...columns], rows, (value) => value.toFixed(2));
}

const asked = names.filter((name) => workloads.some((workload) => workload.name === name));
if (asked.length > 0) {
  await timing(asked);
  await allocation(asked);
}
if (names.includes("load")) await loading();
process.exit(0);
