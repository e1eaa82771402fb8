/**
 * A relay's sockets. They outlive its memory: what it knows of each is in the socket's attachment, which survives
 * hibernation.
 */
import { type AppliedMessage, PING, PONG } from "@bunting/core/wire";
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Attachment } from "../fan-out/handshake.ts";

/** Messages without a new acknowledgement. Each one wakes the relay; a correct client sends one after a reconnect. */
const IDLE_MESSAGES = { perSecond: 1 / 60, burst: 20 };

export class Sockets {
  readonly #ctx: DurableObjectState;
  /** A cache: deserializing an attachment costs time for each socket. */
  readonly #attachments = new WeakMap<WebSocket, Attachment>();
  readonly #idleMessages = new WeakMap<WebSocket, Bucket>();
  /**
   * By SDK key, null until needed. `getWebSockets` builds a list of all sockets each time: too slow for every
   * connection.
   */
  #byKey: Map<string, Set<WebSocket>> | null = null;
  /** Sockets in `#byKey` that were closed from here and have not answered. */
  readonly #closing = new Set<WebSocket>();

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
  }

  accept(socket: WebSocket, attachment: Attachment): void {
    this.#ctx.acceptWebSocket(socket, [attachment.keyHash]);
    this.#attach(socket, attachment);
    this.#byKey?.set(attachment.keyHash, (this.#byKey.get(attachment.keyHash) ?? new Set()).add(socket));
  }

  /** Sockets that are closing count: they still use memory. */
  count(keyHash?: string): number {
    const byKey = this.#socketsByKey();
    if (keyHash !== undefined) return byKey.get(keyHash)?.size ?? 0;
    return [...byKey.values()].reduce((sum, { size }) => sum + size, 0);
  }

  get openCount(): number {
    return this.count() - this.#closing.size;
  }

  /** How many sockets of each key are open. */
  countByKey(): Map<string, number> {
    const counts = new Map([...this.#socketsByKey()].map(([keyHash, { size }]) => [keyHash, size]));
    for (const socket of this.#closing) {
      const { keyHash } = this.attachmentOf(socket);
      counts.set(keyHash, (counts.get(keyHash) ?? 0) - 1);
    }
    return new Map([...counts].filter(([, count]) => count > 0));
  }

  /** Does not read `readyState`, which takes ten milliseconds for ten thousand sockets. */
  open(keyHash?: string): WebSocket[] {
    const byKey = this.#socketsByKey();
    const sets = keyHash === undefined ? [...byKey.values()] : [byKey.get(keyHash) ?? []];
    const sockets = sets.flatMap((ofKey) => [...ofKey]);
    return this.#closing.size === 0 ? sockets : sockets.filter((socket) => !this.#closing.has(socket));
  }

  close(socket: WebSocket, code: number, reason: string): void {
    if (this.#byKey?.get(this.attachmentOf(socket).keyHash)?.has(socket)) this.#closing.add(socket);
    try {
      socket.close(code, reason);
    } catch {
      // Already closed.
    }
  }

  remove(socket: WebSocket): void {
    this.#byKey?.get(this.attachmentOf(socket).keyHash)?.delete(socket);
    this.#closing.delete(socket);
  }

  /** Corrects the counts where the runtime did not deliver a close event. */
  recount(): void {
    this.#byKey = null;
  }

  #socketsByKey(): Map<string, Set<WebSocket>> {
    if (this.#byKey === null) {
      const sockets = this.#ctx.getWebSockets();
      // The key's hash is the socket's tag, which is cheaper to read after a wake than the attachment.
      const byKey = Map.groupBy(sockets, (socket) => this.#ctx.getTags(socket)[0] as string);
      this.#byKey = new Map([...byKey].map(([keyHash, ofKey]) => [keyHash, new Set(ofKey)]));
      this.#closing.clear();
      for (const socket of sockets) if (socket.readyState !== WebSocket.OPEN) this.#closing.add(socket);
    }
    return this.#byKey;
  }

  attachmentOf(socket: WebSocket): Attachment {
    const known = this.#attachments.get(socket) ?? (socket.deserializeAttachment() as Attachment);
    this.#attachments.set(socket, known);
    return known;
  }

  setApplied(socket: WebSocket, applied: number): void {
    this.#attach(socket, { ...this.attachmentOf(socket), applied });
  }

  /** When it last sent a ping, or connected. Epoch ms. */
  lastSeenAt(socket: WebSocket): number {
    return Math.max(
      this.#ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? 0,
      this.attachmentOf(socket).connectedAt,
    );
  }

  /** Counts an idle message. Returns whether it exceeds the limit. */
  isFlooding(socket: WebSocket, now: number): boolean {
    const { bucket, allowed } = takeFrom(this.#idleMessages.get(socket) ?? null, 1, IDLE_MESSAGES, now);
    this.#idleMessages.set(socket, bucket);
    return !allowed;
  }

  /** Sends to all open sockets and returns how many. After a wake it sends without first grouping sockets by key. */
  sendToAll(message: string): number {
    let sent = 0;
    for (const sockets of this.#byKey?.values() ?? [this.#ctx.getWebSockets()]) {
      for (const socket of sockets) if (trySend(socket, message)) sent++;
    }
    return sent;
  }

  #attach(socket: WebSocket, attachment: Attachment): void {
    socket.serializeAttachment(attachment);
    this.#attachments.set(socket, attachment);
  }
}

/** Null: not an acknowledgement, the only message that clients send. `waitedMs` is how long the client delayed it. */
export function parseAcknowledgement(message: string | ArrayBuffer): { applied: number; waitedMs: number } | null {
  if (typeof message !== "string" || message.length > 64) return null;
  try {
    const { applied, waitedMs } = JSON.parse(message) as Partial<AppliedMessage>;
    if (!Number.isSafeInteger(applied)) return null;
    return { applied: applied as number, waitedMs: Number.isFinite(waitedMs) ? Math.max(0, waitedMs as number) : 0 };
  } catch {
    return null;
  }
}

/** Returns whether the socket was open. Reading `readyState` of each costs more than the few that throw. */
export function trySend(socket: WebSocket, message: string): boolean {
  try {
    socket.send(message);
    return true;
  } catch {
    // Closed: its close event follows.
    return false;
  }
}
