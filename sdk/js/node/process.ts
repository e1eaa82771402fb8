/** A process whose work is done shall end: no connection of a client holds it, and what was counted is sent first. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";

/**
 * By instance. undici, which is Node's fetch and WebSocket, publishes each request as it is sent (documented in its
 * DiagnosticsChannel.md): the only way to the socket. Where no such channel exists (Bun, Deno) an open stream holds the process.
 */
const CHANNEL = "undici:client:sendHeaders";
const open = new Map<string, () => Promise<void>>();

type Sending = { headers?: unknown; socket?: { unref?(): void } };

function releaseSocket(message: unknown): void {
  const { headers, socket } = message as Sending;
  // Events are worth waiting for.
  if (typeof headers !== "string" || headers.startsWith("POST ")) return;
  const instance = /;instance=([0-9a-f-]{36})/.exec(headers)?.[1];
  if (instance !== undefined && open.has(instance)) socket?.unref?.();
}

function closeAll(): void {
  for (const close of [...open.values()]) void close();
}

/** Lets the process end until the returned function is called. `close` is called when the process has nothing else to do. */
export function outlivedBy(instance: string, close: () => Promise<void>): () => void {
  if (open.size === 0) {
    subscribe(CHANNEL, releaseSocket);
    process.on("beforeExit", closeAll);
  }
  open.set(instance, close);
  return () => {
    if (!open.delete(instance) || open.size > 0) return;
    unsubscribe(CHANNEL, releaseSocket);
    process.off("beforeExit", closeAll);
  };
}
