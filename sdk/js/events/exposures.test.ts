/** What a page's client records of what was shown, with a server that answers what the test says; test/browser has the real one. */
import type { ExposureEvent, SummaryEvent, TelemetryEvent } from "@bunting/core/wire";
import { OpenFeature } from "@openfeature/web-sdk";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { newStorage } from "../../../test/support/visitor.ts";
import { type BrowserClient, type BrowserOptions, createClient, type EvaluatedFlag } from "../browser.ts";
import { BuntingWebProvider } from "../openfeature-web.ts";
import { systemClock } from "../sync/clock.ts";
import { Events } from "./events.ts";

let client: BrowserClient;
let sent: TelemetryEvent[];
/** What the server says of the flag "color", by the visitor's name. */
let colors: Record<string, EvaluatedFlag>;
let intake: number;
let isAway: boolean;

beforeEach(() => {
  sent = [];
  intake = 202;
  isAway = false;
  colors = { ada: color("red", "ada"), ben: color("red", "ben"), cem: color("blue", "cem") };
});
afterEach(() => client?.close());

const color = (variation: string, unit: string | null, more: Partial<EvaluatedFlag> = {}): EvaluatedFlag => ({
  value: variation,
  variation,
  reason: "SPLIT",
  version: 1,
  ...(unit !== null && { exposure: { unit, experiment: null, sampleRate: 1 } }),
  ...more,
});

const server: NonNullable<BrowserOptions["fetch"]> = async (url, { body }) => {
  if (isAway) throw new TypeError("no network");
  const { context, events } = JSON.parse(body!);
  if (!new URL(url).pathname.endsWith("/events"))
    return Response.json({ revision: 5, flags: { color: colors[context.targetingKey] } });
  if (intake === 202) sent.push(...events);
  return new Response(null, { status: intake });
};

function open(options: Partial<BrowserOptions> = {}): BrowserClient {
  client = createClient({
    clientKey: "bnt_cli_e_x",
    url: "http://flags.test",
    context: { targetingKey: "ada", plan: "free" },
    streams: [],
    cache: false,
    fetch: server,
    logger: { warn() {}, error() {} },
    ...options,
  });
  return client;
}

const exposures = async () => {
  await client.flush();
  return sent.filter((event) => event.kind === "exposure");
};
const shown = async () => (await exposures()).map(({ unit, variation }: ExposureEvent) => `${unit} ${variation}`);
const counts = async () => {
  await client.flush();
  return sent.flatMap((event) => (event.kind === "summary" ? (event as SummaryEvent).counts : []));
};
/** As a page without React: it draws, and again on each change. */
function draws(): string[] {
  const drawn: string[] = [];
  const draw = () => void drawn.push(client.string("color", "red"));
  draw();
  client.on("change", draw);
  return drawn;
}

describe("a page that draws on each change", () => {
  test("exposes a visitor whose value is the default", async () => {
    open();
    const drawn = draws();
    await client.ready();
    expect(drawn).toEqual(["red", "red"]);
    expect(await shown()).toEqual(["ada red"]);
  });

  test("exposes each of the users that follow each other in one variation", async () => {
    open();
    draws();
    await client.ready();
    for (const targetingKey of ["ben", "cem", "ada"]) await client.setContext({ targetingKey });
    expect(await shown()).toEqual(["ada red", "ben red", "cem blue"]);
  });

  test("exposes its visitor once tracking is switched on", async () => {
    colors.ada = color("red", null);
    open();
    draws();
    await client.ready();
    expect(await shown()).toEqual([]);
    colors.ada = color("red", "ada");
    await client.setContext({ targetingKey: "ada", plan: "free" });
    expect(await shown()).toEqual(["ada red"]);
  });

  test("exposes another variation of the same value", async () => {
    open();
    draws();
    await client.ready();
    colors.ada = color("crimson", "ada", { value: "red" });
    await client.setContext({ targetingKey: "ada" });
    expect(await shown()).toEqual(["ada red", "ada crimson"]);
  });

  test("exposes what its device kept, though nobody has confirmed it", async () => {
    const cache = newStorage();
    await open({ cache }).ready();
    await client.close();
    isAway = true;
    open({ cache });
    draws();
    isAway = false;
    expect(await shown()).toEqual(["ada red"]);
  });
});

