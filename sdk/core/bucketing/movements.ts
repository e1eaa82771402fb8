import type { Range } from "../ruleset.ts";
import { BUCKETS } from "./bucket.ts";

/** Users that leave one variation for another; null is "in no range". `weight` is in thousandths of a percent. */
export type Movement = { from: string | null; to: string | null; weight: number };

/** Who moves when the ranges change, each pair of variations once, in the order of their lowest bucket. Nobody: empty. */
export function movements(previous: readonly Range[], next: readonly Range[]): Movement[] {
  const cuts = new Set([0, BUCKETS]);
  for (const { from, to } of [...previous, ...next]) cuts.add(from).add(to);
  const edges = [...cuts].filter((cut) => cut >= 0 && cut <= BUCKETS).sort((a, b) => a - b);
  const moved: Movement[] = [];
  for (const [index, at] of edges.slice(0, -1).entries()) {
    const from = variationAt(previous, at);
    const to = variationAt(next, at);
    if (from === to) continue;
    const weight = edges[index + 1]! - at;
    const known = moved.find((movement) => movement.from === from && movement.to === to);
    if (known === undefined) moved.push({ from, to, weight });
    else known.weight += weight;
  }
  return moved;
}

/** As evaluation does (EV-31): the first range that holds the bucket. */
function variationAt(ranges: readonly Range[], bucket: number): string | null {
  return ranges.find(({ from, to }) => bucket >= from && bucket < to)?.variation ?? null;
}
