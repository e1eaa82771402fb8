/** The examples, each run as it stands against the Worker. */
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { PolledFlags } from "../../examples/polling/index.ts";
import { bundle, freePort, Server } from "../support/server.ts";
import { Watched } from "../support/watcher.ts";

const ENTRY = "workers/index.ts";
const TARGETING = "/projects/p/flags/new-checkout/environments/production";
const folder = mkdtempSync(join(tmpdir(), "bunting-examples-"));
let server: Server;
let serverKey: string;
let clientKey: string;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  serverKey = environment.serverKey;
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", `${environment.path}/keys`, { kind: "client" }));
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  const flag = { key: "new-checkout", type: "boolean", variations, clientSide: true };
  await server.ask("POST", environment.flags, flag);
  const titles = [{ key: "plain", value: "Checkout" }];
  await server.ask("POST", environment.flags, { key: "pricing-page", type: "string", variations: titles });
  await server.ask("PATCH", TARGETING, { on: true, targets: [{ variation: "off", values: ["ada"] }] });
});
afterAll(async () => {
  await server.dispose();
  rmSync(folder, { recursive: true });
});

const kill = () => server.ask("POST", `${TARGETING}/kill`, { reason: "test" });
/** Until the edge, which may be a second behind, says so too. */
async function restore(): Promise<void> {
  await server.ask("POST", `${TARGETING}/restore`, { reason: "test" });
  const context = JSON.stringify({ context: { targetingKey: "grace" } });
  const headers = { authorization: `Bearer ${clientKey}`, "content-type": "application/json" };
  await vi.waitFor(async () => {
    const answer = await fetch(`${server.url}/client/v1/flags`, { method: "POST", headers, body: context });
    expect(await answer.json()).toMatchObject({ flags: { "new-checkout": { value: true } } });
  }, 10_000);
}

test("every example is one file of fewer than 60 lines", () => {
  const files = globSync("examples/*/index.{ts,tsx}");
  expect(files.length).toBeGreaterThanOrEqual(4);
  const long = files.filter((file) => readFileSync(file, "utf8").trimEnd().split("\n").length >= 60);
  expect(long).toEqual([]);
});

describe.each(["node", "openfeature-node"])("examples/%s", (name) => {
  test("serves the flags, sees a kill, and sends what it counted before it ends", async () => {
    const port = await freePort();
    const env = { BUNTING_URL: server.url, BUNTING_SERVER_KEY: serverKey, BUNTING_CACHE: folder, PORT: String(port) };
    const shop = new Watched([`examples/${name}/index.ts`], { cwd: process.cwd(), env });
    onTestFinished(() => void shop.end("SIGKILL"));
    await shop.line(/^open$/);
    const visit = async (user: string) => (await fetch(`http://127.0.0.1:${port}/?user=${user}`)).json();
    expect(await visit("grace")).toMatchObject({ user: "grace", "new-checkout": true });
    expect(await visit("ada")).toMatchObject({ "new-checkout": false });
    await kill();
    onTestFinished(restore);
    await vi.waitFor(async () => expect(await visit("grace")).toMatchObject({ "new-checkout": false }), 10_000);
    await shop.line(/changed.*new-checkout/);
    expect(await shop.end("SIGTERM")).toBe(0);
    expect(shop.output).not.toContain("Bunting:");
  });
});

describe("examples/polling", () => {
  const flagsOf = (url: string, targetingKey = "grace") =>
    new PolledFlags({ url, clientKey, context: { targetingKey }, file: join(folder, "flags.json") });

  /** Answers all with this, in place of the Worker. */
  async function answering(status: number, headers: Record<string, string> = {}, body = ""): Promise<string> {
    const stand: HttpServer = createServer((_request, response) => response.writeHead(status, headers).end(body));
    onTestFinished(() => void stand.close());
    const port = await freePort();
    await new Promise<void>((resolve) => stand.listen(port, "127.0.0.1", resolve));
    return `http://127.0.0.1:${port}`;
  }

  test("asks every 24 to 36 seconds, and sees a kill with one poll", async () => {
    const flags = flagsOf(server.url);
    expect(flags.value("new-checkout", false)).toBe(false);
    const wait = await flags.poll();
    expect(wait).toBeGreaterThanOrEqual(24_000);
    expect(wait).toBeLessThanOrEqual(36_000);
    expect(flags.value("new-checkout", false)).toBe(true);
    await kill();
    onTestFinished(restore);
    // The edge may be a second behind: sooner than that nobody polls again.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await flags.poll();
    expect(flags.value("new-checkout", true)).toBe(false);
  });

  test("is answered by 304 while nothing has changed", async () => {
    const statuses: number[] = [];
    const { fetch } = globalThis;
    vi.stubGlobal("fetch", async (...args: Parameters<typeof fetch>) => {
      const answer = await fetch(...args);
      statuses.push(answer.status);
      return answer;
    });
    onTestFinished(() => void vi.unstubAllGlobals());
    const flags = flagsOf(server.url);
    await flags.poll();
    await flags.poll();
    expect(statuses).toEqual([200, 304]);
    expect(flags.value("new-checkout", false)).toBe(true);
  });

  test("has the values of last time where nothing answers, for the same user and for no other", async () => {
    await flagsOf(server.url).poll();
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const again = flagsOf(nobody);
    await again.restore();
    expect(again.value("new-checkout", false)).toBe(true);
    await again.poll();
    expect(again.value("new-checkout", false)).toBe(true);
    const other = flagsOf(nobody, "ada");
    await other.restore();
    expect(other.value("new-checkout", "default")).toBe("default");
  });

  test("waits longer after each failure, and at least as long as it is told", async () => {
    const failing = flagsOf(await answering(503));
    const waits = [await failing.poll(), await failing.poll(), await failing.poll()];
    for (const [index, least] of [48_000, 96_000, 192_000].entries()) {
      expect(waits[index]).toBeGreaterThanOrEqual(least);
      expect(waits[index]).toBeLessThanOrEqual(least * 1.5);
    }
    expect(await flagsOf(await answering(429, { "Retry-After": "3600" })).poll()).toBe(3_600_000);
    for (let polls = 0; polls < 10; polls++) expect(await failing.poll()).toBeLessThanOrEqual(720_000);
  });

  test("keeps what it has when the response is invalid", async () => {
    await flagsOf(server.url).poll();
    const flags = flagsOf(await answering(200, {}, "<html>"));
    await flags.restore();
    expect(await flags.poll()).toBeGreaterThanOrEqual(48_000);
    expect(flags.value("new-checkout", false)).toBe(true);
  });

  test("answers the default for what is unknown, of another type or inherited", async () => {
    const flags = flagsOf(server.url);
    await flags.poll();
    expect(flags.value("gone", "default")).toBe("default");
    expect(flags.value("new-checkout", "default")).toBe("default");
    expect(flags.value("constructor", false)).toBe(false);
  });
});
