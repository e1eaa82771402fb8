/** OpenFeature's own scenarios (test/third-party/ORIGIN.md), with its SDK for servers, our provider and the Worker. */
import { createServer, type Server as TcpServer } from "node:net";
import { BuntingProvider, type ProviderClient } from "@bunting/sdk/openfeature-server";
import {
  AsyncLocalStorageTransactionContextPropagator,
  type Client,
  type EvaluationContext,
  type Hook,
  OpenFeature,
  ProviderStatus,
} from "@openfeature/server-sdk";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { runScenario, type Scenario, scenariosIn } from "../support/gherkin.ts";
import {
  type AnyHook,
  type Asked,
  type Details,
  type ProviderState,
  type Sdk,
  steps,
  World,
} from "../support/openfeature-steps.ts";
import { rulesetOf } from "../support/peer.ts";
import { client as buntingClient } from "../support/sdk.ts";
import { bundle, freePort, Server } from "../support/server.ts";
import { openFeatureFlags } from "../third-party/openfeature-flags.ts";

const ENTRY = "workers/index.ts";

/** Scenarios that cannot hold for Bunting. Each is run all the same, and has to fail for the reason that is given. */
const inapplicable: Record<string, { because: string; fails: RegExp }> = {
  "metadata: Returns metadata": {
    because: "a flag of Bunting's has no metadata of its user's making",
    fails: /to match object/,
  },
  "evaluation_v2: Flag metadata in evaluation details": {
    because: "a flag of Bunting's has no metadata of its user's making",
    fails: /to match object/,
  },
  "metadata: Returns no metadata": {
    because: "the provider's metadata always says flagVersion and buntingReason",
    fails: /flagVersion.*to deeply equal \{\}/,
  },
  "evaluation_v2: CACHED reason": {
    because:
      "every evaluation is made anew, in memory: there is no cache of values, and the reason is STATIC each time",
    fails: /expected 'STATIC' to be 'CACHED'/,
  },
};
const inapplicableTo = ({ feature, name }: Scenario) => inapplicable[`${feature}: ${name}`];

let server: Server;
let serverKey: string;
/** Takes connections and never answers. */
let silent: TcpServer;
let silentUrl: string;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  serverKey = environment.serverKey;
  for (const { flag, targeting } of openFeatureFlags()) {
    await server.ask("POST", environment.flags, flag);
    await server.ask("PATCH", `${environment.flags}/${flag.key}/environments/production`, targeting);
  }
  const port = await freePort();
  silent = createServer(() => {}).listen(port, "127.0.0.1");
  silentUrl = `http://127.0.0.1:${port}`;
});
afterAll(async () => {
  silent.close();
  await server.dispose();
});
afterEach(() => OpenFeature.clearProviders());

class ServerSdk implements Sdk {
  readonly #levels: Record<string, EvaluationContext> = {};
  #client: Client | undefined;
  #with: EvaluationContext = {};

  async provide(state: ProviderState): Promise<void> {
    await OpenFeature.clearProviders();
    await OpenFeature.setContext({});
    const unreachable = `http://127.0.0.1:${await freePort()}`;
    const made = {
      stable: () => buntingClient({ url: server.url, serverKey, streams: [] }),
      "not ready": () => buntingClient({ url: silentUrl, serverKey, streams: [] }),
      error: () => buntingClient({ url: unreachable, serverKey }),
      fatal: () => buntingClient({ url: server.url, serverKey: `${serverKey}x` }),
      stale: () => buntingClient({ url: unreachable, serverKey, bootstrap: rulesetOf(1, []) }),
    }[state]();
    const provider = new BuntingProvider(this.#recording(made), { readyMs: state === "not ready" ? 60_000 : 2_000 });
    if (state === "not ready") OpenFeature.setProvider(provider);
    else await OpenFeature.setProviderAndWait(provider).catch(() => {});
    this.#client = OpenFeature.getClient();
    if (state === "stale") await vi.waitFor(() => expect(this.status()).toBe(ProviderStatus.STALE));
  }

  #recording(client: ProviderClient): ProviderClient {
    return {
      details: (key, defaultValue, context = {}) => {
        this.#with = context as EvaluationContext;
        return client.details(key, defaultValue, context);
      },
      track: client.track.bind(client),
      on: client.on.bind(client),
      ready: client.ready.bind(client),
      status: client.status.bind(client),
      close: client.close.bind(client),
    };
  }

  status = () => this.#client!.providerStatus;
  addHooks = (...hooks: AnyHook[]) => void this.#client!.addHooks(...(hooks as Hook[]));
  addToLevel(level: string, entry: EvaluationContext): void {
    this.#levels[level] = { ...this.#levels[level], ...entry };
  }

  evaluatedWith = () => this.#with;

  evaluate({ type, key, fallback }: Asked, context: EvaluationContext, hooks: AnyHook[]): Promise<Details> {
    const client = this.#client!;
    const { API = {}, Transaction, Client: ofClient = {}, Invocation = {}, "Before Hooks": fromHook } = this.#levels;
    OpenFeature.setContext(API);
    client.setContext(ofClient);
    const before: Hook = { before: () => fromHook };
    const options = { hooks: [...(hooks as Hook[]), ...(fromHook === undefined ? [] : [before])] };
    const whole = Object.keys(Invocation).length === 0 ? context : { ...context, ...Invocation };
    const resolve = (): Promise<Details> => {
      if (type === "boolean") return client.getBooleanDetails(key, fallback as boolean, whole, options);
      if (type === "string") return client.getStringDetails(key, fallback as string, whole, options);
      if (type === "number") return client.getNumberDetails(key, fallback as number, whole, options);
      return client.getObjectDetails(key, fallback, whole, options);
    };
    if (Transaction === undefined) return resolve();
    OpenFeature.setTransactionContextPropagator(new AsyncLocalStorageTransactionContextPropagator());
    return new Promise((done, fail) =>
      OpenFeature.setTransactionContext(Transaction, () => resolve().then(done, fail)),
    );
  }
}

const all = scenariosIn("test/third-party/openfeature/*.feature");

test("all five suites are there, and nothing that does not apply has left them", () => {
  expect(all).toHaveLength(132);
  const names = new Set(all.map(({ feature, name }) => `${feature}: ${name}`));
  expect(Object.keys(inapplicable).filter((name) => !names.has(name))).toEqual([]);
});

describe("OpenFeature's scenarios hold for servers (R15)", () => {
  test.each(all.filter((scenario) => inapplicableTo(scenario) === undefined))("$title", (scenario) =>
    runScenario(scenario, steps, new World(new ServerSdk())),
  );
});

describe("OpenFeature's scenarios that do not apply fail for the reason given", () => {
  test.each(
    all.flatMap((scenario) => {
      const reason = inapplicableTo(scenario);
      return reason === undefined ? [] : [{ scenario, title: scenario.title, ...reason }];
    }),
  )("$title: $because", async ({ scenario, fails }) => {
    await expect(runScenario(scenario, steps, new World(new ServerSdk()))).rejects.toThrow(fails);
  });
});
