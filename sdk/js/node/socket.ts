import type { Socket } from "../transports/protocol.ts";

/** The second argument is undici's, Bun's and Deno's way to send headers. */
type SocketConstructor = new (url: string, init: { headers: Record<string, string> }) => Socket;

/** The platform's WebSocket, or that of `ws` where there is none: Node has one since 22. */
export function openSocket(url: string, headers: Record<string, string>): Socket | Promise<Socket> {
  const Platform = globalThis.WebSocket as unknown as SocketConstructor | undefined;
  return Platform === undefined ? openWithPackage(url, headers) : new Platform(url, { headers });
}

export async function openWithPackage(url: string, headers: Record<string, string>): Promise<Socket> {
  const { WebSocket } = await import("ws");
  return new WebSocket(url, {
    headers,
    // A process that is done shall not wait for this connection (decision 0014).
    finishRequest(request) {
      request.on("socket", (socket) => socket.unref());
      request.end();
    },
  }) as unknown as Socket;
}
