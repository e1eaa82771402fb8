/** The client for browsers against the real Worker: the same sentences wherever it runs. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";
import { NodeVisitor, type Visitor, type VisitorOptions } from "../support/visitor.ts";

const ENTRY = "workers/index.ts";
let server: Server;
let clientKey: string;
let flags: string;
let keys: string;

async function makeFlag(key: string, fields: object = {}, targeting: object = {}): Promise<string> {
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key, type: "boolean", variations, clientSide: true, ...fields });
  const path = `${flags}/${key}/environments/production`;
  await server.ask("PATCH", path, { on: true, ...targeting });
  return path;
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  flags = environment.flags;
  keys = `${environment.path}/keys`;
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", keys, { kind: "client" }));
});
afterAll(() => server.dispose());

describe.each([["Node", () => new NodeVisitor()]] as [string, () => Visitor][])("in %s", (_, newVisitor) => {
  let visitor: Visitor;
  const open = (options: Partial<VisitorOptions> = {}) =>
    visitor.open({ clientKey, url: server.url, context: { targetingKey: "user-42" }, ...options });
  const heard = async (name: string) => (await visitor.heard()).filter((one) => one.name === name);

  beforeEach(() => {
    visitor = newVisitor();
  });
  afterEach(() => visitor.close());

  test("values are there once it is ready, and come as they are over a stream (R14, R15)", async () => {
    const targeting = await makeFlag("streamed");
    await open();
    expect(await visitor.ready()).toBe(true);
    expect(await visitor.details("streamed", false)).toMatchObject({ value: true, variation: "on", reason: "STATIC" });
    await vi.waitFor(async () => expect(await heard("connected")).toHaveLength(1));
    await server.ask("POST", `${targeting}/kill`, { reason: "test" });
    await vi.waitFor(async () => expect(await visitor.details("streamed", true)).toMatchObject({ value: false }));
    expect((await heard("change")).at(-1)?.detail).toMatchObject({ flags: ["streamed"] });
    expect(await visitor.status()).toMatchObject({ transport: "websocket", connected: true, stale: false });
  });
});
