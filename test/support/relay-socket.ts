/** A client's socket at a relay, opened as the Worker opens it. It keeps the messages that it receives. */

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { ServerMessage } from "@bunting/core/wire";
import { expect, vi } from "vitest";
import { ATTACHMENT_HEADER, type SocketHandshake } from "../../durable-objects/fan-out/handshake.ts";
import { relayName } from "../../durable-objects/fan-out/tree.ts";
import type { Documents, Head } from "../../workers/store/outbox/change.ts";
import { commitDocuments, newEnvironment } from "./environment.ts";

export const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

/** Requests of tests have no location, which counts as eastern North America. */
export const relayOf = (environmentId: string, n = 0) =>
  env.RELAY.get(env.RELAY.idFromName(relayName({ environmentId, region: "enam", n })));

/** An environment with a hub, and a function that publishes a change. */
export async function environmentWithHub() {
  let head: Head = await newEnvironment();
  const { environmentId } = head;
  await hubOf(environmentId).create(environmentId);
  const publish = async (documents: Partial<Documents>) => {
    const next = await commitDocuments(head, documents);
    head = next.head;
    return hubOf(environmentId).publish(next.change);
  };
  return { environmentId, publish };
}

/** Makes a hub or relay unresponsive, as an object is while it is moved, until the returned function is called. */
export async function away(node: ReturnType<typeof hubOf> | ReturnType<typeof relayOf>): Promise<() => Promise<void>> {
  let isBack = false;
  let isAway = false;
  const gone = runInDurableObject(node as DurableObjectStub, async (_, state) => {
    await state.blockConcurrencyWhile(async () => {
      isAway = true;
      while (!isBack) await scheduler.wait(20);
    });
  });
  await vi.waitFor(() => expect(isAway).toBe(true));
  return () => {
    isBack = true;
    return gone;
  };
}

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

  static async open(
    environmentId: string,
    since?: number,
    fields: Partial<SocketHandshake> = {},
    n = 0,
  ): Promise<RelaySocket> {
    const handshake: SocketHandshake = {
      keyHash: "hash",
      // The Worker is ahead of the relay, which therefore accepts the key.
      keyValidAt: Number.MAX_SAFE_INTEGER,
      transport: "socket",
      instance: "i",
      name: "n",
      sdk: "s",
      ...fields,
    };
    const response = await relayOf(environmentId, n).fetch(
      `https://relay/${since === undefined ? "" : `?since=${since}`}`,
      {
        headers: { upgrade: "websocket", [ATTACHMENT_HEADER]: JSON.stringify(handshake) },
      },
    );
    if (response.webSocket === null) throw new Error(`The relay answered ${response.status}`);
    return new RelaySocket(response.webSocket);
  }

  /** The messages so far, as type and revision. */
  get received(): string[] {
    return this.messages.map((message) =>
      "revision" in message ? `${message.type} ${message.revision}` : message.type,
    );
  }

  /** The revision of a client that applies each patch to the previous one. Simultaneous changes may be one patch. */
  get reached(): number {
    return this.messages.reduce((revision, message) => {
      if (message.type === "hello") return message.revision;
      if (message.type !== "patch") return revision;
      if (message.previous !== revision) throw new Error(`${message.previous} was to follow ${revision}`);
      return message.revision;
    }, 0);
  }

  /** The flags as that client has them. */
  get flags(): Record<string, unknown> {
    return Object.assign({}, ...this.messages.map((message) => (message.type === "patch" ? message.flags : {})));
  }
}
