/** The examples for browsers: built as their readers build them, and loaded in a real browser against the Worker. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const folder = mkdtempSync(join(tmpdir(), "bunting-pages-"));
let server: Server;
let clientKey: string;
let targeting: string;
let browser: Browser;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const { flags, path } = await server.environment();
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" }));
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "new-checkout", type: "boolean", variations, clientSide: true });
  targeting = `${flags}/new-checkout/environments/production`;
  await server.ask("PATCH", targeting, { on: true, targets: [{ variation: "off", values: ["ada"] }] });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await server?.dispose();
  rmSync(folder, { recursive: true });
});

/** By Vite, as `npx vite build examples/…` does; its address. */
async function built(name: string): Promise<string> {
  vi.stubEnv("VITE_BUNTING_URL", server.url);
  vi.stubEnv("VITE_CLIENT_KEY", clientKey);
  // Only now: the variables are read when Vite is.
  const { build } = await import("vite");
  const outDir = join(folder, name);
  await build({ root: join("examples", name), logLevel: "warn", build: { outDir, emptyOutDir: true } });
  vi.unstubAllEnvs();
  const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript" };
  const pages: HttpServer = createServer((request, response) => {
    const path = request.url === "/" ? "/index.html" : (request.url ?? "");
    try {
      const file = readFileSync(join(outDir, path));
      response.writeHead(200, { "content-type": types[extname(path)] ?? "text/plain" }).end(file);
    } catch {
      // Browsers ask for an icon of their own accord.
      response.writeHead(path === "/favicon.ico" ? 204 : 404).end();
    }
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void pages.close());
  return `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
}

describe.each(["browser", "react"])("examples/%s", (name) => {
  test("shows the values of whoever is there, sees a log-in and a kill, and sends what was clicked", async () => {
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    const wrong: string[] = [];
    page.on("pageerror", (error) => wrong.push(String(error)));
    page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
    await page.goto(await built(name));
    const shows = (text: string) => page.locator("#buy", { hasText: text }).waitFor();
    await shows("Buy now");
    await page.click("#buy");

    await page.fill("input[name=user]", "ada");
    await page.click("#log-in button");
    await shows("To the basket");
    await page.fill("input[name=user]", "grace");
    await page.click("#log-in button");
    await shows("Buy now");

    await server.ask("POST", `${targeting}/kill`, { reason: "test" });
    onTestFinished(async () => void (await server.ask("POST", `${targeting}/restore`, { reason: "test" })));
    await shows("To the basket");

    await page.goto("about:blank");
    // By beacon, as the page was left; here once the queue has brought it where it is kept.
    const landed = async () => (await fetch(`${server.url}/__events`)).text();
    await vi.waitFor(async () => expect(await landed()).toContain('"metric":"bought"'), 20_000);
    expect(wrong).toEqual([]);
  });
});
