/** A client of a relay as the Worker introduces it, remembering what it was sent. */

import { env } from "cloudflare:workers";
import type { ServerMessage } from "@bunting/core/wire";
import { ATTACHMENT_HEADER, type Introduction } from "../../durable-objects/sockets.ts";

export const relayOf = (environmentId: string) => env.RELAY.get(env.RELAY.idFromName(`relay:${environmentId}:enam:0`));

export class RelaySocket {
  readonly messages: ServerMessage[] = [];
  closed: { code: number; reason: string } | null = null;
  readonly socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (data !== "pong") this.messages.push(JSON.parse(data as string));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.closed = { code, reason };
    });
    socket.accept();
  }

  static async open(environmentId: string, since?: number, fields: Partial<Introduction> = {}): Promise<RelaySocket> {
    const introduction: Introduction = {
      keyHash: "hash",
      // From a Worker that has seen more than the relay, which takes its word for the key.
      keyGoodAt: Number.MAX_SAFE_INTEGER,
      keyExpiresAt: null,
      transport: "socket",
      instance: "i",
      name: "n",
      sdk: "s",
      ...fields,
    };
    const response = await relayOf(environmentId).fetch(
      `https://relay/${since === undefined ? "" : `?since=${since}`}`,
      {
        headers: { upgrade: "websocket", [ATTACHMENT_HEADER]: JSON.stringify(introduction) },
      },
    );
    if (response.webSocket === null) throw new Error(`The relay answered ${response.status}`);
    return new RelaySocket(response.webSocket);
  }

  /** The revisions told so far, by type of message. */
  get told(): string[] {
    return this.messages.map((message) =>
      "revision" in message ? `${message.type} ${message.revision}` : message.type,
    );
  }
}
