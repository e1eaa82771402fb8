/**
 * Ten million SDKs over nine regions: a change from the hub to the last of them, all of them coming back at once, and what
 * a month costs. What is assumed, measured and cited is in bench/simulate/parameters.ts. The same on every run.
 * Arguments: clients (default 10,000,000, which also writes the tables and charts of docs/scale.md).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cost, prices, SUBSCRIPTION, total, use } from "./simulate/bill.ts";
import { forest } from "./simulate/forest.ts";
import { costs, parameters, places, regions } from "./simulate/parameters.ts";
import { plot } from "./simulate/plot.ts";
import { publish, shape } from "./simulate/publish.ts";
import { Random } from "./simulate/random.ts";
import { storm } from "./simulate/storm.ts";

const TEN_MILLION = 10_000_000;
const SEED = 20_261_121;
const PAGE = "docs/scale.md";

const clients = Number(process.argv[2] ?? TEN_MILLION);
if (!Number.isInteger(clients) || clients < 1 || clients > TEN_MILLION) {
  console.error("Clients: a whole number from 1 to 10,000,000.");
  process.exit(1);
}
const started = performance.now();
const base = { clients, hub: "enam", seed: SEED, costs } as const;
const { relays, levels } = shape(forest(clients, base.hub, new Random(SEED), costs));

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
const count = (value: number) => Math.round(value).toLocaleString("en");
const table = (head: string[], rows: (string | number)[][]) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
const sections: Record<string, string> = {};

sections.parameters = table(
  ["", "", "from"],
  Object.values(parameters).map(({ value, unit, what, source }) => [what, `${count3(value)} ${unit}`, source]),
);

sections.regions = table(
  ["", "stands for it", "round trip from the hub", "to the region's far end", "share of the SDKs"],
  regions.map((region) => {
    const { azure, acrossMs, across, share } = places[region];
    const trip = places[base.hub].tripsMs[regions.indexOf(region)];
    return [
      region,
      azure,
      trip === 0 ? "within" : `${trip} ms`,
      `${acrossMs} ms (${across})`,
      `${count(share * 100)} %`,
    ];
  }),
);

const scenarios = {
  "relays half full, as the hub makes them": {},
  "relays 80 % full, before the hub makes more": { fill: 0.8 },
  "80 % full, and every object asleep": { fill: 0.8, asleep: true },
  "the same, if sockets were written before relays below": { fill: 0.8, asleep: true, socketsFirst: true },
};
const published = Object.entries(scenarios).map(([name, scenario]) => ({
  name,
  own: publish({ ...base, ...scenario, network: false }),
  whole: publish({ ...base, ...scenario }),
}));
sections.publish = table(
  ["", "own p50", "own p99", "own max", "with the network p50", "p99", "max"],
  published.map(({ name, own, whole }) => [
    name,
    ...[own, whole].flatMap((applied) => [applied.quantile(0.5), applied.quantile(0.99), applied.max].map(count)),
  ]),
);
sections.hubs = table(
  ["hub in", ...regions],
  [0.5, 0.99, 1].map((q) => [
    q === 1 ? "max" : `p${q * 100}`,
    ...regions.map((hub) => count(publish({ ...base, hub }).quantile(q))),
  ]),
);

const storms = [0.1, 1].map((dropped) => ({ share: `${dropped * 100} %`, ...storm({ ...base, dropped }) }));
sections.storm = table(
  ["dropped at once", "back p50", "p99", "all", "found no room", "Workers", "hub", "busiest relay", "KV reads"],
  storms.map(({ share, back, refused, workers, hub, relayPeak, kv }) => [
    share,
    ...[back.quantile(0.5), back.quantile(0.99), back.max].map(seconds),
    ...[refused, workers.max, hub.max, relayPeak, kv.max].map(count),
  ]),
);

const few = shape(forest(10_000, base.hub, new Random(SEED), costs));
const months = {
  [`${count(clients)} SDKs, a batch every 30 s`]: { clients, relays, summarySeconds: 30, isolates: 2_000 },
  [`${count(clients)} SDKs, a batch an hour`]: { clients, relays, summarySeconds: 3_600, isolates: 500 },
  "10,000 servers, a batch every 30 s": { clients: 10_000, relays: few.relays, summarySeconds: 30, isolates: 50 },
};
const bills = Object.values(months).map((month) => use({ reconnects: 2, publishesPerDay: 100, ...month }));
const dollars = (value: number) => (value > 0 && value < 0.5 ? "under $1" : `$${count(value)}`);
sections.bill = table(
  ["a month", ...Object.keys(months)],
  [
    ["batches of events a second", ...bills.map(({ batchesPerSecond }) => count(batchesPerSecond))],
    ...(Object.keys(prices) as (keyof typeof prices)[]).map((item) => [
      item,
      ...bills.map(({ used }) => `${amount(used[item])}: ${dollars(cost(item, used[item]))}`),
    ]),
    ["subscription", ...bills.map(() => `$${SUBSCRIPTION}`)],
    ["**together**", ...bills.map(({ used }) => `**${dollars(total(used))}**`)],
  ],
);

console.log(`${count(clients)} clients, ${count(relays)} relays in ${levels} levels\n`);
for (const [name, text] of Object.entries(sections)) console.log(`${name}\n${text}\n`);

if (clients === TEN_MILLION) {
  const applied = published.map(({ name, whole }) => ({ name, points: whole.shares() }));
  const back = storms.map(({ share, back: times }) => ({
    name: `${share} dropped at once`,
    points: times.shares().map(([ms, share]): [number, number] => [ms / 1_000, share]),
  }));
  writeFileSync(
    "docs/scale-publish.svg",
    plot("A change reaches ten million SDKs", "ms", "share that has it", applied),
  );
  writeFileSync("docs/scale-storm.svg", plot("Clients come back", "seconds", "share that is back", back));
  let page = readFileSync(PAGE, "utf8");
  for (const [name, text] of Object.entries(sections)) {
    const place = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- / -->)`);
    if (!place.test(page)) throw new Error(`${PAGE} has no place for ${name}`);
    page = page.replace(place, (_, open: string, close: string) => `${open}${text}\n${close}`);
  }
  writeFileSync(PAGE, page);
  console.log(`Written to ${PAGE}.`);
}
console.log(`${seconds(performance.now() - started)}, ${count(process.memoryUsage.rss() / 1e6)} MB`);

function count3(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString("en");
}

function amount(value: number): string {
  const [scale, unit] = (
    [
      [1e9, " bn"],
      [1e6, " m"],
      [1e3, " k"],
    ] as const
  ).find(([least]) => value >= least) ?? [1, ""];
  return `${count3(value / scale)}${unit}`;
}
