/** OpenFeature's own scenarios (test/third-party/ORIGIN.md), with its SDKs, our providers and the Worker. */
import { createServer, type Server as TcpServer } from "node:net";
import { OpenFeature as ServerOpenFeature } from "@openfeature/server-sdk";
import { OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { runScenario, type Scenario, scenariosIn } from "../support/gherkin.ts";
import { type Place, ServerSdk, WebSdk } from "../support/openfeature-sdks.ts";
import { steps, World } from "../support/openfeature-steps.ts";
import { bundle, freePort, Server } from "../support/server.ts";
import { openFeatureFlags } from "../third-party/openfeature-flags.ts";

const ENTRY = "workers/index.ts";
const sdks = { server: ServerSdk, web: WebSdk };

/** Scenarios that cannot hold for Bunting, or not in browsers. Each is run all the same, and has to fail for the reason given. */
const inapplicable: { scenario: RegExp; step?: RegExp; to?: keyof typeof sdks; because: string; fails: RegExp }[] = [
  {
    scenario: /^metadata Returns metadata$|^evaluation_v2 Flag metadata in evaluation details$/,
    because: "a flag of Bunting's has no metadata of its user's making",
    fails: /to match object/,
  },
  {
    scenario: /^metadata Returns no metadata$/,
    because: "the provider's metadata always says flagVersion and buntingReason",
    fails: /flagVersion.*to deeply equal \{\}/,
  },
  {
    scenario: /^evaluation_v2 CACHED reason$/,
    because: "every answer is made anew from what is in memory, and its reason is STATIC each time",
    fails: /expected 'STATIC' to be 'CACHED'/,
  },
  {
    scenario: /^evaluation_v2 Asynchronous flag evaluation$/,
    to: "web",
    because: "OpenFeature's SDK for browsers evaluates synchronously",
    fails: /to be an instance of Promise/,
  },
  {
    scenario: /^contextMerging /,
    step: /"(Transaction|Client|Invocation|Before Hooks)" level/,
    to: "web",
    because: "OpenFeature's SDK for browsers has one context, and no levels to merge",
    fails: /SDK for browsers has no level/,
  },
];

const all = scenariosIn("test/third-party/openfeature/*.feature");

function exceptionFor(sdk: string, { feature, name, pickle }: Scenario) {
  return inapplicable.find(
    ({ scenario, step, to = sdk }) =>
      to === sdk && scenario.test(`${feature} ${name}`) && (!step || pickle.steps.some(({ text }) => step.test(text))),
  );
}

let server: Server;
/** Takes connections and never answers. */
let silent: TcpServer;
let place: Place;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const { serverKey, flags, path } = await server.environment();
  const { key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" });
  for (const { flag, targeting } of openFeatureFlags()) {
    await server.ask("POST", flags, flag);
    await server.ask("PATCH", `${flags}/${flag.key}/environments/production`, targeting);
  }
  const port = await freePort();
  silent = createServer(() => {}).listen(port, "127.0.0.1");
  const unreachable = `http://127.0.0.1:${await freePort()}`;
  place = { url: server.url, serverKey, clientKey, silent: `http://127.0.0.1:${port}`, unreachable };
});
afterAll(async () => {
  silent.close();
  await server.dispose();
});
afterEach(async () => {
  await ServerOpenFeature.clearProviders();
  await WebOpenFeature.clearProviders();
});

test("all five suites are there, and what does not apply is among them", () => {
  expect(all).toHaveLength(132);
  const count = (sdk: string) => all.filter((scenario) => exceptionFor(sdk, scenario) !== undefined).length;
  expect({ server: count("server"), web: count("web") }).toEqual({ server: 8, web: 36 });
  const unused = inapplicable.filter(
    ({ scenario }) => !all.some(({ feature, name }) => scenario.test(`${feature} ${name}`)),
  );
  expect(unused).toEqual([]);
});

describe.each(["server", "web"] as const)("OpenFeature's SDK for the %s", (sdk) => {
  const world = () => new World(new sdks[sdk](place));
  const cases = all.map((scenario) => ({ ...exceptionFor(sdk, scenario), scenario, title: scenario.title }));

  test.each(cases.filter(({ because }) => because === undefined))("$title (R15)", ({ scenario }) =>
    runScenario(scenario, steps, world()),
  );

  test.each(cases.filter(({ because }) => because !== undefined))(
    "$title does not apply, since $because",
    async ({ scenario, fails }) => {
      await expect(runScenario(scenario, steps, world())).rejects.toThrow(fails);
    },
  );
});
