/** Node SDK clients as an application has them, closed when the test is over. */
import { type Client, createClient, type NodeOptions } from "@bunting/sdk/node";
import { onTestFinished } from "vitest";

const quiet = { warn: () => {}, error: () => {} };

export function client(options: Pick<NodeOptions, "url" | "serverKey"> & Partial<NodeOptions>): Client {
  const made = createClient({ logger: quiet, events: false, ...options });
  onTestFinished(() => made.close());
  return made;
}

export async function readyClient(options: Parameters<typeof client>[0]): Promise<Client> {
  const made = client(options);
  const connected = new Promise<void>((resolve) => made.on("connected", () => resolve()));
  if (!(await made.ready({ timeoutMs: 15_000 }))) throw new Error("The client got no ruleset");
  if ((options.streams ?? ["websocket"]).length > 0) await connected;
  return made;
}
