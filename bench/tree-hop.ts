/**
 * What one node more below a node costs: a Durable Object that passes a message of 600 bytes to so many others, in workerd,
 * measured from outside. All share one thread here, so a hop includes the child's own work and answer. Arguments: rounds (default 300).
 */
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

const rounds = Number(process.argv[2] ?? 300);
const counts = [1, 8, 64];
const SCRIPT = `import { DurableObject } from "cloudflare:workers";
export class Node extends DurableObject {
  async deliver(delivery, occupancy) {
    this.ctx.storage.kv.put("position", delivery.revision);
    return { name: "n", region: "weur", revision: delivery.revision, connected: 2000, keys: {} };
  }
  async pass(count, delivery) {
    const told = [];
    for (let n = 0; n < count; n++) told.push(this.env.NODE.get(this.env.NODE.idFromName("child:" + n)).deliver(delivery, {}));
    return (await Promise.all(told)).length;
  }
}
export default {
  async fetch(request, env) {
    const count = Number(new URL(request.url).searchParams.get("count"));
    const delivery = { revision: Date.now(), previous: 0, publishedAt: 0, message: "x".repeat(600), keys: {} };
    return new Response(String(await env.NODE.get(env.NODE.idFromName("parent")).pass(count, delivery)));
  },
};`;

const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    name: "tree-hop",
    modules: true,
    script: SCRIPT,
    compatibilityDate: "2026-10-23",
    durableObjects: { NODE: { className: "Node", useSQLite: true } },
  }),
);
try {
  const url = await miniflare.ready;
  const medians: number[] = [];
  const took = counts.map(() => [] as number[]);
  for (let round = -30; round < rounds; round++) {
    for (const [index, count] of counts.entries()) {
      const from = performance.now();
      const answer = await fetch(new URL(`/?count=${count}`, url));
      if ((await answer.text()) !== String(count)) throw new Error(`Not all ${count} answered`);
      if (round >= 0) took[index]?.push(performance.now() - from);
    }
  }
  for (const [index, count] of counts.entries()) {
    const sorted = (took[index] as number[]).sort((one, other) => one - other);
    medians.push(sorted[sorted.length >> 1] as number);
    console.log(
      `${String(count).padStart(3)} below  p50 ${medians[index]?.toFixed(2)} ms  p99 ${sorted[Math.floor(sorted.length * 0.99)]?.toFixed(2)} ms`,
    );
  }
  const [one, , most] = medians as [number, number, number];
  console.log(`one more: ${((most - one) / (64 - 1)).toFixed(3)} ms`);
} finally {
  await miniflare.dispose();
}
