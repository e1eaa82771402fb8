/** Clients in Node processes of their own: what holds a process, what many share, and how one gets out (R15). */
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import type { NodeOptions } from "../node.ts";
import { systemClock } from "../sync/clock.ts";
import { RulesetFile } from "./cache.ts";

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", false, 1)])).start();
});
afterEach(() => peer.stop());

/** Runs the code, with a client, in a Node of its own; fails unless that ends by itself. */
function run(options: Partial<NodeOptions>, code: string, env: Record<string, string> = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const entry = new URL("../node.ts", import.meta.url).href;
  const given = JSON.stringify({ serverKey: SERVER_KEY, url: peer.url, ...options });
  const script = `import { createClient } from "${entry}"; const client = createClient(${given}); ${code}`;
  execFile(
    process.execPath,
    ["--input-type=module", "--eval", script],
    { timeout: 25_000, env: { ...process.env, ...env } },
    (error, output, errors) => (error ? reject(new Error(`${error.message}\n${output}\n${errors}`)) : resolve(output)),
  );
  return promise;
}
const connected = 'await new Promise((resolve) => client.on("connected", resolve));';
const look = 'console.log(await client.ready(), client.boolean("new-checkout", true));';

describe("a process", () => {
  test("is held by waiting for flags, and not by a client that polls", async () => {
    expect(await run({ streams: [] }, look)).toBe("true false\n");
  });

  test.each(["websocket", "sse"] as const)(
    "is not held by an open %s, and what was counted is sent before it ends",
    async (stream) => {
      const hold = "const held = setTimeout(() => {}, 20_000);";
      const code = `${hold} ${connected} clearTimeout(held); ${look} console.log(client.status().transport);`;
      expect(await run({ streams: [stream] }, code)).toBe(`true false\n${stream}\n`);
      expect(peer.batches.flatMap(({ events }) => events)).toMatchObject([{ kind: "summary", counts: [{ count: 1 }] }]);
      await vi.waitFor(() => expect(peer.sockets.size + peer.streams.size).toBe(0));
    },
  );

  test("is not held by the WebSocket of a package either, where the platform has none (Node 20)", async () => {
    const hold = "const held = setTimeout(() => {}, 20_000);";
    const code = `${hold} ${connected} clearTimeout(held); ${look} console.log(client.status().transport);`;
    expect(await run({ streams: ["websocket"] }, `delete globalThis.WebSocket; ${code}`)).toBe(
      "true false\nwebsocket\n",
    );
    expect(peer.batches.flatMap(({ events }) => events)).toMatchObject([{ kind: "summary", counts: [{ count: 1 }] }]);
    await vi.waitFor(() => expect(peer.sockets.size).toBe(0));
  });

  test("is not held by an answer that never comes, whichever it waits for", async () => {
    peer.silent = true;
    expect(
      await run(
        { events: false },
        'console.log(await client.ready({ timeoutMs: 300 }), client.boolean("new-checkout", true));',
      ),
    ).toBe("false true\n");
  });

  test("that waits for a socket of its own is held by it, with a client beside it", async () => {
    const code = `${look} const own = new WebSocket("${peer.url.replace("http", "ws")}/sdk/v1/socket", { headers: { authorization: "Bearer ${SERVER_KEY}" } });
      own.addEventListener("message", () => setTimeout(() => (console.log("own"), own.close()), 100), { once: true });`;
    expect(await run({ streams: ["sse"] }, code)).toBe("true false\nown\n");
  });

  test.each(["websocket", "sse"] as const)(
    "that was stopped and goes on is stale at once, asks at once and has what it missed, over %s",
    async (stream) => {
      const entry = new URL("../node.ts", import.meta.url).href;
      const given = JSON.stringify({ serverKey: SERVER_KEY, url: peer.url, streams: [stream], events: false });
      const code = `
        import { createClient } from "${entry}";
        const client = createClient(${given});
        const said = (name) => console.log(name, client.boolean("new-checkout", true));
        client.on("connected", () => said("connected"));
        client.on("stale", () => said("stale"));
        client.on("change", () => said("change"));
        setInterval(() => {}, 60_000);`;
      const child = spawn(process.execPath, ["--input-type=module", "--eval", code]);
      onTestFinished(() => void child.kill("SIGKILL"));
      let printed = "";
      child.stdout.on("data", (data) => {
        printed += data;
      });
      await vi.waitFor(() => expect(printed).toBe("connected false\n"), { timeout: 20_000 });
      child.kill("SIGSTOP");
      // Nobody tells it: the message is lost with whatever was between, as when a laptop sleeps.
      peer.change(booleanFlag("new-checkout", true, 2));
      await new Promise((resolve) => setTimeout(resolve, 7_000));
      const polls = peer.count("ruleset");
      child.kill("SIGCONT");
      // The stream itself would find out by its silence a minute later.
      await vi.waitFor(() => expect(printed).toBe("connected false\nstale false\nchange true\n"), { timeout: 10_000 });
      expect(peer.count("ruleset")).toBe(polls + 1);
    },
    30_000,
  );

  test("ends when a client that streams is closed", async () => {
    expect(await run({ streams: ["websocket"] }, `${look} client.on("connected", () => client.close());`)).toBe(
      "true false\n",
    );
  });

  test("that ends at once has kept the ruleset for the next one", async () => {
    const directory = folder();
    await run({ cache: { directory } }, "await client.ready();");
    await peer.stop();
    const code = 'console.log(client.boolean("new-checkout", true), client.status().source);';
    expect(await run({ cache: { directory } }, code)).toBe("false cache\n");
  });
});

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "bunting-cache-"));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

