/** What a month of 30 days costs on Cloudflare's price list, line by line. US dollars. */

import { spreadMs } from "../../durable-objects/fan-out/pacing.ts";
import { FIRST_PAUSE_MS, LAST_PAUSE_MS, MAX_DEPARTURES } from "../../durable-objects/relay/delivery-statistics.ts";

type Price = { per: number; dollars: number; included: number };

/** Workers Paid. The pages, and when they were read, stand in docs/scale.md. */
export const prices = {
  "Workers requests": { per: 1e6, dollars: 0.3, included: 10e6 },
  "Workers CPU ms": { per: 1e6, dollars: 0.02, included: 30e6 },
  "Durable Object requests": { per: 1e6, dollars: 0.15, included: 1e6 },
  "Durable Object GB-s": { per: 1e6, dollars: 12.5, included: 400_000 },
  "Durable Object rows written": { per: 1e6, dollars: 1, included: 50e6 },
  "KV reads": { per: 1e6, dollars: 0.5, included: 10e6 },
  "KV writes": { per: 1e6, dollars: 5, included: 1e6 },
  "D1 rows written": { per: 1e6, dollars: 1, included: 50e6 },
  "Queues operations": { per: 1e6, dollars: 0.4, included: 1e6 },
  "R2 writes": { per: 1e6, dollars: 4.5, included: 1e6 },
  "R2 GB-months": { per: 1, dollars: 0.015, included: 10 },
  "Analytics Engine points": { per: 1e6, dollars: 0.25, included: 10e6 },
} satisfies Record<string, Price>;

type Item = keyof typeof prices;

export const SUBSCRIPTION = 5;

/** Of one environment. What is not the product's own constant is assumed, and is here to be changed. */
export type Use = {
  clients: number;
  relays: number;
  /** Reconnects of each client in a day: deploys of the Worker drop sockets, and customers restart. */
  reconnects: number;
  publishesPerDay: number;
  /** Between two batches of events of one client. */
  summarySeconds: number;
  /** Worker isolates that have something to do in every second; each asks a relay as often. */
  isolates: number;
};

const DAYS = 30;
const SECONDS = DAYS * 86_400;
/** Of a hibernated object, too: 128 MB. */
const OBJECT_GB = 0.128;
const REQUEST_CPU_MS = 1;
const BATCH_CPU_MS = 2;
const MESSAGE_SECONDS = 0.001;
const QUESTION_SECONDS = 0.005;
const ROUND_SECONDS = 0.25;
const ROUNDS = SECONDS / 60;
/**
 * A delivery writes the ring twice, the newest and the oldest statistics, the revision, the occupancy, and its parent's row.
 * Maintenance writes the alarm, the occupancy and its parent's row; a save the statistics and the alarm. A client that
 * disconnects was connected for half of the deliveries that are kept.
 */
const ROWS = { delivery: 7, round: 3, save: 2, change: 6 };
const DELIVERIES_OF_WHO_LEAVES = 16;
const BATCH_BYTES_STORED = 250;
const MESSAGES_A_DELIVERY = 100;
const QUICKEST_DELIVERY_SECONDS = 5;
const POINTS_A_DELIVERY = 250;
const ISOLATE_LIVES_SECONDS = 3_600;

export function use({ clients, relays, reconnects, publishesPerDay, summarySeconds, isolates }: Use) {
  const opened = clients * reconnects * DAYS;
  const batches = (clients * SECONDS) / summarySeconds;
  const publishes = publishesPerDay * DAYS;
  const deliveries = relays * publishes;
  const acknowledged = clients * publishes;
  const saves = deliveries * savesWithin(spreadMs(clients));
  // A row for each, and for a hundred together one for each delivery.
  const left = opened * (1 + DELIVERIES_OF_WHO_LEAVES / MAX_DEPARTURES);
  const questions = isolates * SECONDS;
  const rounds = relays * ROUNDS;
  const queued = Math.min(batches, Math.max(batches / MESSAGES_A_DELIVERY, SECONDS / QUICKEST_DELIVERY_SECONDS));
  const awake =
    (opened + acknowledged + batches) * MESSAGE_SECONDS +
    questions * QUESTION_SECONDS +
    rounds * ROUND_SECONDS +
    deliveries * 0.1;
  const used: Record<Item, number> = {
    "Workers requests": opened + batches,
    "Workers CPU ms": opened * REQUEST_CPU_MS + batches * BATCH_CPU_MS,
    // Incoming WebSocket messages count a twentieth; pings that the runtime answers are not charged.
    "Durable Object requests": opened + batches + acknowledged / 20 + deliveries + saves + questions + rounds * 2,
    "Durable Object GB-s": awake * OBJECT_GB,
    "Durable Object rows written": deliveries * ROWS.delivery + saves * ROWS.save + rounds * ROWS.round + left,
    "KV reads": (2 * isolates * SECONDS) / ISOLATE_LIVES_SECONDS,
    "KV writes": publishes * 2,
    "D1 rows written": publishes * ROWS.change,
    "Queues operations": batches * 3,
    "R2 writes": queued,
    "R2 GB-months": (batches * BATCH_BYTES_STORED) / 1e9,
    "Analytics Engine points": queued * POINTS_A_DELIVERY,
  };
  return { used, batchesPerSecond: batches / SECONDS };
}

/** How often a relay writes down what comes without a pause for so long. */
function savesWithin(ms: number): number {
  let saves = 1;
  for (let at = 0, pauseMs = FIRST_PAUSE_MS; at + pauseMs <= ms; pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
    at += pauseMs;
    saves++;
  }
  return saves;
}

export function cost(item: Item, amount: number): number {
  const { per, dollars, included } = prices[item];
  return (Math.max(0, amount - included) / per) * dollars;
}

export function total(used: Record<Item, number>): number {
  return Object.entries(used).reduce((sum, [item, amount]) => sum + cost(item as Item, amount), SUBSCRIPTION);
}
