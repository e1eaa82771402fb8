/** `npm start`: migrates, serves, seeds the demo once, and says where things are. Ctrl-C ends everything it started. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { basename, join, resolve } from "node:path";
import { takeLock } from "./folder-lock.ts";
import { type Development, firstToken, seedDemo } from "./seed.ts";

const port = Number(process.env.PORT ?? 8787);
const url = `http://localhost:${port}`;
const DEVELOPMENT = ".bunting/dev.json";
const MIGRATED = ".wrangler/migrated";
const LAYOUT_FILE = ".bunting/layout";
const LOCK_FILE = ".bunting/lock";
/** Raised with every change after which older local data cannot be read: of a migration's text, or of what a Durable Object stores. */
const LAYOUT = 4;
const STARTS_WITHIN_MS = 60_000;
const parent = process.ppid;

if (!Number.isInteger(port) || port < 1 || port > 65_535)
  fail(`PORT must be a number from 1 to 65535, not "${process.env.PORT}".`);
const unknown = process.argv.slice(2).find((argument) => argument !== "--reset");
if (unknown !== undefined)
  fail(`npm start does not know "${unknown}". It takes: -- --reset (begin again with fresh data).`);
// Before --reset: never takes the data away from under a server that runs.
await refuseBusyPort();
refuseBusyFolder();
if (process.argv.includes("--reset")) {
  rmSync(".wrangler", { recursive: true, force: true });
  for (const name of readdirSync(".bunting"))
    if (name !== basename(LOCK_FILE)) rmSync(join(".bunting", name), { recursive: true, force: true });
}
refuseOtherLayout();

// Wholly offline, without questions and without telemetry.
const env = {
  ...process.env,
  CI: "1",
  WRANGLER_SEND_METRICS: "false",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  NO_COLOR: "1",
  // Workers on one machine find each other by name: those of another clone have the same names.
  WRANGLER_REGISTRY_PATH: process.env.WRANGLER_REGISTRY_PATH ?? resolve(".wrangler/registry"),
};
const wrangler = (args: string[], stdio: "inherit" | "pipe") =>
  spawn(process.execPath, ["node_modules/wrangler/bin/wrangler.js", ...args], { env, stdio: ["ignore", stdio, stdio] });

await migrate();
const bootstrapToken = randomBytes(24).toString("hex");
const server = wrangler(
  [
    "dev",
    "--port",
    String(port),
    "--log-level",
    "error",
    "--show-interactive-dev-session=false",
    // It makes the first token and nothing else: later starts have no use for it.
    ...(readDevelopment() === null ? ["--var", `BOOTSTRAP_TOKEN:${bootstrapToken}`] : []),
  ],
  "inherit",
);
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
// npm and its shell end by SIGTERM without telling us.
if (process.env.npm_lifecycle_event !== undefined) setInterval(() => process.ppid !== parent && stop(), 500);
server.on("exit", (code) => {
  if (!stopping) console.error(`The server stopped by itself (exit ${code}).`);
  process.exit(stopping ? 0 : 1);
});

await untilServing();
const development = await seed();
// `wrangler dev` does not fire cron triggers: without this a lost nudge would wait for ever.
setInterval(() => fetch(`${url}/cdn-cgi/local/scheduled`).catch(() => {}), 60_000);
explain(development);

function stop(): void {
  if (stopping) return;
  stopping = true;
  server.kill("SIGTERM");
  setTimeout(() => server.kill("SIGKILL"), 5_000).unref();
}

async function migrate(): Promise<void> {
  const migrations = readdirSync("migrations")
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .join("\n");
  if (existsSync(MIGRATED) && readFileSync(MIGRATED, "utf8") === migrations) return;
  console.log("Applying migrations …");
  const output = await finished(wrangler(["d1", "migrations", "apply", "DB", "--local"], "pipe"));
  if (output.code !== 0) fail(`Migrations failed:\n${output.text}`);
  writeFileSync(MIGRATED, migrations);
}

