/** A client of a relay as the Worker introduces it, remembering what it was sent. */

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { ServerMessage } from "@bunting/core/wire";
import { expect, vi } from "vitest";
import { ATTACHMENT_HEADER, type Introduction } from "../../durable-objects/fan-out/handshake.ts";
import { relayName } from "../../durable-objects/fan-out/tree.ts";
import type { Documents, Head } from "../../workers/store/outbox/change.ts";
import { commitDocuments, newEnvironment } from "./environment.ts";

export const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

/** Requests of tests come from nowhere, which counts as eastern North America. */
export const relayOf = (environmentId: string, n = 0) =>
  env.RELAY.get(env.RELAY.idFromName(relayName({ environmentId, region: "enam", n })));

/** An environment whose hub is there, and how to change it. */
export async function livingEnvironment() {
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

/** The hub or relay does not answer until what this returns is called, as an object that is being moved. */
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
    fields: Partial<Introduction> = {},
    n = 0,
  ): Promise<RelaySocket> {
    const introduction: Introduction = {
      keyHash: "hash",
      // From a Worker that has seen more than the relay, which takes its word for the key.
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

  /** Where a client is that applies each patch on top of the one before: changes that come together may be one patch. */
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
