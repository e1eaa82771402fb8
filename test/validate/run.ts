/** `npm run test:validate [peak-load | degradation | failover]`: a table and a line of JSON each; exit 1 where something did not hold. */
import { bundle } from "../support/server.ts";
import { degradation, runDegradation } from "./degradation.ts";
import { failover, runFailover } from "./failover.ts";
import { table } from "./figures.ts";
import { peakLoad, runPeakLoad } from "./peak-load.ts";
import { ENTRY, type Verdict } from "./stage.ts";

const tests: Record<string, (folder: string) => Promise<Verdict>> = {
  "peak-load": (folder) => runPeakLoad(folder, peakLoad),
  degradation: (folder) => runDegradation(folder, degradation),
  failover: (folder) => runFailover(folder, failover),
};

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(tests);
const unknown = names.filter((name) => tests[name] === undefined);
if (unknown.length > 0) {
  console.error(`There is no ${unknown.join(", ")}. There are: ${Object.keys(tests).join(", ")}`);
  process.exit(1);
}

const folder = bundle(ENTRY);
let held = true;
for (const name of names) {
  const started = performance.now();
  const verdict = await tests[name]!(folder);
  const seconds = Math.round((performance.now() - started) / 1_000);
  const { rows, violations, evaluations, acknowledged, machine, remarks } = verdict;
  held &&= violations.length === 0;
  console.log(`\n## ${verdict.test}, ${seconds} s\n\n${table(rows)}\n`);
  console.log(
    `${evaluations.toLocaleString("en")} evaluations; ${acknowledged.writes} writes and ${acknowledged.kills} kills and restores answered with 2xx.`,
  );
  console.log(
    `${machine.cores} cores; load ${machine.loadBefore.toFixed(1)} before, ${machine.loadAfter.toFixed(1)} after.`,
  );
  for (const remark of remarks) console.log(remark);
  for (const violation of violations) console.error(`VIOLATED: ${violation}`);
  console.log(JSON.stringify({ ...verdict, seconds }));
}
console.log(held ? "\nEverything held." : "\nSomething did not hold.");
process.exit(held ? 0 : 1);
