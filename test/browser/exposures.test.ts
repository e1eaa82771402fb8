/** Who was shown what, as pages of a real browser say it: in React, by OpenFeature and without either, against the real Worker. */
import type { ExposureEvent, SummaryEvent, TelemetryEvent } from "@bunting/core/wire";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { ClientPlace, eventually } from "../support/client-sentences.ts";
import { PageServer } from "../support/page-server.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
let place: ClientPlace;
let pages: PageServer;
let browser: Browser;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  place = await ClientPlace.on(await Server.start(ENTRY, bundle(ENTRY)));
  pages = await PageServer.start({ "/exposures": "test/browser/exposures-page.tsx" });
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
  await page.goto(`${pages.origin}/exposures`);
  await page.waitForFunction(() => "draw" in globalThis);
});
afterEach(() => context.close());

type Look = { sent: TelemetryEvent[]; problems: string[]; drawn: string[] };
const call = <T>(name: string, ...args: unknown[]): Promise<T> =>
  page.evaluate(
    ([method, given]) => (globalThis as unknown as Record<string, (...args: unknown[]) => unknown>)[method]!(...given),
    [name, args] as const,
  ) as Promise<T>;
const options = (more: object = {}) => ({
  clientKey: place.clientKey,
  url: place.server.url,
  context: { targetingKey: "ada" },
  ...more,
});
const draw = (scene: string, flags: string[], more: object = {}) => call("draw", options(more), scene, flags);
const shows = (id: string, text: string) => eventually(async () => expect(await page.textContent(`#${id}`)).toBe(text));
const exposures = async () => {
  const { sent, problems } = await call<Look>("look");
  expect(problems).toEqual([]);
  return sent.filter(({ kind }) => kind === "exposure") as ExposureEvent[];
};
const shown = async () => (await exposures()).map(({ flag, unit, variation }) => `${flag} ${unit} ${variation}`);
const counted = async (flag: string) => {
  const { sent } = await call<Look>("look");
  const all = sent.flatMap((event) => (event.kind === "summary" ? (event as SummaryEvent).counts : []));
  return all.filter((count) => count.flag === flag).map(({ variation, count }) => `${count} ${variation}`);
};
/** Once it has come, whatever else might come has had its time. */
const exposed = (...expected: string[]) => eventually(async () => expect(await shown()).toEqual(expected));
const connected = () => eventually(async () => expect(await call("connected")).toBe(true));
const track = (targeting: string, trackExposures: boolean) => place.server.ask("PATCH", targeting, { trackExposures });
/** What has come through the queue to where it is kept, as readers count it: a batch that was sent twice once (docs/storage.md). */
const landed = async (flag: string): Promise<ExposureEvent[]> => {
  const text = await (await fetch(`${place.server.url}/__events`)).text();
  const events = text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const once = new Map(events.map((event) => [`${event.batchId} ${event.index}`, event]));
  return [...once.values()].filter(
    (event) => event.kind === "exposure" && event.flag === flag && event.unit !== "nobody",
  );
};
const flagOf = (variation: string, unit: string) => ({
  value: variation,
  variation,
  reason: "SPLIT",
  version: 1,
  exposure: { unit, experiment: null, sampleRate: 1 },
});

describe.each([
  ["useFlag", "each"],
  ["useFlags", "all"],
  ["a page without React", "plain"],
  ["OpenFeature", "openFeature"],
])("by %s", (_, how) => {
  const open = (flag: string) => (how === "each" || how === "all" ? draw(how, [flag]) : call(how, options(), flag));
  const become = (targetingKey: string) =>
    how === "openFeature" ? call("openFeatureContext", targetingKey) : call("context", { targetingKey });

  test("a visitor whose variation is the default is exposed, and so is each of those who follow in the same one (R13)", async () => {
    const flag = `${how}-users`;
    await place.flag(flag, { trackExposures: true });
    await open(flag);
    await exposed(`${flag} ada a`);
    for (const user of ["grace", "ben", "cem", "ada"]) await become(user);
    await exposed(...["ada a", "grace a", "ben b", "cem a"].map((who) => `${flag} ${who}`));
  });

  test("tracking that is switched on while the page is open exposes who is shown the value, once (R13)", async () => {
    const flag = `${how}-late`;
    const targeting = await place.flag(flag);
    await open(flag);
    await shows(flag, "a");
    await connected();
    expect(await shown()).toEqual([]);
    await track(targeting, true);
    await exposed(`${flag} ada a`);
    await track(targeting, false);
    await track(targeting, true);
    await place.kill(targeting);
    await shows(flag, "b");
    await exposed(`${flag} ada a`, `${flag} ada b`);
  });
});

