// The same loops in workerd, whose clock stands still while a request runs: whoever asks has to measure.
import side from "./bunting.ts";
import { type Loop, ready } from "./engine.ts";
import { workloads } from "./workloads.ts";

const loops = new Map<string, Promise<Loop>>();

export default {
  async fetch(request: Request): Promise<Response> {
    const { searchParams } = new URL(request.url);
    const name = searchParams.get("workload");
    const workload = workloads.find((one) => one.name === name);
    if (workload === undefined) return new Response("no such workload", { status: 404 });
    if (!loops.has(workload.name)) loops.set(workload.name, ready(side, workload));
    const loop = await loops.get(workload.name)!;
    await loop(Number(searchParams.get("times")));
    return new Response("done");
  },
};
