/** The React adapter in a page of a real browser, against the real Worker. */
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { ClientPlace, eventually } from "../support/client-sentences.ts";
import { PageServer } from "../support/page-server.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "workers/index.ts";
let place: ClientPlace;
let pages: PageServer;
let browser: Browser;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  place = await ClientPlace.on(await Server.start(ENTRY, bundle(ENTRY)));
  pages = await PageServer.start({ "/react": "test/browser/react-page.tsx" });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await pages?.stop();
  await place?.server.dispose();
});
beforeEach(async () => {
  context = await browser.newContext();
  page = await context.newPage();
  await page.goto(`${pages.origin}/react`);
  await page.waitForFunction(() => "start" in globalThis);
});
afterEach(() => context.close());

type Look = { drawn: Record<string, number>; problems: string[]; buffered: number };
const call = <T>(name: string, ...args: unknown[]): Promise<T> =>
  page.evaluate(
    ([method, given]) => (globalThis as unknown as Record<string, (...args: unknown[]) => unknown>)[method]!(...given),
    [name, args] as const,
  ) as Promise<T>;
const look = () => call<Look>("look");
const start = (mode: string, flags: string[], more: object = {}) =>
  call<string>(
    "start",
    { clientKey: place.clientKey, url: place.server.url, context: { targetingKey: "ada" }, ...more },
    flags,
    mode,
  );
const shows = (id: string, text: string) => eventually(async () => expect(await page.textContent(`#${id}`)).toBe(text));

test("a change draws the components that read it again, and no others (R15)", async () => {
  const targeting = await place.flag("moving");
  await place.flag("still");
  await start("fresh", ["moving", "still"]);
  await shows("moving", "a");
  await shows("still", "a");
  const before = await look();
  await place.kill(targeting);
  await shows("moving", "b");
  const after = await look();
  expect(after.drawn).toEqual({ ...before.drawn, moving: before.drawn.moving! + 1, all: before.drawn.all! + 1 });
  expect(after.problems).toEqual([]);
});

test("another context goes from its predecessor's values to its own", async () => {
  await place.flag("personal");
  await start("fresh", ["personal"]);
  await shows("personal", "a");
  const before = await look();
  await call("context", "ben");
  await shows("personal", "b");
  expect((await look()).drawn.personal).toBe(before.drawn.personal! + 1);
});

test("what a server drew is taken over without a mismatch, then what has changed since is drawn", async () => {
  await place.flag("hydrated");
  const hydrated = { value: "from the server", variation: "x", reason: "STATIC", version: 1 };
  const html = await start("hydrated", ["hydrated"], { bootstrap: { revision: 1, flags: { hydrated } } });
  expect(html).toContain("from the server");
  await shows("hydrated", "a");
  expect((await look()).problems).toEqual([]);
});

test("what a page kept from its last visit does not mix with what a server drew", async () => {
  await place.flag("visited");
  await start("fresh", ["visited"]);
  await shows("visited", "a");
  await page.reload();
  await page.waitForFunction(() => "start" in globalThis);
  const visited = { value: "from the server", variation: "x", reason: "STATIC", version: 1 };
  await start("hydrated", ["visited"], { bootstrap: { revision: 1, flags: { visited } } });
  await shows("visited", "a");
  expect((await look()).problems).toEqual([]);
});

test("with suspense nothing is drawn before there are values; with a bootstrap there is nothing to wait for", async () => {
  await place.flag("awaited");
  await page.route("**/client/v1/**", async (route) => {
    await eventually(async () => expect(await page.textContent("#waiting")).toBe("waiting"));
    await route.continue();
  });
  await start("suspended", ["awaited"]);
  await shows("awaited", "a");
  await page.unroute("**/client/v1/**");
  await page.goto("about:blank");
  await page.goto(`${pages.origin}/react`);
  await page.waitForFunction(() => "start" in globalThis);
  const awaited = { value: "brought", variation: "x", reason: "STATIC", version: 1 };
  await page.route("**/client/v1/**", () => {});
  await start("suspended", ["awaited"], {
    context: { targetingKey: "new" },
    bootstrap: { revision: 1, flags: { awaited } },
  });
  await shows("awaited", "brought");
  expect(await page.$("#waiting")).toBeNull();
});

test("what is drawn is exposed once, however often it is drawn again (R13)", async () => {
  const tracked = await place.flag("exposed", { trackExposures: true });
  await place.flag("other");
  await start("fresh", ["exposed", "other"]);
  await shows("exposed", "a");
  await shows("other", "a");
  // Of two flags each a count; of the one that is tracked an exposure as well. Defaults were drawn first, and counted too.
  const { buffered } = await look();
  await call("context", "ada");
  expect((await look()).buffered).toBe(buffered);
  await place.kill(tracked);
  await shows("exposed", "b");
  expect((await look()).buffered).toBe(buffered + 2);
});
