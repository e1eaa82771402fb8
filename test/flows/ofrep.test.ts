/** OFREP's official clients, unmodified, against the Worker over real sockets; every shape of answer against OFREP's own document. */
import { readFileSync } from "node:fs";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature as ServerOpenFeature } from "@openfeature/server-sdk";
import { ClientProviderEvents, OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "workers/index.ts";
let server: Server;
let serverKey: string;
let clientKey: string;
let flags: string;
let path: string;

type Make = { type?: string; variations?: unknown[]; clientSide?: boolean };

async function makeFlag(key: string, targeting: object, make: Make = {}): Promise<void> {
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key, type: "boolean", variations, clientSide: true, ...make });
  await server.ask("PATCH", `${flags}/${key}/environments/production`, { on: true, ...targeting });
}

beforeAll(async () => {
  // What browsers have and Node hides behind a switch.
  Object.assign(globalThis, { EventSource });
  server = await Server.start(ENTRY, bundle(ENTRY));
  ({ serverKey, flags, path } = await server.environment());
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" }));
  const variations = (a: unknown, b: unknown) => [
    { key: "a", value: a },
    { key: "b", value: b },
  ];
  await makeFlag("boolean", { targets: [{ variation: "off", values: ["qa"] }] });
  await makeFlag("string", {}, { type: "string", variations: variations("blue", "green") });
  await makeFlag("number", {}, { type: "number", variations: variations(42.5, 0) });
  await makeFlag("object", {}, { type: "json", variations: variations({ a: [1, { b: null }] }, {}) });
  await makeFlag("array", {}, { type: "json", variations: variations([1, 2], []) });
  await makeFlag("split", { fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } });
  await makeFlag("killed", {});
  await server.ask("POST", `${flags}/killed/environments/production/kill`, { reason: "test" });
  await makeFlag("defaulted", { on: false, offVariation: null });
  await makeFlag("server-only", {}, { clientSide: false });
});

afterAll(async () => {
  await ServerOpenFeature.close();
  await WebOpenFeature.close();
  await server.dispose();
});

const ask = (suffix: string, body: string, key = serverKey) =>
  fetch(`${server.url}/ofrep/v1/evaluate/flags${suffix}`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body,
  });

describe("@openfeature/ofrep-provider", () => {
  test("evaluates values of every type, with reasons, variants and metadata (R14)", async () => {
    const provider = new OFREPProvider({ baseUrl: server.url, headers: [["Authorization", `Bearer ${serverKey}`]] });
    await ServerOpenFeature.setProviderAndWait(provider);
    const client = ServerOpenFeature.getClient();
    const user = { targetingKey: "u" };
    expect(await client.getBooleanDetails("boolean", false, { targetingKey: "qa" })).toMatchObject({
      value: false,
      variant: "off",
      reason: "TARGETING_MATCH",
      flagMetadata: { buntingReason: "TARGET_MATCH", flagVersion: expect.any(Number) },
    });
    expect(await client.getStringValue("string", "red", user)).toBe("blue");
    expect(await client.getNumberValue("number", 0, user)).toBe(42.5);
    expect(await client.getObjectValue("object", {}, user)).toEqual({ a: [1, { b: null }] });
    expect(await client.getBooleanDetails("split", false, user)).toMatchObject({ reason: "SPLIT" });
    expect(await client.getBooleanDetails("killed", true, user)).toMatchObject({ value: false, reason: "DISABLED" });
    expect(await client.getBooleanDetails("server-only", false, user)).toMatchObject({ value: true });
  });

  test("gives the code's default, and says why, for what cannot be evaluated", async () => {
    const client = ServerOpenFeature.getClient();
    const user = { targetingKey: "u" };
    expect(await client.getBooleanDetails("nowhere", true, user)).toMatchObject({
      value: true,
      errorCode: "FLAG_NOT_FOUND",
    });
    expect(await client.getBooleanDetails("no/such flag", true, user)).toMatchObject({ errorCode: "FLAG_NOT_FOUND" });
    for (const flag of ["split", "boolean"])
      expect(await client.getBooleanDetails(flag, true)).toMatchObject({ errorCode: "TARGETING_KEY_MISSING" });
    expect(await client.getStringDetails("boolean", "x", user)).toMatchObject({
      value: "x",
      errorCode: "TYPE_MISMATCH",
    });
    expect(await client.getBooleanValue("defaulted", true, { targetingKey: "u" })).toBe(true);
  });

  test("is told that a key is not good", async () => {
    const headers: [string, string][] = [["X-API-Key", `${serverKey}0`]];
    await ServerOpenFeature.setProviderAndWait("bad", new OFREPProvider({ baseUrl: server.url, headers }));
    const details = await ServerOpenFeature.getClient("bad").getBooleanDetails("boolean", false);
    expect(details).toMatchObject({ value: false, reason: "ERROR" });
  });
});