describe("whose exposure it is", () => {
  test("while another visitor's values are awaited it is the one's whose value is shown, attributes included", async () => {
    open({ events: { sendAttributes: true } });
    await client.ready();
    const pending = client.setContext({ targetingKey: "cem", plan: "pro" });
    expect(client.string("color", "")).toBe("red");
    await pending;
    expect(client.string("color", "")).toBe("blue");
    expect(await exposures()).toMatchObject([
      { unit: "ada", variation: "red", attributes: { plan: "free" } },
      { unit: "cem", variation: "blue", attributes: { plan: "pro" } },
    ]);
  });

  test("a value that was drawn before it was replaced belongs to the visitor it was for", async () => {
    open({ events: { sendAttributes: true } });
    await client.ready();
    const { color: drawn } = client.all();
    await client.setContext({ targetingKey: "cem", plan: "pro" });
    client.shown("color", drawn, "");
    expect(await exposures()).toMatchObject([{ unit: "ada", variation: "red", attributes: { plan: "free" } }]);
  });

  test("what a server drew belongs to the visitor it was drawn for, whatever the page has by now", async () => {
    const bootstrap = { revision: 1, flags: { color: color("green", "ada") } };
    open({ bootstrap, events: { sendAttributes: true } });
    await client.setContext({ targetingKey: "cem", plan: "pro" });
    client.shown("color", client.bootstrap.color, "");
    expect(await exposures()).toMatchObject([{ unit: "ada", variation: "green", attributes: { plan: "free" } }]);
  });

  test("what stays the same for another context goes out with that context's attributes", async () => {
    colors.cem = color("red", "ada");
    open({ events: { sendAttributes: true } });
    await client.ready();
    const { color: before } = client.all();
    await client.setContext({ targetingKey: "cem", plan: "pro" });
    expect(client.all().color).toBe(before);
    client.shown("color", before, "");
    expect(await exposures()).toMatchObject([{ unit: "ada", attributes: { plan: "pro" } }]);
  });
});

describe("what a page shows of all values", () => {
  test("is counted and exposed where it says so, and never because it was looked at", async () => {
    open();
    await client.ready();
    expect(client.all().color?.value).toBe("red");
    expect(await shown()).toEqual([]);
    client.shown("color", client.all().color);
    expect(await shown()).toEqual(["ada red"]);
    expect(await counts()).toMatchObject([{ flag: "color", variation: "red", count: 1 }]);
  });

  test("is an evaluation without exposure where the default is shown instead", async () => {
    open();
    await client.ready();
    client.shown("color", client.all().color, 7);
    client.shown("missing", undefined, { rows: 1 });
    expect(await shown()).toEqual([]);
    expect(await counts()).toMatchObject([
      { flag: "color", variation: null, reason: "ERROR", count: 1 },
      { flag: "missing", variation: null, reason: "ERROR", count: 1 },
    ]);
  });
});

