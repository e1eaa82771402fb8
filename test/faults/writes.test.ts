/** People who write while the runtime dies under them and comes back: each of their changes is made once, or refused. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, Server } from "../support/server.ts";

let server: Server;
beforeAll(async () => {
  server = await Server.start("workers/index.ts", bundle("workers/index.ts"));
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

test("hubs and Workers killed twice under eight writers: each edit lands once, in one order, and is delivered", async () => {
  const { serverKey, flags } = await server.environment();
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
      versions.push((await untilAnswered(`${there}/instructions`, `writer-${writer}-${n}`)).version);
      answered++;
    }
    return versions;
  });
  for (const enough of [WRITERS, 3 * WRITERS]) {
    while (answered < enough) await new Promise((resolve) => setTimeout(resolve, 10));
    await server.kill();
    await server.resume();
  }
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
    "/audit?key=busy&action=flag.update&limit=100",
  );
  expect(items.map(({ correlation_id }) => correlation_id).reverse()).toEqual(targets[0]?.values);

  // What was committed just before a death, and never published by who committed it, is brought by the sweep.
  await server.sweep();
  const ruleset = await fetch(`${server.url}/sdk/v1/ruleset`, { headers: { authorization: `Bearer ${serverKey}` } });
  const { flags: served } = (await ruleset.json()) as { flags: Record<string, { version: number; targets: unknown }> };
  expect(served.busy).toMatchObject({ version, targets });
});
