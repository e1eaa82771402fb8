/** The sockets of a relay: they outlive its memory, and what is known of each rides on it through hibernation. */
import { type AppliedMessage, PING, PONG } from "@bunting/core/wire";
import { type Bucket, takeFrom } from "../../workers/platform/token-bucket.ts";
import type { Attachment } from "../fan-out/handshake.ts";

/** Messages that tell nothing new: an honest client sends one after a reconnect, and each one wakes the relay. */
const IDLE_TALK = { perSecond: 1 / 60, burst: 20 };

export class Sockets {
  readonly #ctx: DurableObjectState;
  /** Read once between two hibernations. */
  readonly #attachments = new WeakMap<WebSocket, Attachment>();
  readonly #talk = new WeakMap<WebSocket, Bucket>();
  /** By SDK key; null until somebody asks. The runtime makes a list of all each time: too slow for each that comes. */
  #held: Map<string, Set<WebSocket>> | null = null;
  /** Those of `held` that were told to close and have not answered. */
  readonly #closing = new Set<WebSocket>();

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
  }

  accept(socket: WebSocket, attachment: Attachment): void {
    this.#ctx.acceptWebSocket(socket, [attachment.keyHash]);
    this.#attach(socket, attachment);
    this.#held?.set(attachment.keyHash, (this.#held.get(attachment.keyHash) ?? new Set()).add(socket));
  }

  /** Those that are closing count: they still cost. */
  count(keyHash?: string): number {
    const held = this.#allHeld();
    if (keyHash !== undefined) return held.get(keyHash)?.size ?? 0;
    return [...held.values()].reduce((sum, { size }) => sum + size, 0);
  }

  get openCount(): number {
    return this.count() - this.#closing.size;
  }

  /** Those that are open, of each key. */
  byKey(): Map<string, number> {
    const counts = new Map([...this.#allHeld()].map(([keyHash, { size }]) => [keyHash, size]));
    for (const socket of this.#closing) {
      const { keyHash } = this.of(socket);
      counts.set(keyHash, (counts.get(keyHash) ?? 0) - 1);
    }
    return new Map([...counts].filter(([, count]) => count > 0));
  }

  /** Without asking each for its state: of ten thousand, that is ten milliseconds. */
  open(keyHash?: string): WebSocket[] {
    const held = this.#allHeld();
    const sets = keyHash === undefined ? [...held.values()] : [held.get(keyHash) ?? []];
    const sockets = sets.flatMap((ofKey) => [...ofKey]);
    return this.#closing.size === 0 ? sockets : sockets.filter((socket) => !this.#closing.has(socket));
  }

  close(socket: WebSocket, code: number, reason: string): void {
    if (this.#held?.get(this.of(socket).keyHash)?.has(socket)) this.#closing.add(socket);
    try {
      socket.close(code, reason);
    } catch {
      // Already closed.
    }
  }

  left(socket: WebSocket): void {
    this.#held?.get(this.of(socket).keyHash)?.delete(socket);
    this.#closing.delete(socket);
  }

  /** In case the runtime did not tell of one that left. */
  recount(): void {
    this.#held = null;
  }

  #allHeld(): Map<string, Set<WebSocket>> {
    if (this.#held === null) {
      // Also those that are closing.
      const sockets = this.#ctx.getWebSockets();
      // Each is tagged with it: just woken, that is sooner told than read from what rides on the socket.
      const byKey = Map.groupBy(sockets, (socket) => this.#ctx.getTags(socket)[0] as string);
      this.#held = new Map([...byKey].map(([keyHash, ofKey]) => [keyHash, new Set(ofKey)]));
      this.#closing.clear();
      for (const socket of sockets) if (socket.readyState !== WebSocket.OPEN) this.#closing.add(socket);
    }
    return this.#held;
  }

  of(socket: WebSocket): Attachment {
    const known = this.#attachments.get(socket) ?? (socket.deserializeAttachment() as Attachment);
    this.#attachments.set(socket, known);
    return known;
  }

  hasApplied(socket: WebSocket, applied: number): void {
    this.#attach(socket, { ...this.of(socket), applied });
  }

  /** When it last gave a sign of life. Epoch ms. */
  heardAt(socket: WebSocket): number {
    return Math.max(this.#ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? 0, this.of(socket).connectedAt);
  }

  /** Whether a message that told nothing was one too many. */
  isFlooding(socket: WebSocket, now: number): boolean {
    const { bucket, allowed } = takeFrom(this.#talk.get(socket) ?? null, 1, IDLE_TALK, now);
    this.#talk.set(socket, bucket);
    return !allowed;
  }

  /** The same bytes to all that are open; how many they were. Just woken, it does not first read who they are. */
  sendToAll(message: string): number {
    let sent = 0;
    for (const sockets of this.#held?.values() ?? [this.#ctx.getWebSockets()]) {
      for (const socket of sockets) if (send(socket, message)) sent++;
    }
    return sent;
  }

  #attach(socket: WebSocket, attachment: Attachment): void {
    socket.serializeAttachment(attachment);
    this.#attachments.set(socket, attachment);
  }
}

/** Clients say nothing else; `waitedMs` is how long the acknowledgement was held back. */
export function acknowledgementIn(message: string | ArrayBuffer): { applied: number; waitedMs: number } | null {
  if (typeof message !== "string" || message.length > 64) return null;
  try {
    const { applied, waitedMs } = JSON.parse(message) as Partial<AppliedMessage>;
    if (!Number.isSafeInteger(applied)) return null;
    return { applied: applied as number, waitedMs: Number.isFinite(waitedMs) ? Math.max(0, waitedMs as number) : 0 };
  } catch {
    return null;
  }
}

/** Whether it was open. Asking each one beforehand costs more than the few that throw. */
export function send(socket: WebSocket, message: string): boolean {
  try {
    socket.send(message);
    return true;
  } catch {
    // Closed: its close event tells.
    return false;
  }
}