describe("an exposure goes out once", () => {
  test("for as long as the page is there, whatever was sent meanwhile", async () => {
    open();
    draws();
    await client.ready();
    expect(await shown()).toEqual(["ada red"]);
    await client.setContext({ targetingKey: "cem" });
    await client.flush();
    await client.setContext({ targetingKey: "ada" });
    expect(client.string("color", "")).toBe("red");
    expect(await shown()).toEqual(["ada red", "cem blue"]);
  });

  test("for each experiment that the flag runs", async () => {
    open();
    draws();
    await client.ready();
    colors.ada = color("red", null, { exposure: { unit: "ada", experiment: "exp_1", sampleRate: 1 } });
    await client.setContext({ targetingKey: "ada" });
    expect((await exposures()).map(({ experiment }) => experiment)).toEqual([null, "exp_1"]);
  });

  test("and again where it was lost, once it is shown again", async () => {
    open();
    await client.ready();
    intake = 400;
    client.string("color", "");
    expect(await shown()).toEqual([]);
    expect(client.status().events.dropped).toBeGreaterThan(0);
    intake = 202;
    await client.flush();
    client.string("color", "");
    expect(await shown()).toEqual(["ada red"]);
  });

  test("and a page that many use in turn does not remember them without bound", async () => {
    const batches: TelemetryEvent[] = [];
    const post = async (body: string) => {
      batches.push(...(JSON.parse(body).events as TelemetryEvent[]).filter(({ kind }) => kind === "exposure"));
      return new Response(null, { status: 202 });
    };
    const events = new Events(
      post,
      systemClock,
      () => "id",
      {},
      () => {},
      { forThePage: true },
    );
    const exposed = async (from: number, to: number) => {
      batches.length = 0;
      for (let n = from; n < to; n++) {
        const decision = { value: true, variation: "on", reason: "STATIC", flagVersion: 1 } as const;
        events.evaluated("color", decision, {}, { unit: `user-${n}`, experiment: null, sampleRate: 1 });
        if (n % 5_000 === 4_999) await events.flush();
      }
      await events.flush();
      return batches.length;
    };
    expect(await exposed(0, 20_000)).toBe(20_000);
    expect(await exposed(0, 20_000)).toBe(0);
    expect(await exposed(20_000, 20_001)).toBe(1);
    expect(await exposed(0, 10)).toBe(10);
  });
});

describe("OpenFeature in a page", () => {
  let over: AbortController;
  beforeEach(() => {
    over = new AbortController();
  });
  afterEach(async () => {
    over.abort();
    await OpenFeature.clearProviders();
    await OpenFeature.setContext({});
  });

  test("exposes each visitor who was shown a variation, the default's included, once", async () => {
    await OpenFeature.setContext({ targetingKey: "ada" });
    await OpenFeature.setProviderAndWait(new BuntingWebProvider(open()));
    const features = OpenFeature.getClient();
    const draw = () => features.getStringValue("color", "red");
    for (const name of ["PROVIDER_CONTEXT_CHANGED", "PROVIDER_CONFIGURATION_CHANGED"])
      features.addHandler(name as never, draw, { signal: over.signal });
    draw();
    for (const targetingKey of ["ben", "cem", "ada"]) await OpenFeature.setContext({ targetingKey });
    expect(await shown()).toEqual(["ada red", "ben red", "cem blue"]);
    colors.ada = color("crimson", "ada", { value: "red" });
    await OpenFeature.setContext({ targetingKey: "ada", plan: "pro" });
    expect(await shown()).toEqual(["ada red", "ben red", "cem blue", "ada crimson"]);
  });

  test("while another visitor's values are awaited, exposes the one whose value is shown", async () => {
    await OpenFeature.setContext({ targetingKey: "ada" });
    await OpenFeature.setProviderAndWait(new BuntingWebProvider(open()));
    const features = OpenFeature.getClient();
    const reconciled = OpenFeature.setContext({ targetingKey: "cem" });
    expect(features.getStringValue("color", "")).toBe("red");
    await reconciled;
    expect(await shown()).toEqual(["ada red"]);
  });

  test("exposes nobody where the getter answers the default, since the flag's value is of another type", async () => {
    await OpenFeature.setContext({ targetingKey: "ada" });
    await OpenFeature.setProviderAndWait(new BuntingWebProvider(open()));
    const features = OpenFeature.getClient();
    expect(features.getObjectDetails("color", { r: 1 })).toMatchObject({ value: { r: 1 }, errorCode: "TYPE_MISMATCH" });
    expect(features.getBooleanValue("color", false)).toBe(false);
    expect(await shown()).toEqual([]);
    expect((await counts()).every(({ variation }) => variation === null)).toBe(true);
  });
});