describe("@openfeature/ofrep-web-provider", () => {
  const provide = async (domain: string, key: string, user: string) => {
    const fetched: number[] = [];
    const provider = new OFREPWebProvider({
      baseUrl: server.url,
      headers: [["X-API-Key", key]],
      cacheMode: "disabled",
      fetchImplementation: async (input: RequestInfo | URL, init?: RequestInit) => {
        const response = await fetch(input, init);
        fetched.push(response.status);
        return response;
      },
    });
    await WebOpenFeature.setContext(domain, { targetingKey: user });
    await WebOpenFeature.setProviderAndWait(domain, provider);
    return { client: WebOpenFeature.getClient(domain), fetched };
  };

  test("evaluates all flags for its context and gives every type of value (R14)", async () => {
    const { client } = await provide("all", clientKey, "qa");
    expect(client.getBooleanDetails("boolean", true)).toMatchObject({ value: false, reason: "TARGETING_MATCH" });
    expect(client.getStringValue("string", "red")).toBe("blue");
    expect(client.getNumberValue("number", 0)).toBe(42.5);
    expect(client.getObjectValue("object", {})).toEqual({ a: [1, { b: null }] });
    expect(client.getBooleanDetails("defaulted", true)).toMatchObject({ value: true, reason: "DISABLED" });
    expect(client.getBooleanDetails("server-only", false)).toMatchObject({ errorCode: "FLAG_NOT_FOUND" });
    await WebOpenFeature.setContext("all", { targetingKey: "somebody" });
    expect(client.getBooleanValue("boolean", false)).toBe(true);
  });

  test("connects to the event stream, fetches nothing it has, and sees a change and a kill without polling", async () => {
    await makeFlag("live", {});
    const { client, fetched } = await provide("live", clientKey, "u");
    const changed: (string[] | undefined)[] = [];
    client.addHandler(ClientProviderEvents.ConfigurationChanged, (event) => void changed.push(event?.flagsChanged));
    expect(client.getBooleanValue("live", false)).toBe(true);
    // The stream's first word closes the gap between the answer and the stream: nothing has changed in it.
    await vi.waitFor(() => expect(fetched).toEqual([200, 304]));
    await server.ask("PATCH", `${flags}/live/environments/production`, { on: false });
    await vi.waitFor(() => expect(client.getBooleanValue("live", true)).toBe(false), 5_000);
    await server.ask("POST", `${flags}/live/environments/production/kill`, { reason: "test" });
    await vi.waitFor(() => expect(client.getBooleanDetails("live", true).flagMetadata.buntingReason).toBe("KILLED"));
    // Only what did change is said to have changed.
    expect(changed).toEqual([["live"], ["live"]]);
  });

  test("with a client key that may not be used, is told so", async () => {
    await expect(provide("bad", clientKey.replace(/.$/, "!"), "u")).rejects.toThrow();
  });
});

