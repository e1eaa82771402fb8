/**
 * The runtime's own floor for `fan-out-wire`: a Durable Object in workerd that does nothing but send the same text to all the
 * sockets it holds, and a Worker that does nothing but bridge. A POST sends its body, stamped, to every client.
 */
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { freePort } from "../test/support/server.ts";

const SCRIPT = `import { DurableObject } from "cloudflare:workers";
export class Floor extends DurableObject {
  async fetch(request) {
    if (request.headers.get("upgrade") === "websocket") {
      const { 0: client, 1: server } = new WebSocketPair();
      this.ctx.acceptWebSocket(server);
      server.send("{}");
      return new Response(null, { status: 101, webSocket: client });
    }
    const text = JSON.stringify({ ...(await request.json()), publishedAt: Date.now() });
    for (const socket of this.ctx.getWebSockets()) socket.send(text);
    return new Response(null);
  }
}
const encoder = new TextEncoder();
let latest = { text: "", bytes: null };
function encode(text) {
  if (latest.text !== text) latest = { text, bytes: encoder.encode("event: patch\\ndata: " + text + "\\n\\n") };
  return latest.bytes;
}
export default {
  async fetch(request, env) {
    const object = env.FLOOR.get(env.FLOOR.idFromName("floor"));
    if (request.method === "POST" || request.headers.get("upgrade") === "websocket") return object.fetch(request);
    const { webSocket } = await object.fetch("https://floor/", { headers: { upgrade: "websocket" } });
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    webSocket.addEventListener("message", ({ data }) => void writer.write(encode(data)));
    webSocket.accept();
    return new Response(readable, { headers: { "content-type": "text/event-stream" } });
  },
};`;

export async function startFloor(): Promise<{ port: number; close(): Promise<void> }> {
  const port = await freePort();
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      name: "floor",
      modules: true,
      script: SCRIPT,
      unsafeDirectSockets: [{ host: "127.0.0.1", port }],
      compatibilityDate: "2026-10-23",
      compatibilityFlags: ["no_web_socket_compression"],
      durableObjects: { FLOOR: { className: "Floor", useSQLite: true } },
    }),
  );
  await miniflare.ready;
  return { port, close: () => miniflare.dispose() };
}
