/**
 * A node of the fan-out tree: holds sockets near their clients, forwards deliveries to child relays. It keeps a
 * bounded ring of encoded deliveries and never a ruleset, opens no socket and keeps no timer, so that it can hibernate
 * with its sockets open.
 */
import { DurableObject } from "cloudflare:workers";
import type { HelloMessage } from "@bunting/core/wire";
import type { Env } from "../../workers/env.ts";
import { RECEIPT_LEVEL, RELAY_CHECK_MS, within } from "../../workers/platform/deadline.ts";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import { Alarm } from "../alarm.ts";
import { addKeys, Children, mostUsed } from "../fan-out/children.ts";
import {
  type Backlog,
  type Delivery,
  type DownstreamNode,
  type EnvironmentOccupancy,
  type KeyExpiries,
  mergeMessages,
  type Report,
  resync,
  type UpstreamNode,
} from "../fan-out/delivery.ts";
import { ATTACHMENT_HEADER, RELAYS_HEADER, type SocketHandshake, TOO_MUCH } from "../fan-out/handshake.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import { mergeParts, type ReceiptPart } from "../fan-out/receipt.ts";
import { parseRelayName, type RelayAddress, type RelayCounts, relayName } from "../fan-out/tree.ts";
import { isWorthReporting, type Limits, type Refusal, refusalOf } from "./admission.ts";
import { DeliveryQueue, type QueuedDelivery } from "./delivery-queue.ts";
import { DeliveryStatistics } from "./delivery-statistics.ts";
import { Evictions } from "./evictions.ts";
import { PollCount, type Polls } from "./poll-count.ts";
import { messagesSince } from "./resume.ts";
import { parseAcknowledgement, Sockets } from "./sockets.ts";
import { RelayStorage } from "./storage.ts";
import { Upstream } from "./upstream.ts";

/** How often a relay evicts silent sockets and reports to its parent. */
const MAINTENANCE_MS = 60_000;
/** After this long without contact a relay attaches before it answers: its parent may have lost it. */
const TRUSTED_MS = 30_000;
/** How old the relay count in a full relay's refusal may be. */
const COUNTS_FRESH_MS = 1_000;

