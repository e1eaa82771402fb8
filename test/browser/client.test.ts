/** The client for browsers against the real Worker, in this process, in workerd and in a page of a real browser. */
import { PING } from "@bunting/core/wire";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { ClientPlace, clientSentences, eventually } from "../support/client-sentences.ts";
import { PageServer } from "../support/page-server.ts";
import { pageVisitor } from "../support/page-visitor.ts";
import { bundle, Server } from "../support/server.ts";
import { newStorage, type RemoteVisitor, Visitor } from "../support/visitor.ts";
import { WorkerVisitors } from "../support/worker-visitor.ts";

const ENTRY = "test/support/faulty-worker.ts";
let place: ClientPlace;

beforeAll(async () => {
  place = await ClientPlace.on(await Server.start(ENTRY, bundle(ENTRY)));
});
afterAll(() => place.server.dispose());

describe("in Node", () => {
  let visitor: Visitor;
  beforeEach(() => {
    visitor = new Visitor(newStorage());
  });
  afterEach(() => visitor.close());

  clientSentences({ prefix: "node", place: () => place, visitor: () => visitor });
});

describe("in workerd", () => {
  let visitors: WorkerVisitors;
  let visitor: RemoteVisitor;
  beforeAll(async () => {
    visitors = await WorkerVisitors.start();
  });
  afterAll(() => visitors?.stop());
  beforeEach(() => {
    visitor = visitors.visitor();
  });
  afterEach(() => visitor.close());

  clientSentences({ prefix: "workerd", place: () => place, visitor: () => visitor });
});

describe("in Chromium", () => {
  let pages: PageServer;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let visitor: RemoteVisitor;

  beforeAll(async () => {
    pages = await PageServer.start({ "/visitor": "test/browser/visitor-page.ts" });
    browser = await launchChromium();
  });
  afterAll(async () => {
    await browser?.close();
    await pages?.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext();
    ({ page, visitor } = await pageVisitor(context, pages));
  });
  afterEach(() => context.close());

  const open = (more: object = {}) =>
    visitor.open({ clientKey: place.clientKey, url: place.server.url, context: { targetingKey: "ada" }, ...more });
  const value = async (key: string) => (await visitor.details(key, "default")).value;
  const emitted = async (name: string) => (await visitor.emitted()).filter((one) => one.name === name);
  const connected = (times: number) => eventually(async () => expect(await emitted("connected")).toHaveLength(times));

  clientSentences({ prefix: "page", place: () => place, visitor: () => visitor });

  test("a page asks for its first values without a preflight", async () => {
    const methods: string[] = [];
    page.on("request", (request) => request.url().includes("/flags") && methods.push(request.method()));
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    session.on("Network.requestWillBeSent", ({ request }) => void methods.push(`sent ${request.method}`));
    await open({ streams: [] });
    expect(await visitor.ready()).toBe(true);
    expect(methods.some((method) => method.includes("OPTIONS"))).toBe(false);
    expect(methods).toContain("sent POST");
  });

  test("a page of an origin that the key does not list is refused and can read why; one that it lists is served", async () => {
    await open({ clientKey: await place.key({ origins: ["https://elsewhere.example"] }) });
    expect(await visitor.ready()).toBe(false);
    expect((await emitted("error"))[0]?.detail).toEqual({
      code: "REFUSED",
      message: expect.stringMatching(/^the server answered 403: This client key may not be used from this origin\./),
    });
    await open({ clientKey: await place.key({ origins: [pages.origin] }) });
    expect(await visitor.ready()).toBe(true);
  });

  test("without a network it is quiet, and with it back it has what it missed (R15)", async () => {
    const targeting = await place.flag("missed");
    await open();
    await visitor.ready();
    await connected(1);
    await context.setOffline(true);
    await eventually(async () => expect(await emitted("disconnected")).toHaveLength(1));
    await place.kill(targeting);
    expect(await value("missed")).toBe("a");
    await context.setOffline(false);
    await eventually(async () => expect(await value("missed")).toBe("b"));
    await connected(2);
  });

  test("a tab that becomes visible makes its stream prove that it lives, and one that is hidden does not", async () => {
    const pings: string[] = [];
    page.on("websocket", (socket) => {
      socket.on("framesent", ({ payload }) => void (payload === PING && pings.push(payload)));
    });
    await open();
    await visitor.ready();
    await connected(1);
    // A browser without a screen never hides a tab, so the page is told as it would be.
    const turn = (hidden: boolean) =>
      page.evaluate((value) => {
        const { document } = globalThis as unknown as { document: EventTarget };
        Object.defineProperty(document, "hidden", { configurable: true, value });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await turn(true);
    expect((await emitted("disconnected")).length + pings.length).toBe(0);
    await turn(false);
    await eventually(async () => expect(pings).toHaveLength(1));
    expect(await visitor.status()).toMatchObject({ transport: "websocket" });
  });

  test("left and come back to, it is the page that it was, and has what it missed", async () => {
    const targeting = await place.flag("left");
    await open();
    await visitor.ready();
    await connected(1);
    await page.evaluate(() => {
      const page = globalThis as unknown as EventTarget & { persisted?: boolean };
      page.addEventListener("pageshow", (event) => {
        page.persisted = (event as Event & { persisted: boolean }).persisted;
      });
    });
    await page.goto(`${pages.origin}/elsewhere`);
    await place.kill(targeting);
    await page.goBack({ waitUntil: "commit" });
    expect(await page.evaluate(() => (globalThis as { persisted?: boolean }).persisted)).toBe(true);
    await eventually(async () => expect(await value("left")).toBe("b"));
    await connected(2);
  });

  test("a page that is closed sends what it had counted, exposed and tracked (R13)", async () => {
    await place.flag("counted", { trackExposures: true });
    await open();
    await visitor.ready();
    for (let times = 0; times < 3; times++) await value("counted");
    await visitor.track("checkout");
    expect((await visitor.status()).events.buffered).toBe(3);
    await page.goto(`${pages.origin}/elsewhere`);
    const landed = async () => (await (await fetch(`${place.server.url}/__events`)).text()).split("\n").filter(Boolean);
    const counts = [expect.objectContaining({ flag: "counted", variation: "a", count: 3 })];
    await eventually(async () => {
      const events = (await landed()).map((line) => JSON.parse(line));
      const exposure = { kind: "exposure", flag: "counted", unit: "ada", variation: "a" };
      expect(events.filter(({ flag }) => flag === "counted")).toMatchObject([exposure]);
      expect(events).toContainEqual(expect.objectContaining({ kind: "metric", metric: "checkout", unit: "ada" }));
      expect(events).toContainEqual(expect.objectContaining({ kind: "summary", counts }));
    });
  });
});
