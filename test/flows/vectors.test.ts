/** The main job on real input: third-party cases, saved through the API, evaluated by a Node SDK over its stream. */
import type { Client } from "@bunting/sdk/node";
import { createClient } from "@bunting/sdk/node";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";
import {
  type Case,
  cases,
  createBody,
  creationOrder,
  expectation,
  refusals,
  segmentBody,
  targetingBody,
  toDocuments,
} from "../third-party/vectors.ts";

const ENTRY = "workers/index.ts";
const portable = cases().filter(({ klass }) => klass === "portable");
let server: Server;
let path: string;
let flags: string;
let sdk: Client;

type Request = [method: string, path: string, body: unknown];

const targetingOf = ({ included, excluded, rules }: ReturnType<typeof segmentBody>) => ({ included, excluded, rules });

const prefixOf = (source: Case) => `c${portable.indexOf(source)}.`;

/** Null once all of a case is saved, or the API's answer to what it refused. */
async function save(source: Case): Promise<{ status: number; body: unknown } | null> {
  const prefix = prefixOf(source);
  const documents = toDocuments(source, prefix);
  const order = creationOrder(source, prefix);
  const segments = Object.values(documents.segments).map(segmentBody);
  const writes: Request[] = [
    ...order.map((key): Request => ["POST", flags, createBody(documents.flags[key]!)]),
    // Segments may name each other: first they exist, then they get their rules.
    ...segments.map((segment): Request => ["POST", `${path}/segments`, { key: segment.key }]),
    ...segments.map((segment): Request => ["PATCH", `${path}/segments/${segment.key}`, targetingOf(segment)]),
    ...order.map(
      (key): Request => ["PATCH", `${flags}/${key}/environments/production`, targetingBody(documents.flags[key]!)],
    ),
  ];
  for (const [method, target, body] of writes) {
    const response = await server.api(method, target, body);
    if (!response.ok) return { status: response.status, body: await response.json() };
    await response.arrayBuffer();
  }
  return null;
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  ({ path, flags } = environment);
  // Connected before anything is there: all of it has to come by the stream.
  sdk = createClient({
    url: server.url,
    serverKey: environment.serverKey,
    events: false,
    logger: { warn() {}, error() {} },
  });
  await new Promise<void>((resolve) => sdk.on("connected", () => resolve()));
});

afterAll(async () => {
  await sdk.close();
  await server.dispose();
});

describe(`${portable.length} portable cases`, () => {
  const counted = { evaluated: 0, refused: 0 };

  test.each(portable.map((source) => [source.id, source] as const))("%s", async (_, source) => {
    const { key, context, defaultValue, decision } = expectation(source, prefixOf(source));
    const answer = await save(source);
    if (answer !== null) {
      // Rightly refused: the core's own validation says so too, and evaluates it in test/conformance.
      expect(answer.status, JSON.stringify(answer.body)).toBe(400);
      expect(refusals(source, prefixOf(source))).not.toEqual([]);
      counted.refused++;
      return;
    }
    // `details` holds a value to the type of its default (EV-8): where the default is not served, any type will do.
    const fallback = decision.variation === null ? defaultValue : null;
    await vi.waitFor(() => expect(sdk.details(key, fallback, context)).toMatchObject(decision), 5_000);
    counted.evaluated++;
  });

  test("most of them could be saved, and all of them were answered", () => {
    onTestFinished(() =>
      console.log(`third-party: ${counted.evaluated} evaluated over the stream, ${counted.refused} refused by the API`),
    );
    expect(counted.evaluated + counted.refused).toBe(portable.length);
    expect(counted.evaluated).toBeGreaterThan(portable.length * 0.8);
  });
});
