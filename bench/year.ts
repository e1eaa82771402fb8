/**
 * A year of use as data: 500 projects, 10,000 flags in an environment, a million entries in the audit log. What the management
 * API then takes, beside the same calls on a server with next to nothing in it, in turn. Arguments: rounds (default 60), entries
 * (default 1000000).
 */
import { bundle, Server } from "../test/support/server.ts";
import { type Call, type Cursors, EXPORT, reads, writes } from "./year/calls.ts";
import { type Amount, Place } from "./year/place.ts";

const rounds = Number(process.argv[2] ?? 60);
const YEAR: Amount = { projects: 500, flags: 10_000, entries: Number(process.argv[3] ?? 1_000_000) };
/** As little as fills a page of whatever is asked for, so that both answer as much. */
const FIRST_DAY: Amount = { projects: 45, flags: 900, entries: 8_000 };
const WARM_UP_ROUNDS = 5;
const ENTRY = "bench/year-peer.ts";

/** The cursor of the page before the last one, or before the hundredth. */
async function cursorFar(place: Place, path: string, pages = 99): Promise<string> {
  let cursor = "";
  for (let page = 0; page < pages; page++) {
    const query = `${path}${path.includes("?") ? "&" : "?"}limit=20&cursor=${cursor}`;
    const { items, nextCursor } = await place.server.ask<{ items: unknown[]; nextCursor: string | null }>("GET", query);
    if (nextCursor === null || items.length < 20) break;
    cursor = encodeURIComponent(nextCursor);
  }
  return cursor;
}

async function firstLine({ body }: Response): Promise<string> {
  const reader = body!.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new TextDecoder().decode(value).split("\n")[0] as string;
}

class Side {
  readonly place: Place;
  readonly times = new Map<string, number[]>();
  readonly items = new Map<string, number>();
  readonly #reads: Call[];

  constructor(place: Place, cursors: Cursors) {
    this.place = place;
    this.#reads = reads(cursors);
  }

  calls(round: number): Call[] {
    return [...this.#reads, EXPORT, ...writes(round, this.place.amount.flags)];
  }

  async ask({ name, method, path, body, begins }: Call, counts: boolean): Promise<void> {
    const began = performance.now();
    const answer = await this.place.server.api(method, path, body);
    const text = begins ? await firstLine(answer) : await answer.text();
    const ms = performance.now() - began;
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text}`);
    const { items } = JSON.parse(text) as { items?: unknown[] };
    if (items !== undefined) this.items.set(name, items.length);
    if (counts) this.times.set(name, [...(this.times.get(name) ?? []), ms]);
  }
}

async function furnished(server: Server, amount: Amount): Promise<Side> {
  const began = performance.now();
  const place = new Place(server, amount);
  await place.furnish();
  const { projects, flags, entries } = amount;
  const seconds = ((performance.now() - began) / 1_000).toFixed(0);
  console.log(`${projects} projects, ${flags} flags, ${entries} entries: there in ${seconds} s`);
  return new Side(place, {
    projects: await cursorFar(place, "/projects"),
    flags: await cursorFar(place, "/projects/shop/flags"),
    audit: await cursorFar(place, "/audit"),
    stale: await cursorFar(place, "/projects/shop/environments/production/stale", 20),
  });
}

const quantile = (values: number[], q: number) =>
  values.toSorted((one, other) => one - other)[Math.floor(q * values.length)] as number;

async function measure(firstDay: Side, year: Side): Promise<void> {
  for (let round = 0; round < WARM_UP_ROUNDS + rounds; round++) {
    const theirs = year.calls(round);
    for (const [index, call] of firstDay.calls(round).entries()) {
      const counts = round >= WARM_UP_ROUNDS;
      const turns = [() => firstDay.ask(call, counts), () => year.ask(theirs[index]!, counts)];
      // In turn, so that neither always finds the machine rested.
      for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
    }
  }
}

function report(firstDay: Side, year: Side): void {
  console.log(`\nms over HTTP, ${rounds} rounds\n`);
  console.log(
    "| call | p50 | p99 | items | p50 after a year | p99 | items | p50 to p50 |\n|---|---|---|---|---|---|---|---|",
  );
  for (const { name } of firstDay.calls(0)) {
    const cells = [firstDay, year].flatMap(({ times, items }) => {
      const all = times.get(name)!;
      return [quantile(all, 0.5).toFixed(1), quantile(all, 0.99).toFixed(1), String(items.get(name) ?? "")];
    });
    const ratio = quantile(year.times.get(name)!, 0.5) / quantile(firstDay.times.get(name)!, 0.5);
    console.log(`| ${name} | ${cells.join(" | ")} | ${ratio.toFixed(2)} |`);
  }
}

const folder = bundle(ENTRY);
const servers = [await Server.start(ENTRY, folder), await Server.start(ENTRY, folder)] as const;
try {
  const firstDay = await furnished(servers[0], FIRST_DAY);
  const year = await furnished(servers[1], YEAR);
  await measure(firstDay, year);
  report(firstDay, year);
} finally {
  await Promise.all(servers.map((server) => server.dispose()));
}
process.exit(0);