test("eight processes share one cache: whoever reads it finds a whole ruleset at any moment, and the last one in the end", async () => {
  const directory = folder();
  const last = 60;
  const flags = Array.from({ length: 300 }, (_, index) => booleanFlag(`flag-${index}`, true, 1));
  // Each of them all the time, where a client would write once a second.
  const cache = new URL("./cache.ts", import.meta.url).href;
  const code = `await client.close();
    const { RulesetFile } = await import("${cache}");
    const clock = { timer: (_, fire) => setImmediate(fire) };
    const file = new RulesetFile(${JSON.stringify(directory)}, "env-1", clock, (message) => console.log(message));
    const ruleset = ${JSON.stringify(rulesetOf(0, flags))};
    for (let revision = 1; revision <= ${last}; revision++) {
      file.changed(() => ({ ...ruleset, revision }));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await file.flush();`;
  const processes = Array.from({ length: 8 }, () => run({ events: false }, code));
  const warnings: string[] = [];
  const reader = new RulesetFile(directory, "env-1", systemClock, (message) => warnings.push(message));
  const seen = new Set<number>();
  let running = true;
  const outputs = Promise.all(processes).finally(() => {
    running = false;
  });
  while (running) {
    const kept = reader.read();
    if (kept !== null) {
      seen.add(kept.revision);
      expect(Object.keys(kept.flags)).toHaveLength(300);
    }
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  expect(await outputs).toEqual(Array(8).fill(""));
  expect(warnings).toEqual([]);
  expect(seen.size).toBeGreaterThan(1);
  expect(reader.read()?.revision).toBe(last);
  expect(readdirSync(directory)).toEqual(["bunting-env-1.ruleset"]);
});

test.each(["websocket", "sse"] as const)("behind a proxy everything goes through it, %s too", async (stream) => {
  const asked: string[] = [];
  const tunnels = new Set<Socket>();
  const proxy = createServer().on("connect", (request: IncomingMessage, inner: Socket) => {
    asked.push(request.url!);
    const outer = connect(Number(new URL(peer.url).port), "127.0.0.1", () => {
      inner.write("HTTP/1.1 200 Connection established\r\n\r\n");
      outer.pipe(inner).pipe(outer);
    });
    for (const socket of [inner, outer]) tunnels.add(socket.on("error", () => {}));
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of tunnels) socket.destroy();
    proxy.close();
  });
  const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const env = { NODE_USE_ENV_PROXY: "1", HTTP_PROXY: address, http_proxy: address, NO_PROXY: "", no_proxy: "" };
  // Nobody but the proxy knows that host.
  const options = { url: "http://flags.invalid", streams: [stream] };
  const hold = "const held = setTimeout(() => {}, 20_000);";
  const code = `${hold} ${connected} clearTimeout(held); ${look} console.log(client.status().transport);`;
  expect(await run(options, code, env)).toBe(`true false\n${stream}\n`);
  expect(new Set(asked)).toEqual(new Set(["flags.invalid:80"]));
  expect(peer.batches).toHaveLength(1);
});
