/** The peers have packages of their own, installed when a bench first needs them and when their lock has changed. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";

const PEERS = "bench/peers";

/** @throws Error where the npm registry does not answer; `otherwise` says what can be done without peers. */
export function installPeers(otherwise = ""): void {
  // npm writes this one last.
  const installed = `${PEERS}/node_modules/.package-lock.json`;
  if (existsSync(installed) && statSync(installed).mtimeMs > statSync(`${PEERS}/package-lock.json`).mtimeMs) return;
  console.log(`Installing the peers into ${PEERS}/node_modules (npm ci, once) …`);
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: PEERS, stdio: "inherit" });
  if (status !== 0) throw new Error(`npm ci failed in ${PEERS}: the peers need the npm registry. ${otherwise}`.trim());
}