export class Relay extends DurableObject<Env> implements UpstreamNode, DownstreamNode {
  readonly #storage: RelayStorage;
  readonly #sockets: Sockets;
  readonly #children: Children;
  readonly #alarm: Alarm;
  readonly #statistics: DeliveryStatistics;
  readonly #polls = new PollCount();
  readonly #queue = new DeliveryQueue();
  readonly #upstream: Upstream;
  readonly #evictions: Evictions;
  /** When an isolate last called `since` (epoch ms), and how many clients were last reported upstream. */
  #lastPollAt = 0;
  #reportedClients = 0;
  #reporting: Promise<void> | null = null;
  #sending: Promise<void> = Promise.resolve();
  #maintainedAt = 0;
  /** Requests for a socket, or to attach, that are still in progress: the relay must not shut down under them. */
  #arriving = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#alarm = new Alarm(ctx);
    this.#storage = new RelayStorage(ctx.storage);
    this.#sockets = new Sockets(ctx);
    this.#children = new Children(ctx, env.RELAY, (inMs) => this.#alarm.wake(inMs));
    this.#statistics = new DeliveryStatistics(this.#storage, this.#sockets);
    this.#upstream = new Upstream(env, this.#storage);
    this.#evictions = new Evictions(this.#sockets, this.#storage, () => this.#limits());
  }

  // Called by the parent.

  /** Sends first and stores afterwards: durability is the hub's job. */
  async deliver(delivery: Delivery, occupancy: EnvironmentOccupancy): Promise<Report> {
    const fits = delivery.previous === (this.#queue.newest ?? this.#storage.revision);
    const sentTo = fits && !this.#children.isEmpty ? this.#children.deliver(delivery, occupancy) : undefined;
    this.#queue.add({ delivery, occupancy, sentTo });
    this.#sending = this.#sending.then(() => this.#sendQueued()).catch(() => {});
    await this.#sending;
    // An attach in progress may have been answered before this delivery was published, and the parent forwards a
    // delivery before it applies it. So a second attach may be needed until the delivery fits or has been applied.
    for (let tries = 0; !this.#applyDelivery(delivery, occupancy) && tries < 2; tries++) await this.#attach();
    this.#storage.setOccupancy(occupancy);
    this.#upstream.lastContactAt = Date.now();
    return this.#report();
  }

  async refresh(): Promise<Report | null> {
    if (this.#storage.revision === null) return null;
    await this.#attach();
    return this.#report();
  }

  async receipt(revision: number, withinMs: number): Promise<ReceiptPart> {
    const own = this.#statistics.part(revision, this.#address().region);
    own.polling = this.#polls.atLeast(revision, Date.now());
    return mergeParts(own, await this.#children.receipt(revision, withinMs * RECEIPT_LEVEL));
  }

  // Called by child relays.

  attach(report: Report): Promise<(Backlog & { occupancy: EnvironmentOccupancy }) | null> {
    return this.#countArrival(async () => {
      if (!(await this.#ensureCurrent(report.revision))) return null;
      this.#children.put(report, this.#storage.revision ?? 0);
      // A child's growth may make the hub add relays: report it first, so that the answer has the new counts.
      if (this.#hasGrown()) await within(this.#reportUpstream(), RELAY_CHECK_MS, "upstream").catch(() => {});
      return { ...(await this.#backlogAfter(report.revision)), occupancy: this.#storage.occupancy };
    });
  }

  async detach(name: string): Promise<void> {
    this.#children.remove(name);
    this.#reportGrowth();
  }

  // Called by Workers; `since` and `snapshot` also by child relays.

  /** The deliveries after an isolate's `revision`, and how many relays there are. Null: no such environment. */
  async since(revision: number, polls: Polls = []): Promise<(Backlog & { relays: RelayCounts }) | null> {
    this.#lastPollAt = Date.now();
    this.#polls.add(polls, this.#lastPollAt);
    if (!(await this.#ensureCurrent(revision))) return null;
    return { ...(await this.#backlogAfter(revision)), relays: this.#storage.occupancy.relays };
  }

  /** The whole ruleset at `revision` or later, where deliveries cannot lead there. Concurrent calls share one read. */
  async snapshot(revision: number): Promise<SnapshotParts | null> {
    return (await this.#ensureCurrent(revision)) ? this.#upstream.snapshot(this.#address(), revision) : null;
  }

  /** Accepts a socket whose credentials the Worker has checked, and sends the deliveries after `?since=`. */
  override fetch(request: Request): Promise<Response> {
    return this.#countArrival(() => this.#acceptSocket(request));
  }

  async #acceptSocket(request: Request): Promise<Response> {
    const handshake = request.headers.get(ATTACHMENT_HEADER);
    if (handshake === null || request.headers.get("upgrade") !== "websocket")
      return new Response(null, { status: 426 });
    const { keyValidAt, ...identity } = JSON.parse(handshake) as SocketHandshake;
    if (!(await this.#ensureCurrent(keyValidAt))) return new Response(null, { status: 404 });
    const parameter = new URL(request.url).searchParams.get("since");
    const since = parameter === null ? null : Number(parameter);
    if (since !== null) await this.#upstream.fill(this.#address(), since);

    // From the check to `accept` nothing is awaited, so that concurrent requests cannot exceed a limit together.
    const refused = refusalOf(identity.keyHash, this.#sockets, this.#storage, this.#limits());
    if (refused !== null) return this.#refuseSocket(refused);
    const revision = this.#storage.revision as number;
    // A key that this relay does not know is new if the Worker is at a later revision; otherwise it was revoked.
    if (keyValidAt <= revision && !this.#storage.isValidKey(identity.keyHash, Date.now())) {
      return new Response(null, { status: 401 });
    }

    const { 0: client, 1: server } = new WebSocketPair();
    const applied = since !== null && since <= revision ? since : 0;
    this.#sockets.accept(server, { ...identity, connectedAt: Date.now(), connectedWith: revision, applied });
    const connected = this.#sockets.count();
    const hello: HelloMessage = { type: "hello", revision, reconnectWithinMs: spreadMs(connected) };
    server.send(JSON.stringify(hello));
    if (since !== null) for (const message of messagesSince(this.#storage, since, connected)) server.send(message);
    this.#reportGrowth();
    return new Response(null, { status: 101, webSocket: client });
  }

  /** A full relay's refusal has the current number of relays, which it reads from the hub at most once a second. */
  async #refuseSocket(reason: Refusal): Promise<Response> {
    const headers = new Headers({ "retry-after": String(Math.ceil(spreadMs(this.#sockets.count()) / 1_000)) });
    if (reason !== "full") return new Response(reason, { status: 429, headers });
    const isOld = Date.now() - this.#upstream.lastContactAt > COUNTS_FRESH_MS;
    if (isOld || this.#reporting !== null)
      await within(this.#reportUpstream(), RELAY_CHECK_MS, "upstream").catch(() => {});
    headers.set(RELAYS_HEADER, String(this.#storage.occupancy.relays[this.#address().region] ?? 1));
    return new Response(reason, { status: 503, headers });
  }

  async #countArrival<T>(arrive: () => Promise<T>): Promise<T> {
    this.#arriving++;
    try {
      return await arrive();
    } finally {
      this.#arriving--;
    }
  }

  // Sockets, also after hibernation.

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    const client = this.#sockets.attachmentOf(socket);
    const acknowledgement = parseAcknowledgement(message);
    // A client cannot have applied a revision that was not sent yet: its claim must not count in receipts.
    const applied = Math.min(acknowledgement?.applied ?? 0, this.#storage.revision ?? 0);
    const now = Date.now();
    if (acknowledgement !== null && applied > client.applied) {
      this.#updateStatistics(() => this.#statistics.recordApplied(client, applied, now - acknowledgement.waitedMs));
      this.#sockets.setApplied(socket, applied);
    } else if (this.#sockets.isFlooding(socket, now)) this.#sockets.close(socket, TOO_MUCH, "too many messages");
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    this.#removeSocket(socket);
    // 1005, 1006 and 1015 are reserved for reporting a close and must not be sent.
    this.#sockets.close(socket, code === 1005 || code === 1006 || code === 1015 ? 1000 : code, "closed");
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.#removeSocket(socket);
    this.#sockets.close(socket, 1011, "error");
  }

  #removeSocket(socket: WebSocket): void {
    this.#sockets.remove(socket);
    this.#updateStatistics(() => this.#statistics.recordDeparture(this.#sockets.attachmentOf(socket)));
  }

  #updateStatistics(change: () => void): void {
    change();
    const now = Date.now();
    const inMs = this.#statistics.saveInMs(now);
    if (inMs === 0) this.#statistics.save(now);
    else if (inMs !== null) this.#alarm.wake(inMs);
  }

  // Background work: one alarm at a time does all of it that is due.

  override async alarm(): Promise<void> {
    this.#alarm.wentOff();
    this.#statistics.save(Date.now());
    this.#evictSlow();
    try {
      const isDue = Date.now() - this.#maintainedAt >= MAINTENANCE_MS / 2;
      await (isDue ? this.#maintain() : this.#children.refresh(this.#storage.revision ?? 0));
    } finally {
      if (this.#storage.revision !== null) this.#alarm.wake(MAINTENANCE_MS);
    }
  }

  /** Evicts silent sockets, attaches to receive what was missed, and shuts the relay down when it is unused. */
  async #maintain(): Promise<void> {
    const now = Date.now();
    this.#maintainedAt = now;
    this.#sockets.recount();
    this.#upstream.clearSnapshot();
    this.#evictions.evictEnded(now);
    const isNeeded = this.#arriving > 0 || this.#sockets.open().length > 0 || !this.#children.isEmpty;
    if (!isNeeded && now - this.#lastPollAt > MAINTENANCE_MS) return this.#shutDown();
    // Children are refreshed in parallel: they must not wait for an upstream that may not answer.
    await Promise.all([this.#children.refresh(this.#storage.revision ?? 0), this.#attach()]);
    this.#evictions.evictExcess();
  }

  async #shutDown(): Promise<void> {
    const left = this.#upstream.detach(this.#address());
    this.#children.reset();
    this.#statistics.reset();
    await this.#storage.deleteAll();
    this.#alarm.wentOff();
    await left;
  }

  // Client counts.

  #limits(): Limits {
    const { RELAY_CAP, CLIENTS_PER_KEY, CLIENTS_PER_ENVIRONMENT } = this.env;
    return { relay: Number(RELAY_CAP), key: Number(CLIENTS_PER_KEY), environment: Number(CLIENTS_PER_ENVIRONMENT) };
  }

  #report(): Report {
    const address = this.#address();
    const { connected, keys } = this.#children.sum();
    const own = this.#sockets.countByKey();
    addKeys(own, Object.entries(keys));
    this.#reportedClients = connected + this.#sockets.openCount;
    const { region } = address;
    const revision = this.#storage.revision ?? 0;
    return { name: relayName(address), region, revision, connected: this.#reportedClients, keys: mostUsed(own) };
  }

  /** Reports early, so that the hub adds relays before the existing ones are full. */
  #reportGrowth(): void {
    if (this.#hasGrown()) this.ctx.waitUntil(this.#reportUpstream());
  }

  /** Reports until upstream has the current count, including clients that arrived during a report. */
  #reportUpstream(): Promise<void> {
    this.#reporting ??= this.#reportUntilSettled();
    return this.#reporting;
  }

  async #reportUntilSettled(): Promise<void> {
    try {
      do await this.#attach();
      while (this.#hasGrown());
    } catch {
      // The next maintenance reports.
    } finally {
      this.#reporting = null;
    }
  }

  #hasGrown(): boolean {
    const connected = this.#children.sum().connected + this.#sockets.openCount;
    return isWorthReporting(this.#reportedClients, connected, Number(this.env.RELAY_CAP));
  }

  // Deliveries.

  /** Sends a delivery that follows the current revision. Returns whether the relay now has that revision. */
  #applyDelivery(delivery: Delivery, occupancy: EnvironmentOccupancy): boolean {
    const { revision } = this.#storage;
    if (delivery.previous === revision) this.#send([{ delivery, occupancy, sentTo: undefined }]);
    return this.#storage.revision !== null && this.#storage.revision >= delivery.revision;
  }

  /** Children come first, in a turn of their own: RPC in one turn with thousands of sends would leave after them. */
  async #sendQueued(): Promise<void> {
    if (!this.#children.isEmpty) await scheduler.wait(0);
    const run = await this.#queue.next(() => this.#storage.revision);
    if (run.length > 0) this.#send(run);
  }

  /** Sends to all children except `sentTo`, then the same bytes to every socket, and closes sockets of revoked keys. */
  #send(run: QueuedDelivery[]): void {
    for (const { delivery, occupancy, sentTo } of run) this.#children.deliver(delivery, occupancy, sentTo);
    let connected = 0;
    for (const one of mergeMessages(run.map(({ delivery }) => delivery))) connected = this.#sockets.sendToAll(one);
    for (const { delivery } of run) {
      this.#evictions.applyKeys(delivery.keys);
      this.#storage.log(delivery);
      this.#statistics.start(delivery.revision, delivery.publishedAt, connected, Date.now());
    }
    this.#queue.setSocketCount(connected);
    this.#evictions.noteSent(run.at(-1)!, Date.now());
    this.#evictSlow();
  }

  #evictSlow(): void {
    const againInMs = this.#evictions.evictSlow(Date.now());
    if (againInMs !== null) this.#alarm.wake(againInMs);
  }

  /** Moves to a revision that deliveries do not lead to: sends a resync, and closes sockets of invalid keys. */
  #skipTo(revision: number, keys: KeyExpiries): void {
    if (this.#storage.revision !== null && revision <= this.#storage.revision) return;
    this.#storage.skipTo(revision, keys);
    this.#evictions.evictRevoked(keys);
    this.#sockets.sendToAll(JSON.stringify(resync(revision, spreadMs(this.#sockets.open().length))));
    this.ctx.waitUntil(this.#children.refresh(revision));
  }

  // Upstream.

  /** Attaches unless the relay is known to be current and has revision `known`. False: there is no such environment. */
  async #ensureCurrent(known: number): Promise<boolean> {
    const { revision } = this.#storage;
    const trusted = Date.now() - this.#upstream.lastContactAt < TRUSTED_MS;
    if (trusted && revision !== null && revision >= known) return true;
    if (revision === null) return this.#attach();
    // Without an upstream, clients are still served the last known revision.
    return within(this.#attach(), RELAY_CHECK_MS, "upstream").catch(() => true);
  }

  async #attach(): Promise<boolean> {
    return this.#upstream.attach(
      this.#address(),
      () => this.#report(),
      ({ revision, deliveries, keys, occupancy }) => {
        // Deliveries may have arrived meanwhile: `#applyDelivery` skips those that no longer fit.
        if (deliveries === null) this.#skipTo(revision, keys ?? {});
        else for (const delivery of deliveries) this.#applyDelivery(delivery, occupancy);
        this.#storage.setOccupancy(occupancy);
        this.#alarm.wake(MAINTENANCE_MS);
      },
    );
  }

  async #backlogAfter(revision: number): Promise<Backlog> {
    await this.#upstream.fill(this.#address(), revision);
    const deliveries = this.#storage.runAfter(revision);
    const latest = this.#storage.revision as number;
    return deliveries === null
      ? { revision: latest, deliveries, keys: this.#storage.keyExpiries() }
      : { revision: latest, deliveries };
  }

  #address(): RelayAddress {
    const { name } = this.ctx.id;
    if (name === undefined) throw new Error("A relay must be addressed by name: use idFromName");
    return parseRelayName(name);
  }
}
