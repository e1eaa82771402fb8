/** `npm run bench -- <name> [arguments]`: runs bench/<name>.ts. Without a name it lists what there is. */
import { globSync } from "node:fs";
import { basename } from "node:path";

const names = globSync("bench/*.ts")
  .map((file) => basename(file, ".ts"))
  .filter((name) => !/^(run|wire)$|-(peer|clients|floor)$/.test(name))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  console.error(`${name === undefined ? "" : `There is no bench "${name}". `}Benches: ${names.join(", ")}`);
  process.exit(1);
}
process.argv.splice(2, process.argv.length, ...rest);
await import(`./${name}.ts`);