describe("React exposes", () => {
  test("once for however many components, in Strict Mode, each of which is one evaluation", async () => {
    const bootstrap = { revision: 1, flags: { many: flagOf("a", "ada") } };
    await page.route("**/client/v1/flags*", () => {});
    await draw("twice", ["many"], { bootstrap, streams: [] });
    await exposed("many ada a");
    for (const state of ["one", "two"]) await call("turn", state);
    await exposed("many ada a");
    expect(await counted("many")).toEqual(["2 a"]);
  });

  test("no default, which an object made anew at each drawing does not make an evaluation of each", async () => {
    await draw("inline", []);
    await shows("missing", "1");
    for (const state of ["one", "two", "three", "four"]) await call("turn", state);
    await connected();
    expect(await counted("missing")).toEqual(["1 null"]);
    expect(await shown()).toEqual([]);
  });

  test("of all flags only those that were read, and a later one when it is", async () => {
    await place.flag("read", { trackExposures: true });
    await place.flag("read-later", { trackExposures: true });
    await draw("all", ["read", "read-later"]);
    await shows("read", "a");
    await exposed("read ada a");
    await page.click("#read");
    await exposed("read ada a", "read-later ada a");
    expect((await call<Look>("look")).drawn).toEqual(["a"]);
    expect(await counted("read")).toEqual(["1 a"]);
  });

  test("nothing while Suspense shows a fallback instead, and each variation that is shown afterwards once", async () => {
    const targeting = await place.flag("suspended", { trackExposures: true });
    await draw("suspended", ["suspended"]);
    await shows("fallback", "one moment");
    await connected();
    expect(await shown()).toEqual([]);
    await call("arrive");
    await shows("suspended", "a");
    await exposed("suspended ada a");
    // Hidden again, it changes unseen, twice.
    await call("turn", "first");
    await call("suspendAgain");
    await call("turn", "waiting");
    await shows("fallback", "one moment");
    await place.kill(targeting);
    await eventually(async () => expect((await call<Look>("look")).drawn.at(-1)).toBe("b"));
    expect(await shown()).toEqual(["suspended ada a"]);
    await place.server.ask("POST", `${targeting}/restore`, { reason: "test" });
    await eventually(async () => expect((await call<Look>("look")).drawn.at(-1)).toBe("a"));
    await call("arrive");
    await eventually(async () => expect(await page.isVisible("#suspended")).toBe(true));
    await exposed("suspended ada a");
  });

  test("nothing of what is drawn ahead and hidden, until it is shown", async () => {
    await place.flag("hidden", { trackExposures: true });
    await draw("hidden", ["hidden"]);
    await eventually(async () => expect((await call<Look>("look")).drawn.at(-1)).toBe("a"));
    await connected();
    expect(await shown()).toEqual([]);
    await call("turn", "shown");
    await exposed("hidden ada a");
    await call("turn", "first");
    await call("turn", "shown");
    await exposed("hidden ada a");
  });

  test("nothing of a transition that is given up, and what it shows where it ends", async () => {
    await place.flag("next", { trackExposures: true });
    await draw("next", ["next"]);
    await shows("state", "first");
    await connected();
    await call("turnInTransition", "next");
    await eventually(async () => expect((await call<Look>("look")).drawn.at(-1)).toBe("a"));
    expect(await shown()).toEqual([]);
    await call("turn", "elsewhere");
    await shows("state", "elsewhere");
    expect(await shown()).toEqual([]);
    await call("turnInTransition", "next");
    await call("arrive");
    await eventually(async () => expect(await page.isVisible("p#next")).toBe(true));
    await exposed("next ada a");
  });

  test("what was on the page, however short, and nothing that was unmounted before it came there", async () => {
    const brought = options({
      bootstrap: { revision: 1, flags: { flash: flagOf("a", "ada") } },
      streams: [],
      cache: false,
    });
    await call("flash", brought, ["flash"], false);
    expect(await shown()).toEqual([]);
    await call("flash", brought, ["flash"], true);
    expect(await shown()).toEqual(["flash ada a"]);
  });

  test("what a server drew as well as what replaced it, for the visitor of each", async () => {
    await place.flag("drawn", { trackExposures: true });
    const bootstrap = { revision: 1, flags: { drawn: flagOf("x", "somebody") } };
    await call("hydrate", options({ bootstrap }), ["drawn"]);
    await exposed("drawn somebody x", "drawn ada a");
  });

  test("what a server drew though the device has newer values", async () => {
    await place.flag("kept", { trackExposures: true });
    await draw("each", ["kept"]);
    await exposed("kept ada a");
    await page.reload();
    await page.waitForFunction(() => "draw" in globalThis);
    await page.route("**/client/v1/flags*", () => {});
    const bootstrap = { revision: 0, flags: { kept: flagOf("x", "ada") } };
    await call("hydrate", options({ bootstrap, streams: [] }), ["kept"]);
    await exposed("kept ada x", "kept ada a");
  });
});

test("a client that is closed as its page is left loses nothing", async () => {
  await place.flag("left", { trackExposures: true });
  await draw("each", ["left"]);
  await shows("left", "a");
  await connected();
  await call("closeAndLeave").catch(() => {});
  await eventually(async () => expect(await landed("left")).toMatchObject([{ unit: "ada", variation: "a" }]));
});

describe("a split of one half each", () => {
  const UNITS = 2_000;
  /** Chi-squared of one degree of freedom: beyond this a ratio as asked for is less likely than 1 in 1,000. */
  const MISMATCH = 10.83;

  test("over 2,000 units of which each sees its page in turn has both arms and no sample ratio mismatch (R13)", async () => {
    const users = Array.from({ length: UNITS }, (_, n) => `unit-${n}`);
    await place.flag("halves", { trackExposures: true });
    const targeting = "/projects/p/flags/halves/environments/production";
    const fallthrough = { split: { weights: { a: 50_000, b: 50_000 } } };
    await place.server.ask("PATCH", targeting, { targets: [], fallthrough });
    await draw("each", ["halves"], { context: { targetingKey: "nobody" }, streams: [] });
    await exposed(expect.stringMatching("halves nobody") as unknown as string);
    const pageOf = await call<Record<string, string>>("inTurn", users, "halves");

    await eventually(async () => expect(await landed("halves")).toHaveLength(UNITS));
    const arrived = await landed("halves");
    // One for each unit, of what its page had.
    expect(Object.fromEntries(arrived.map(({ unit, variation }) => [unit, variation]))).toEqual(pageOf);
    const arms = ["a", "b"].map((arm) => arrived.filter(({ variation }) => variation === arm).length);
    const expected = UNITS / 2;
    const chiSquared = arms.reduce((sum, arm) => sum + (arm - expected) ** 2 / expected, 0);
    expect(chiSquared, `${arms}`).toBeLessThan(MISMATCH);
  }, 180_000);
});
