/**
 * What a publish costs, by the number of flags in the environment: from calling the hub with a committed change until it
 * answers, which is once the change is durable and on its way to the relays. KV snapshots and history are aside: alarms do
 * them, and rounds stand still while they do. One hub for each size, in one workerd, in turn; each round hands twenty edits
 * of a flag to each hub, one after the other. Arguments: sizes (default 10,1000,10000), rounds (default 60).
 */
import { bundle, Server } from "../test/support/server.ts";

const sizes = (process.argv[2] ?? "10,1000,10000").split(",").map(Number);
const rounds = Number(process.argv[3] ?? 60);
const WARM_UP_ROUNDS = 10;
const EDITS_A_ROUND = 20;
/** A hub writes its snapshot a second after it has published. */
const SNAPSHOT_MS = 1_500;
const ENTRY = "bench/publish-peer.ts";

const variations = [
  { key: "on", value: true },
  { key: "off", value: false },
];
const flag = (key: string, version: number) => ({
  ...{ key, version, type: "boolean", on: true, variations, offVariation: "off", prerequisites: [], targets: [] },
  rules: Array.from({ length: 3 }, (_, index) => ({
    id: `rule-${index}`,
    conditions: [{ attribute: "plan", op: "in", values: [`plan-${index}`, "pro", "enterprise"] }],
    serve: { variation: "on" },
  })),
  ...{ fallthrough: { variation: "on" }, clientSide: false, trackExposures: false, experiment: null, killed: false },
});

/** An environment with so many flags. */
class Place {
  readonly flags: number;
  readonly environmentId: string;
  readonly latencies: number[] = [];
  readonly #url: string;
  #version = 0;

  constructor(url: string, flags: number) {
    this.#url = url;
    this.flags = flags;
    this.environmentId = `env_${String(flags).padStart(20, "0")}`;
  }

  async begin(): Promise<void> {
    await this.#publish([], true);
    const keys = Array.from({ length: this.flags }, (_, index) => `flag-${index}`);
    for (let from = 0; from < keys.length; from += 1_000) {
      const documents = keys.slice(from, from + 1_000).map((key) => [key, flag(key, 1)] as const);
      await this.#publish([Object.fromEntries(documents)]);
    }
  }

  /** Milliseconds for each edit. */
  async round(number: number): Promise<number> {
    const edits = Array.from({ length: EDITS_A_ROUND }, (_, index) => {
      const edit = number * EDITS_A_ROUND + index;
      const key = `flag-${edit % this.flags}`;
      return { [key]: flag(key, edit + 2) };
    });
    return (await this.#publish(edits)) / EDITS_A_ROUND;
  }

  async #publish(edits: object[], create?: true): Promise<number> {
    const { environmentId } = this;
    const changes = edits.map((flags) => {
      const version = ++this.#version;
      return {
        environmentId,
        version,
        id: `chg-${version}`,
        previousId: `chg-${version - 1}`,
        flags,
        segments: {},
        keys: {},
      };
    });
    const body = JSON.stringify({ environmentId, create, changes });
    const response = await fetch(`${this.#url}/__publish`, { method: "POST", body });
    const { ms, version } = (await response.json()) as { ms: number; version: number };
    if (edits.length > 0 && version !== this.#version) throw new Error(`Version ${this.#version} was not published`);
    return ms;
  }
}

const quantile = (values: number[], q: number) =>
  values.toSorted((one, other) => one - other)[Math.floor(q * values.length)] as number;

const server = await Server.start(ENTRY, bundle(ENTRY));
const places = sizes.map((size) => new Place(server.url, size));
for (const place of places) await place.begin();
for (let round = 0; round < WARM_UP_ROUNDS + rounds; round++) {
  // In another order each time: whoever comes first finds the machine rested.
  for (let turn = 0; turn < places.length; turn++) {
    const place = places[(round + turn) % places.length] as Place;
    const ms = await place.round(round);
    if (round >= WARM_UP_ROUNDS) place.latencies.push(ms);
  }
  await new Promise((resolve) => setTimeout(resolve, SNAPSHOT_MS));
}
await server.dispose();

console.log(`\nPublishing an edit of one flag, ${rounds} rounds of ${EDITS_A_ROUND}, ms for each edit`);
for (const { flags, latencies } of places) {
  const [p50, p90] = [quantile(latencies, 0.5), quantile(latencies, 0.9)];
  const ratio = p50 / quantile(places[0]!.latencies, 0.5);
  console.log(
    `${String(flags).padStart(6)} flags  p50 ${p50.toFixed(2)}  p90 ${p90.toFixed(2)}  p50 to the first ${ratio.toFixed(2)}`,
  );
}
process.exit(0);
