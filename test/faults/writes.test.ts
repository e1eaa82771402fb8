/** People who write while the runtime dies under them and comes back: each of their changes is made once, or refused. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
let server: Server;
beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
});
afterAll(() => server.dispose());

const WRITERS = 8;
const EACH = 6;

/** As a careful client does it: the same request with the same key until somebody has answered it. */
async function untilAnswered(path: string, user: string): Promise<{ version: number }> {
  for (let tries = 0; tries < 600; tries++) {
    const answer = await server
      .api(
        "POST",
        path,
        { instructions: [{ kind: "addTargets", variation: "on", values: [user] }] },
        { "idempotency-key": user, "x-correlation-id": user },
      )
      .catch(() => null);
    if (answer?.ok) return (await answer.json()) as { version: number };
    if (answer !== null && answer.status < 500) throw new Error(`${answer.status}: ${await answer.text()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${user} was never answered`);
}

/** A flag that eight people add themselves to, one after the other's answer, while `interfere` does as it likes. */
async function written(
  project: string,
  interfere: (enough: (edits: number) => Promise<void>, place: Place) => Promise<void>,
) {
  const { serverKey, flags } = await server.environment(project);
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "busy", type: "boolean", variations });
  const there = `${flags}/busy/environments/production`;
  let answered = 0;
  const writing = Array.from({ length: WRITERS }, async (_, writer) => {
    const versions: number[] = [];
    for (let n = 0; n < EACH; n++) {
      versions.push((await untilAnswered(`${there}/instructions`, `${project}-${writer}-${n}`)).version);
      answered++;
    }
    return versions;
  });
  const enough = async (edits: number) => {
    while (answered < edits) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  await interfere(enough, { serverKey, there });
  const versions = await Promise.all(writing);
  const count = WRITERS * EACH;

  // Whoever waited for an answer before the next edit finds them in that order.
  for (const own of versions) expect(own).toEqual(own.toSorted((a, b) => a - b));
  expect(versions.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, index) => index + 2));
  const { targets, version } = await server.ask<{ targets: { values: string[] }[]; version: number }>("GET", there);
  expect(version).toBe(count + 1);
  expect(new Set(targets[0]?.values).size).toBe(count);
  expect(targets[0]?.values).toHaveLength(count);
  const { items } = await server.ask<{ items: { correlation_id: string }[] }>(
    "GET",
    `/audit?project=${project}&key=busy&action=flag.update&limit=100`,
  );
  expect(items.map(({ correlation_id }) => correlation_id).reverse()).toEqual(targets[0]?.values);

  // What was committed just before a death, and never published by who committed it, is brought by the sweep.
  await server.sweep();
  await vi.waitFor(async () => {
    const ruleset = await fetch(`${server.url}/sdk/v1/ruleset`, { headers: { authorization: `Bearer ${serverKey}` } });
    const { flags: served } = (await ruleset.json()) as { flags: Record<string, object> };
    expect(served.busy).toMatchObject({ version, targets });
  }, 20_000);
}

type Place = { serverKey: string; there: string };

test("hubs and Workers killed twice under eight writers: each edit lands once, in one order, and is delivered", () =>
  written("killed", async (enough) => {
    for (const edits of [WRITERS, 3 * WRITERS]) {
      await enough(edits);
      await server.kill();
      await server.resume();
    }
  }));

test("a hub restarted again and again under eight writers: the same, and an SDK sees them in that order", () =>
  written("restarted", async (enough, { serverKey }) => {
    const environmentId = `env_${serverKey.split("_")[2]}`;
    const sdk = await readyClient({ url: server.url, serverKey });
    const revisions: number[] = [];
    sdk.on("change", ({ revision }) => void revisions.push(revision));
    for (let edits = 4; edits < WRITERS * EACH; edits += 6) {
      await enough(edits);
      await server.abort("HUB", environmentId);
    }
    await enough(WRITERS * EACH);
    expect(revisions.length).toBeGreaterThan(0);
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
    await sdk.close();
  }));
