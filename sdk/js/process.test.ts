import { execFile } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../test/support/peer.ts";

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", false, 1)])).start();
});
afterEach(() => peer.stop());

describe("the process (R15)", () => {
  /** Runs the code, with a client, in a Node of its own; fails unless that ends by itself. */
  const run = (streams: string[], code: string) =>
    new Promise<string>((resolve, reject) => {
      const options = JSON.stringify({ serverKey: SERVER_KEY, url: peer.url, streams });
      const entry = new URL("./node.ts", import.meta.url).href;
      const script = `import { createClient } from "${entry}"; const client = createClient(${options}); ${code}`;
      const done = (error: Error | null, output: string) => (error ? reject(error) : resolve(output));
      execFile(process.execPath, ["--input-type=module", "--eval", script], { timeout: 20_000 }, done);
    });
  const look = 'console.log(await client.ready(), client.boolean("new-checkout", true));';

  test("is held by waiting for flags, and not by a client that polls", async () => {
    expect(await run([], look)).toBe("true false\n");
  });

  test("ends when a client that streams is closed", async () => {
    expect(await run(["websocket"], `${look} client.on("connected", () => client.close());`)).toBe("true false\n");
  });
});