async function finished(child: ChildProcess): Promise<{ code: number | null; text: string }> {
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    text += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.on("exit", resolve));
  return { code, text };
}

async function untilServing(): Promise<void> {
  const deadline = Date.now() + STARTS_WITHIN_MS;
  while (Date.now() < deadline) {
    const answer = await fetch(`${url}/healthz`).catch(() => null);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  stop();
  fail(`The server did not answer on ${url} within a minute.`);
}

async function seed(): Promise<Development> {
  const known = readDevelopment();
  if (known !== null) {
    const answer = await fetch(`${url}/api/v1/me`, { headers: { authorization: `Bearer ${known.apiToken}` } });
    // The port may have been another one last time. Without environments it was interrupted.
    if (answer.ok && Object.keys(known.environments).length > 0) return save({ ...known, url });
    if (answer.ok) return save(await seedDemo(url, known.apiToken));
  }
  console.log("Seeding the demo project …");
  const apiToken = await firstToken(url, bootstrapToken);
  if (apiToken === null) {
    stop();
    fail(
      `The data in .wrangler has an administrator, whose token ${DEVELOPMENT} does not hold: \`npm start -- --reset\` begins again.`,
    );
  }
  // At once: it is made only one time.
  save({ url, apiToken, project: "demo", environments: {} });
  return save(await seedDemo(url, apiToken));
}

/** Null where there is none, or a file that was cut short. */
function readDevelopment(): Development | null {
  try {
    return JSON.parse(readFileSync(DEVELOPMENT, "utf8")) as Development;
  } catch {
    return null;
  }
}

function save(development: Development): Development {
  mkdirSync(".bunting", { recursive: true });
  writeFileSync(DEVELOPMENT, `${JSON.stringify(development, null, 2)}\n`, { mode: 0o600 });
  return development;
}

function explain({ apiToken, project, environments }: Development): void {
  const targeting = `${url}/api/v1/projects/${project}/flags/new-checkout/environments/production`;
  console.log(`
Bunting serves on ${url}

  project        ${project}: ${Object.keys(environments).join(", ")}
  API            ${url}/api/v1/docs
  keys, token    ${DEVELOPMENT}
  data           .wrangler/ (npm start -- --reset begins again)

Try it, in a second terminal:

  npm run watch -- new-checkout

and in a third:

  TOKEN=${apiToken}
  curl -X PATCH ${targeting} \\
    -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
    -d '{"fallthrough":{"split":{"weights":{"on":100000,"off":0}}}}'
  curl -X POST ${targeting}/kill \\
    -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' -d '{"reason":"trying it"}'
`);
}

/** Before anything is written. Data without a number is older than the number. */
function refuseOtherLayout(): void {
  const layout = existsSync(LAYOUT_FILE) ? Number(readFileSync(LAYOUT_FILE, "utf8")) : null;
  if (layout === null && !existsSync(MIGRATED)) {
    mkdirSync(".bunting", { recursive: true });
    writeFileSync(LAYOUT_FILE, `${LAYOUT}\n`);
    return;
  }
  if (layout === LAYOUT) return;
  const writer = layout !== null && layout > LAYOUT ? "a later" : "an earlier";
  fail(`This data was written by ${writer} version: \`npm start -- --reset\` begins again.`);
}

function refuseBusyFolder(): void {
  const holder = takeLock(LOCK_FILE, url);
  if (holder !== null)
    fail(
      `npm start already runs in this folder, on ${holder.url} (process ${holder.pid}). Stop it, or start in another clone: two servers cannot share .wrangler.`,
    );
}

/** Both families: a server of something else on ::1 would answer in our place. */
async function refuseBusyPort(): Promise<void> {
  for (const host of ["127.0.0.1", "::1"]) {
    const code = await new Promise<string | null>((resolve) => {
      const probe = createServer();
      probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
      probe.listen(port, host, () => probe.close(() => resolve(null)));
    });
    if (code === "EADDRINUSE")
      fail(`Port ${port} is taken. Stop what listens there, or choose another: PORT=8788 npm start`);
  }
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
