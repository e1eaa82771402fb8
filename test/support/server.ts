/** The Worker in a process of its own that can be stopped, killed and started again with the same data. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Faults } from "./faults.ts";
import type { ServeOptions } from "./serve.ts";

const BOOTSTRAP_TOKEN = "bootstrap";

const folders = new Set<string>();
// For benches. The folders of tests are deleted by temporary-folder.ts.
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is deleted when this process exits. */
function newFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `bunting-${name}-`));
  folders.add(folder);
  return folder;
}

/** Bundles as a deployment does. All servers of a test file can use one bundle. */
export function bundle(entry: string, config = "wrangler.toml"): string {
  const folder = newFolder("bundle");
  const args = [
    "node_modules/wrangler/bin/wrangler.js",
    "deploy",
    entry,
    "--config",
    config,
    "--dry-run",
    "--outdir",
    folder,
  ];
  const { status, stderr, stdout } = spawnSync(process.execPath, args, {
    env: { ...process.env, CI: "1", WRANGLER_SEND_METRICS: "false" },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`Bundling ${entry} failed:\n${stdout}\n${stderr}`);
  return folder;
}

export class Server {
  readonly url: string;
  token = "";
  readonly #options: ServeOptions;
  #process: ChildProcess | null = null;

  private constructor(options: ServeOptions) {
    this.#options = options;
    this.url = `http://127.0.0.1:${options.port}`;
  }

  /** Starts a server without data, and creates an admin token. */
  static async start(entry: string, folder: string, vars: Record<string, string> = {}): Promise<Server> {
    const limits = {
      MANAGEMENT_PER_SECOND: "100000",
      MANAGEMENT_BURST: "100000",
      EVENTS_PER_SECOND: "1000",
      EVENTS_BURST: "1000",
      CLIENT_EVENTS_PER_SECOND: "1000",
      CLIENT_EVENTS_BURST: "1000",
      RELAY_CAP: "2500",
      RELAY_FAN_OUT: "100",
      CLIENTS_PER_KEY: "1000000",
      CLIENTS_PER_ENVIRONMENT: "10000000",
    };
    const server = new Server({
      bundle: folder,
      entry: `${basename(entry, ".ts")}.js`,
      persist: newFolder("data"),
      port: await freePort(),
      vars: { ...limits, BOOTSTRAP_TOKEN, ...vars },
    });
    await server.resume();
    const answer = await server.api(
      "POST",
      "/tokens",
      { name: "test", role: "admin" },
      { authorization: `Bearer ${BOOTSTRAP_TOKEN}` },
    );
    server.token = ((await answer.json()) as { token: string }).token;
    return server;
  }

  /** Starts with the existing data. `faults` apply from the first request. Another bundle may be of another version. */
  async resume(faults: Faults = {}, folder = this.#options.bundle): Promise<void> {
    const options = {
      ...this.#options,
      bundle: folder,
      vars: { ...this.#options.vars, FAULTS: JSON.stringify(faults) },
    };
    const child = spawn(process.execPath, ["test/support/serve.ts", JSON.stringify(options)], {
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
    });
    this.#process = child;
    await new Promise<void>((resolve, reject) => {
      child.stdout?.on("data", (chunk) => {
        if (String(chunk).includes("READY")) resolve();
      });
      child.on("exit", (code) => reject(new Error(`The server ended before it was ready (exit ${code})`)));
    });
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Ends the process with SIGTERM. */
  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** Ends the process and its workerd with SIGKILL. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.#options.persist, { recursive: true, force: true });
  }

  async #end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.on("exit", resolve));
    process.kill(signal === "SIGKILL" ? -child.pid : child.pid, signal);
    await ended;
  }

  async setFaults(faults: Faults): Promise<void> {
    await fetch(`${this.url}/__faults`, { method: "POST", body: JSON.stringify(faults) });
  }

  /** Resolves once this many calls hang. */
  async hung(calls = 1): Promise<void> {
    while (((await (await fetch(`${this.url}/__hung`)).json()) as number) < calls) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** How often each part has been called since the server started. */
  async calls(): Promise<Partial<Record<keyof Faults, number>>> {
    return (await fetch(`${this.url}/__calls`)).json() as Promise<Partial<Record<keyof Faults, number>>>;
  }

  /** Aborts a Durable Object. */
  async abort(binding: "HUB" | "RELAY", name: string): Promise<void> {
    await fetch(`${this.url}/__abort`, { method: "POST", body: JSON.stringify({ binding, name }) });
  }

  /** Runs the scheduled handler, as cron does each minute. */
  async sweep(): Promise<void> {
    await fetch(`${this.url}/cdn-cgi/local/scheduled`);
  }

  api(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  /** Like `api`, and returns the body. @throws Error unless the request succeeds. */
  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.api(method, path, body);
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
    return (response.status === 204 ? null : await response.json()) as T;
  }

  /** A project with one environment and a server key for it. */
  async environment(
    project = "p",
    environment = "production",
  ): Promise<{ serverKey: string; path: string; flags: string }> {
    await this.ask("POST", "/projects", { key: project, name: project });
    await this.ask("POST", `/projects/${project}/environments`, { key: environment, name: environment });
    const path = `/projects/${project}/environments/${environment}`;
    const { key } = await this.ask<{ key: string }>("POST", `${path}/keys`, { kind: "server", name: "test" });
    return { serverKey: key, path, flags: `/projects/${project}/flags` };
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
