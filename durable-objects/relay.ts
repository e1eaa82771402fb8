/**
 * Holds sockets: a leaf of the fan-out tree, near its clients. It keeps a bounded ring of encoded deliveries and never a
 * ruleset, opens no socket and keeps no timer, so that between changes it hibernates with its sockets open.
 */
import { DurableObject } from "cloudflare:workers";
import { type AppliedMessage, type HelloMessage, PING, PONG, SILENCE_SECONDS } from "@bunting/core/wire";
import { RELAY_CHECK_MS, within } from "../workers/deadline.ts";
import type { Env } from "../workers/env.ts";
import { type Delivery, resync, runAfter, type Since, spreadMs } from "./delivery.ts";

/** Rides on each socket through hibernation (at most 16 KB). `applied` is what the client has acknowledged. */
type Attachment = {
  /** Hash and end of the SDK key that it came with. */
  keyHash: string;
  keyExpiresAt: number | null;
  transport: "socket" | "sse";
  instance: string;
  name: string;
  sdk: string;
  connectedAt: number;
  /** Where the relay was then: whatever came after it, this socket was sent. */
  connectedWith: number;
  applied: number;
};

/** What the Worker tells of a socket: also the revision at which it found the key good, for it may be a second behind. */
export type Introduction = Omit<Attachment, "connectedAt" | "connectedWith" | "applied"> & { keyGoodAt: number };

/** How the Worker introduces a socket, in the header of that name. */
export const ATTACHMENT_HEADER = "x-bunting-attachment";

export type RelayReceipt = { connected: number; applied: number; delivered: number; gone: number };

/** Close codes of ours, beside the standard ones. */
export const KEY_REVOKED = 4401;
const SILENT = 4408;

const RING_BYTES = 1024 * 1024;
const REAP_EVERY_MS = 60_000;
/** A relay that has heard nothing for this long asks before it answers: its hub may have forgotten it. */
const TRUSTED_MS = 30_000;