describe("answers, against OFREP 0.3's OpenAPI document", () => {
  const ajv = new Ajv2020({
    strict: false,
    allErrors: true,
    formats: { uri: URL.canParse, float: true, "date-time": true },
  });
  ajv.addSchema(parse(readFileSync("test/third-party/ofrep/openapi.yaml", "utf8")) as object, "ofrep");
  const schema = (name: string): ValidateFunction => {
    const validate = ajv.getSchema(`ofrep#/components/schemas/${name}`);
    if (validate === undefined) throw new Error(`There is no schema ${name}`);
    return validate;
  };
  const schemaErrors = (name: string, body: unknown) => {
    const validate = schema(name);
    return validate(body) ? [] : validate.errors;
  };

  test("the document refuses what is no answer", () => {
    expect(schemaErrors("serverEvaluationSuccess", { key: "a", reason: "OTHER" })).not.toEqual([]);
    expect(schemaErrors("evaluationFailure", { key: "a", errorCode: "OTHER" })).not.toEqual([]);
    expect(schemaErrors("bulkEvaluationSuccess", { flags: [{ key: "a" }] })).not.toEqual([]);
    expect(schemaErrors("bulkEvaluationSuccess", { flags: [], metadata: { nested: {} } })).not.toEqual([]);
  });

  test("every single evaluation", async () => {
    const body = '{"context":{"targetingKey":"u"}}';
    for (const key of ["boolean", "string", "number", "object", "array", "split", "killed", "defaulted"]) {
      const response = await ask(`/${key}`, body);
      expect(response.status).toBe(200);
      expect([key, schemaErrors("serverEvaluationSuccess", await response.json())]).toEqual([key, []]);
    }
  });

  test("evaluations in bulk, with failures inline, for either kind of key", async () => {
    for (const key of [serverKey, clientKey]) {
      for (const body of ['{"context":{"targetingKey":"u"}}', '{"context":{"targetingKey":"v","plan":"pro"}}']) {
        const response = await ask("", body, key);
        expect(response.status).toBe(200);
        const answer = (await response.json()) as { flags: unknown[]; eventStreams: unknown[] };
        expect(answer.flags.length).toBeGreaterThan(7);
        expect(answer.eventStreams).toHaveLength(1);
        expect(schemaErrors("bulkEvaluationSuccess", answer)).toEqual([]);
      }
    }
  });

  const failures: [string, string, string, number, string][] = [
    ["an unknown flag", "/nowhere", '{"context":{}}', 404, "flagNotFound"],
    ["a missing targeting key", "/split", '{"context":{}}', 400, "evaluationFailure"],
    ["a missing targeting key in bulk", "", '{"context":{}}', 400, "bulkEvaluationFailure"],
    ["a context that is none", "/boolean", '{"context":[]}', 400, "evaluationFailure"],
    ["no JSON", "/boolean", "{", 400, "evaluationFailure"],
    ["no JSON in bulk", "", "{", 400, "bulkEvaluationFailure"],
    ["a context that is none in bulk", "", '{"context":[]}', 400, "bulkEvaluationFailure"],
  ];
  for (const [what, suffix, body, status, name] of failures) {
    test(`the failure for ${what}`, async () => {
      const response = await ask(suffix, body);
      expect(response.status).toBe(status);
      expect(response.headers.get("content-type")).toBe("application/json");
      expect(schemaErrors(name, await response.json())).toEqual([]);
    });
  }

  test("401 and 403 for a key that is not good and for an origin that is not its own", async () => {
    expect((await ask("/boolean", '{"context":{}}', `${serverKey}0`)).status).toBe(401);
    const { key } = await server.ask<{ key: string }>("POST", `${path}/keys`, {
      kind: "client",
      origins: ["https://shop.example"],
    });
    const response = await fetch(`${server.url}/ofrep/v1/evaluate/flags`, {
      method: "POST",
      headers: { "x-api-key": key, origin: "https://evil.example" },
      body: "{}",
    });
    expect(response.status).toBe(403);
  });

  test("the event of an event stream", async () => {
    const answer = (await (await ask("", '{"context":{"targetingKey":"ada"}}')).json()) as {
      eventStreams: { endpoint: { requestUri: string } }[];
    };
    const source = new EventSource(`${server.url}${answer.eventStreams[0]!.endpoint.requestUri}`);
    const event = await new Promise<MessageEvent>((resolve) => source.addEventListener("message", resolve));
    source.close();
    expect(schemaErrors("sseEventData", JSON.parse(event.data))).toEqual([]);
    expect(schemaErrors("sseEvent", { data: event.data, event: event.type, id: event.lastEventId })).toEqual([]);
  });
});
