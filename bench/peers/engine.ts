/** What both runtimes run: a side, ready for one workload, and the loop that is timed. */
import type { Side, Workload } from "./workloads.ts";

export type Loop = (times: number) => unknown;

export async function ready(side: Side, workload: Workload): Promise<Loop> {
  const { flags, users } = workload;
  const engine = await side.open(JSON.stringify(side.document(flags)));
  const contexts = users.map((user) => engine.context(user)) as never[];
  const ask = workload.all ? engine.askAll(flags) : engine.ask(flags[0]!);
  const answers = await Promise.all(contexts.map(ask));
  workload.check((user, flag) =>
    workload.all ? engine.valueOf(answers[user] as never, flags[flag]!.key) : engine.value(answers[user] as never),
  );
  return side.asynchronous && !workload.all
    ? (times) => inTurn(ask, contexts, times)
    : (times) => loop(ask, contexts, times);
}

function loop(ask: (context: never) => unknown, contexts: never[], times: number): unknown {
  const mask = contexts.length - 1;
  let answer: unknown;
  for (let i = 0; i < times; i++) answer = ask(contexts[i & mask]!);
  return answer;
}

async function inTurn(ask: (context: never) => unknown, contexts: never[], times: number): Promise<unknown> {
  const mask = contexts.length - 1;
  let answer: unknown;
  for (let i = 0; i < times; i++) answer = await ask(contexts[i & mask]!);
  return answer;
}