export class Relay extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  /** Null until attached. */
  #revision: number | null;
  #ringBytes: number;
  #heardAt = 0;
  #attaching: Promise<boolean> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(
      `CREATE TABLE IF NOT EXISTS ring
       (revision INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, connected INTEGER NOT NULL, delivery TEXT NOT NULL);
       CREATE TABLE IF NOT EXISTS keys (hash TEXT PRIMARY KEY) WITHOUT ROWID`,
    );
    this.#revision = ctx.storage.kv.get<number>("position") ?? null;
    this.#ringBytes = this.#sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM ring").one().bytes;
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
  }

  // What the hub calls.

  /** Sends first and stores after: only the hub must be durable before it speaks. */
  async deliver(delivery: Delivery): Promise<{ revision: number; connected: number }> {
    // An attach that was under way may have been answered before this was published: then another.
    for (let asked = 0; asked < 2 && !this.#take(delivery); asked++) await this.#attach();
    this.#heardAt = Date.now();
    return { revision: this.#revision ?? 0, connected: this.#open().length };
  }

  /** What became of the sockets that were open when `revision` was delivered here. */
  async receipt(revision: number): Promise<RelayReceipt> {
    const [row] = this.#sql.exec<{ connected: number }>("SELECT connected FROM ring WHERE revision = ?", revision);
    const then = this.#open()
      .map(attachmentOf)
      .filter(({ connectedWith }) => connectedWith < revision);
    const reached = (this.#revision ?? 0) >= revision;
    const connected = Math.max(row?.connected ?? 0, then.length);
    return {
      connected,
      applied: then.filter(({ applied }) => applied >= revision).length,
      delivered: reached ? then.filter(({ transport }) => transport === "sse").length : 0,
      gone: connected - then.length,
    };
  }

  // What Workers call.

  /** What an isolate that has `revision` lacks. Null: no such environment. */
  async since(revision: number): Promise<Since | null> {
    if (!(await this.#current(revision))) return null;
    const latest = this.#revision as number;
    return { revision: latest, deliveries: runAfter(this.#ringAfter(revision), revision, latest) };
  }

  /** Takes a socket whose credentials the Worker has checked. `?since=` asks for what the client lacks. */
  override async fetch(request: Request): Promise<Response> {
    const introduction = request.headers.get(ATTACHMENT_HEADER);
    if (introduction === null || request.headers.get("upgrade") !== "websocket")
      return new Response(null, { status: 426 });
    if (this.ctx.getWebSockets().length >= Number(this.env.RELAY_CAP)) return new Response(null, { status: 503 });
    const { keyGoodAt, ...introduced } = JSON.parse(introduction) as Introduction;
    if (!(await this.#current(keyGoodAt))) return new Response(null, { status: 404 });
    const since = new URL(request.url).searchParams.get("since");
    const wanted = since === null ? null : Number(since);
    const older = wanted === null ? null : await this.#olderThanRing(wanted);

    const revision = this.#revision as number;
    // A key that the relay does not have is new, if the Worker has seen more than the relay has; else it has ended.
    if (keyGoodAt <= revision && !this.#isGood(introduced.keyHash)) return new Response(null, { status: 401 });

    const { 0: client, 1: server } = new WebSocketPair();
    const attachment: Attachment = { ...introduced, connectedAt: Date.now(), connectedWith: revision, applied: 0 };
    this.ctx.acceptWebSocket(server, [attachment.keyHash]);
    server.serializeAttachment(attachment);
    const connected = this.ctx.getWebSockets().length;
    const hello: HelloMessage = { type: "hello", revision, reconnectWithinMs: spreadMs(connected) };
    server.send(JSON.stringify(hello));
    if (wanted !== null && wanted !== revision) {
      const run = runAfter([...(older ?? []), ...this.#ringAfter(older?.at(-1)?.revision ?? wanted)], wanted, revision);
      if (run === null) server.send(JSON.stringify(resync(revision, connected)));
      else for (const { message } of run) server.send(message);
    }
    await this.#armReaper();
    return new Response(null, { status: 101, webSocket: client });
  }

  // Sockets, also after hibernation.

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    const applied = appliedIn(message);
    if (applied === null) return;
    const attachment = attachmentOf(socket);
    // Nobody has applied what was not yet sent: a receipt must not be had by claiming it.
    const known = Math.min(applied, this.#revision ?? 0);
    if (known > attachment.applied) socket.serializeAttachment({ ...attachment, applied: known });
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    // 1005, 1006 and 1015 say how a close was seen and cannot be sent.
    closeQuietly(socket, code === 1005 || code === 1006 || code === 1015 ? 1000 : code, "closed");
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    closeQuietly(socket, 1011, "error");
  }

  /** Cuts sockets that have been silent too long and asks the hub whether anything was missed. */
  override async alarm(): Promise<void> {
    try {
      const now = Date.now();
      for (const socket of this.#open()) {
        const heard = this.ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? 0;
        const { connectedAt, keyExpiresAt } = attachmentOf(socket);
        if (now - Math.max(heard, connectedAt) > SILENCE_SECONDS * 1_000) closeQuietly(socket, SILENT, "silent");
        else if (keyExpiresAt !== null && keyExpiresAt <= now) closeQuietly(socket, KEY_REVOKED, "key-expired");
      }
      await this.#attach();
    } finally {
      if (this.#open().length > 0) await this.#armReaper();
    }
  }

  async #armReaper(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + REAP_EVERY_MS);
  }

  // The ring.

  /** Passes on what fits on top of what every socket has. Whether the relay has it now. */
  #take(delivery: Delivery): boolean {
    if (delivery.previous === this.#revision) this.#pass(delivery);
    return this.#revision !== null && this.#revision >= delivery.revision;
  }

  /** The same bytes to all sockets, and keys that ended take theirs along. */
  #pass(delivery: Delivery): void {
    const sockets = this.#open();
    for (const socket of sockets) sendQuietly(socket, delivery.message);
    this.#changeKeys(delivery.keys);
    const text = JSON.stringify(delivery);
    this.#sql.exec(
      "INSERT OR REPLACE INTO ring VALUES (?, ?, ?, ?)",
      delivery.revision,
      text.length,
      sockets.length,
      text,
    );
    this.#ringBytes += text.length;
    while (this.#ringBytes > RING_BYTES) {
      const [oldest] = this.#sql.exec<{ bytes: number }>(
        "DELETE FROM ring WHERE revision = (SELECT min(revision) FROM ring) RETURNING bytes",
      );
      if (oldest === undefined) break;
      this.#ringBytes -= oldest.bytes;
    }
    this.#moveTo(delivery.revision);
  }

  #ringAfter(revision: number): Delivery[] {
    return this.#sql
      .exec<{ delivery: string }>("SELECT delivery FROM ring WHERE revision > ? ORDER BY revision", revision)
      .toArray()
      .map((row) => JSON.parse(row.delivery) as Delivery);
  }

  /** What the ring no longer has and the hub's log may: the run from `revision` to where the relay is. */
  async #olderThanRing(revision: number): Promise<Delivery[] | null> {
    if (revision === this.#revision || runAfter(this.#ringAfter(revision), revision, this.#revision ?? 0) !== null)
      return null;
    const answer = await within(this.#hub().since(revision), RELAY_CHECK_MS, "hub").catch(() => null);
    return answer?.deliveries ?? null;
  }

  #moveTo(revision: number): void {
    this.#revision = revision;
    this.ctx.storage.kv.put("position", revision);
  }

  // Upstream.

  /** Whether this relay knows where its environment stands; false where there is none. `known` is what the asker has. */
  async #current(known: number): Promise<boolean> {
    const trusted = Date.now() - this.#heardAt < TRUSTED_MS;
    if (trusted && this.#revision !== null && this.#revision >= known) return true;
    if (this.#revision === null) return this.#attach();
    // A hub that does not answer is no reason to turn clients away.
    return within(this.#attach(), RELAY_CHECK_MS, "hub").catch(() => true);
  }

  /** Tells the hub how far this relay is and takes what it lacks. One at a time, for all who ask. */
  #attach(): Promise<boolean> {
    this.#attaching ??= this.#askHub().finally(() => {
      this.#attaching = null;
    });
    return this.#attaching;
  }

  async #askHub(): Promise<boolean> {
    const name = this.#name();
    const region = name.split(":")[2] as string;
    const since = await this.#hub().attach({ name, region, revision: this.#revision ?? 0 }, this.#open().length);
    if (since === null) return false;
    this.#heardAt = Date.now();
    // A delivery may have passed meanwhile: only what still fits on top is taken.
    if (since.deliveries === null) this.#leapTo(since.revision, since.keys ?? []);
    else for (const delivery of since.deliveries) this.#take(delivery);
    return true;
  }

  /** The hub cannot tell what lies between: every socket fetches the ruleset, if its key is still good. */
  #leapTo(revision: number, keys: string[]): void {
    if (this.#revision !== null && revision <= this.#revision) return;
    this.#sql.exec("DELETE FROM keys");
    for (const hash of keys) this.#sql.exec("INSERT OR IGNORE INTO keys VALUES (?)", hash);
    const good = new Set(keys);
    for (const socket of this.#open()) {
      if (!good.has(attachmentOf(socket).keyHash)) closeQuietly(socket, KEY_REVOKED, "key-revoked");
    }
    const sockets = this.#open();
    const message = JSON.stringify(resync(revision, sockets.length));
    for (const socket of sockets) sendQuietly(socket, message);
    this.#sql.exec("DELETE FROM ring");
    this.#ringBytes = 0;
    this.#moveTo(revision);
  }

  #hub() {
    const environmentId = this.#name().split(":")[1] as string;
    return this.env.HUB.get(this.env.HUB.idFromName(environmentId));
  }

  /** `relay:<environment>:<region>:<n>`. */
  #name(): string {
    const name = this.ctx.id.name;
    if (name === undefined) throw new Error("A relay is addressed by name");
    return name;
  }

  #open(): WebSocket[] {
    // getWebSockets also returns sockets that are closing.
    return this.ctx.getWebSockets().filter((socket) => socket.readyState === WebSocket.OPEN);
  }

  #isGood(keyHash: string): boolean {
    return this.#sql.exec("SELECT 1 FROM keys WHERE hash = ?", keyHash).toArray().length > 0;
  }

  /** A key dies on open sockets as fast as a flag changes. */
  #changeKeys(keys: Delivery["keys"]): void {
    for (const [hash, grant] of Object.entries(keys)) {
      if (grant !== null) {
        this.#sql.exec("INSERT OR IGNORE INTO keys VALUES (?)", hash);
        continue;
      }
      this.#sql.exec("DELETE FROM keys WHERE hash = ?", hash);
      for (const socket of this.ctx.getWebSockets(hash)) closeQuietly(socket, KEY_REVOKED, "key-revoked");
    }
  }
}

function attachmentOf(socket: WebSocket): Attachment {
  return socket.deserializeAttachment() as Attachment;
}

/** Clients say nothing else; whatever is not this is ignored. */
function appliedIn(message: string | ArrayBuffer): number | null {
  if (typeof message !== "string" || message.length > 64) return null;
  try {
    const { applied } = JSON.parse(message) as Partial<AppliedMessage>;
    return Number.isSafeInteger(applied) ? (applied as number) : null;
  } catch {
    return null;
  }
}

function sendQuietly(socket: WebSocket, message: string): void {
  try {
    socket.send(message);
  } catch {
    // Closed between listing and sending: its close event tells.
  }
}

function closeQuietly(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(code, reason);
  } catch {
    // Already closed.
  }
}
