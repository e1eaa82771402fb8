/** Just enough of HTTP and WebSocket for a client that is one TCP socket. */
import { randomBytes } from "node:crypto";

/** One text frame from a client: masked, as RFC 6455 asks (5.3), here with a mask of zeros. */
export function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}

export function opening(kind: "websocket" | "sse", path: string, headers: Record<string, string>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const upgrade =
    kind === "websocket"
      ? `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n`
      : "Accept: text/event-stream\r\n";
  return `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${upgrade}${lines.join("")}\r\n`;
}

export function statusOf(answer: Buffer): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer.toString("latin1", 0, 12))?.[1] ?? 0);
}
