/**
 * A node of the fan-out tree: holds sockets near their clients, and passes on to relays below. It keeps a bounded ring of
 * encoded deliveries and never a ruleset, opens no socket and keeps no timer, so that between changes it hibernates with
 * its sockets open.
 */
import { DurableObject } from "cloudflare:workers";
import type { HelloMessage } from "@bunting/core/wire";
import type { Env } from "../../workers/env.ts";
import { RECEIPT_LEVEL, RELAY_CHECK_MS, within } from "../../workers/platform/deadline.ts";
import type { SnapshotParts } from "../../workers/store/kv-snapshot.ts";
import { Alarm } from "../alarm.ts";
import { addKeys, Children, mostUsed } from "../fan-out/children.ts";
import {
  type Delivery,
  type Downstream,
  type KeyEnds,
  mergeMessages,
  type Report,
  resync,
  type Since,
  type Standing,
  type Upstream,
} from "../fan-out/delivery.ts";
import { ATTACHMENT_HEADER, type Introduction, RELAYS_HEADER, TOO_MUCH } from "../fan-out/handshake.ts";
import { spreadMs } from "../fan-out/pacing.ts";
import { merge, type Part } from "../fan-out/receipt.ts";
import { type Place, placeOf, type RelayCounts, relayName } from "../fan-out/tree.ts";
import { Crowd } from "./admission.ts";
import { DeliveryQueue, type QueuedDelivery } from "./delivery-queue.ts";
import { Tallies } from "./delivery-statistics.ts";
import { type Limits, worthReporting } from "./occupancy.ts";
import { PollCount, type Polls } from "./poll-count.ts";
import { acknowledgementIn, Sockets } from "./sockets.ts";
import { RelayStorage } from "./storage.ts";
import { Above } from "./upstream.ts";

/** How often the silent are looked for, and the node above is told how this one is. */
const ROUND_MS = 60_000;
/** Whoever has heard nothing for this long asks before it answers: the node above may have forgotten it. */
const TRUSTED_MS = 30_000;
/** How old the number of relays may be that a full one tells. */
const FULL_ASKS_MS = 1_000;

export class Relay extends DurableObject<Env> implements Upstream, Downstream {
  readonly #storage: RelayStorage;
  readonly #sockets: Sockets;
  readonly #children: Children;
  readonly #alarm: Alarm;
  readonly #tallies: Tallies;
  readonly #polls = new PollCount();
  readonly #queue = new DeliveryQueue();
  readonly #above: Above;
  readonly #crowd: Crowd;
  /** When an isolate last asked, and how many clients were last reported. */
  #askedAt = 0;
  #reported = 0;
  #telling: Promise<void> | null = null;
  #passing: Promise<void> = Promise.resolve();
  #roundAt = 0;
  /** Who has come and not yet been let in: until then the relay may not leave. */
  #arriving = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#alarm = new Alarm(ctx);
    this.#storage = new RelayStorage(ctx.storage);
    this.#sockets = new Sockets(ctx);
    this.#children = new Children(ctx, env.RELAY, (inMs) => this.#alarm.wake(inMs));
    this.#tallies = new Tallies(this.#storage, this.#sockets);
    this.#above = new Above(env, this.#storage);
    this.#crowd = new Crowd(this.#sockets, this.#storage, () => this.#limits());
  }

  // What the node above calls.

  /** Sends first and stores after: only the hub must be durable before it speaks. */
  async deliver(delivery: Delivery, standing: Standing): Promise<Report> {
    const fits = delivery.previous === (this.#queue.newest ?? this.#storage.revision);
    const sentTo = fits && !this.#children.isEmpty ? this.#children.deliver(delivery, standing) : undefined;
    this.#queue.add({ delivery, standing, sentTo });
    this.#passing = this.#passing.then(() => this.#passQueued()).catch(() => {});
    await this.#passing;
    // An attach that was under way may have been answered before this was published: then another, after which it fits if
    // it is not there already: the node above may have passed it on before taking it.
    for (let asked = 0; !this.#take(delivery, standing) && asked < 2; asked++) await this.#attach();
    this.#storage.stand(standing);
    this.#above.heardAt = Date.now();
    return this.#report();
  }

  async refresh(): Promise<Report | null> {
    if (this.#storage.revision === null) return null;
    await this.#attach();
    return this.#report();
  }

  async receipt(revision: number, withinMs: number): Promise<Part> {
    const own = this.#tallies.part(revision, this.#place().region);
    own.polling = this.#polls.atLeast(revision, Date.now());
    return merge(own, await this.#children.receipt(revision, withinMs * RECEIPT_LEVEL));
  }

  // What relays below call.

  attach(report: Report): Promise<(Since & { standing: Standing }) | null> {
    return this.#arrival(async () => {
      if (!(await this.#current(report.revision))) return null;
      this.#children.put(report, this.#storage.revision ?? 0);
      // Who has grown is answered with what the hub makes of that.
      if (this.#hasGrown()) await within(this.#tell(), RELAY_CHECK_MS, "upstream").catch(() => {});
      return { ...(await this.#lackedBy(report.revision)), standing: this.#storage.standing };
    });
  }

  async detach(name: string): Promise<void> {
    this.#children.remove(name);
    this.#reportGrowth();
  }

  // What Workers call, and the first two also relays below.

  /** What an isolate that has `revision` lacks, and how many relays there are. Null: no such environment. */
  async since(revision: number, polls: Polls = []): Promise<(Since & { relays: RelayCounts }) | null> {
    this.#askedAt = Date.now();
    this.#polls.add(polls, this.#askedAt);
    if (!(await this.#current(revision))) return null;
    return { ...(await this.#lackedBy(revision)), relays: this.#storage.standing.relays };
  }

  /** The whole ruleset, where it cannot be told what came after `revision`: one read from above, whoever asks. */
  async snapshot(revision: number): Promise<SnapshotParts | null> {
    return (await this.#current(revision)) ? this.#above.snapshot(this.#place(), revision) : null;
  }

  /** Takes a socket whose credentials the Worker has checked. `?since=` asks for what the client lacks. */
  override fetch(request: Request): Promise<Response> {
    return this.#arrival(() => this.#welcome(request));
  }

  async #welcome(request: Request): Promise<Response> {
    const introduction = request.headers.get(ATTACHMENT_HEADER);
    if (introduction === null || request.headers.get("upgrade") !== "websocket")
      return new Response(null, { status: 426 });
    const { keyGoodAt, ...introduced } = JSON.parse(introduction) as Introduction;
    if (!(await this.#current(keyGoodAt))) return new Response(null, { status: 404 });
    const since = new URL(request.url).searchParams.get("since");
    const wanted = since === null ? null : Number(since);
    if (wanted !== null) await this.#above.fill(this.#place(), wanted);

    // From here to the socket nothing is awaited: whoever else comes meanwhile finds its place taken.
    const refused = this.#crowd.refusal(introduced.keyHash);
    if (refused !== null) return this.#refuse(refused);
    const revision = this.#storage.revision as number;
    // A key that the relay does not have is new, if the Worker has seen more than the relay has; else it has ended.
    if (keyGoodAt <= revision && !this.#storage.isGood(introduced.keyHash, Date.now())) {
      return new Response(null, { status: 401 });
    }

    const { 0: client, 1: server } = new WebSocketPair();
    const applied = wanted !== null && wanted <= revision ? wanted : 0;
    this.#sockets.accept(server, { ...introduced, connectedAt: Date.now(), connectedWith: revision, applied });
    const connected = this.#sockets.count();
    const hello: HelloMessage = { type: "hello", revision, reconnectWithinMs: spreadMs(connected) };
    server.send(JSON.stringify(hello));
    if (wanted !== null && wanted !== revision) {
      const run = this.#storage.runAfter(wanted);
      if (run === null) server.send(JSON.stringify(resync(revision, spreadMs(connected))));
      else for (const { message } of run) server.send(message);
    }
    this.#reportGrowth();
    return new Response(null, { status: 101, webSocket: client });
  }

  /** Who finds this relay full is told how many there are by now, which the hub is asked for at most once a second. */
  async #refuse(reason: NonNullable<ReturnType<Crowd["refusal"]>>): Promise<Response> {
    const headers = new Headers({ "retry-after": String(Math.ceil(spreadMs(this.#sockets.count()) / 1_000)) });
    if (reason !== "full") return new Response(reason, { status: 429, headers });
    const isOld = Date.now() - this.#above.heardAt > FULL_ASKS_MS;
    if (isOld || this.#telling !== null) await within(this.#tell(), RELAY_CHECK_MS, "upstream").catch(() => {});
    headers.set(RELAYS_HEADER, String(this.#storage.standing.relays[this.#place().region] ?? 1));
    return new Response(reason, { status: 503, headers });
  }

  async #arrival<T>(arrive: () => Promise<T>): Promise<T> {
    this.#arriving++;
    try {
      return await arrive();
    } finally {
      this.#arriving--;
    }
  }

  // Sockets, also after hibernation.

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    const client = this.#sockets.of(socket);
    const told = acknowledgementIn(message);
    // Nobody has applied what was not yet sent: a receipt must not be had by claiming it.
    const applied = Math.min(told?.applied ?? 0, this.#storage.revision ?? 0);
    const now = Date.now();
    if (told !== null && applied > client.applied) {
      this.#tally(() => this.#tallies.applied(client, applied, now - told.waitedMs));
      this.#sockets.hasApplied(socket, applied);
    } else if (this.#sockets.isFlooding(socket, now)) this.#sockets.close(socket, TOO_MUCH, "too many messages");
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    this.#left(socket);
    // 1005, 1006 and 1015 say how a close was seen and cannot be sent.
    this.#sockets.close(socket, code === 1005 || code === 1006 || code === 1015 ? 1000 : code, "closed");
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.#left(socket);
    this.#sockets.close(socket, 1011, "error");
  }

  #left(socket: WebSocket): void {
    this.#sockets.left(socket);
    this.#tally(() => this.#tallies.left(this.#sockets.of(socket)));
  }

  #tally(change: () => void): void {
    change();
    const now = Date.now();
    const inMs = this.#tallies.saveInMs(now);
    if (inMs === 0) this.#tallies.save(now);
    else if (inMs !== null) this.#alarm.wake(inMs);
  }

  // What can wait: an alarm at a time does all of it that is due.

  override async alarm(): Promise<void> {
    this.#alarm.wentOff();
    this.#tallies.save(Date.now());
    this.#cutSlow();
    try {
      if (Date.now() - this.#roundAt < ROUND_MS / 2) await this.#children.refresh(this.#storage.revision ?? 0);
      else await this.#round();
    } finally {
      if (this.#storage.revision !== null) this.#alarm.wake(ROUND_MS);
    }
  }

  /** Cuts who has been silent too long, hears whether anything was missed, and goes when nobody needs this relay. */
  async #round(): Promise<void> {
    const now = Date.now();
    this.#roundAt = now;
    this.#sockets.recount();
    this.#above.forgetSnapshot();
    this.#crowd.cutEnded(now);
    const isNeeded = this.#arriving > 0 || this.#sockets.open().length > 0 || !this.#children.isEmpty;
    if (!isNeeded && now - this.#askedAt > ROUND_MS) return this.#leave();
    // Those below do not wait for those above, who may not answer.
    await Promise.all([this.#children.refresh(this.#storage.revision ?? 0), this.#attach()]);
    this.#crowd.cutExcess();
  }

  async #leave(): Promise<void> {
    const left = this.#above.detach(this.#place());
    this.#children.forget();
    this.#tallies.forget();
    await this.#storage.forget();
    this.#alarm.wentOff();
    await left;
  }

  // How many.

  #limits(): Limits {
    const { RELAY_CAP, CLIENTS_PER_KEY, CLIENTS_PER_ENVIRONMENT } = this.env;
    return { relay: Number(RELAY_CAP), key: Number(CLIENTS_PER_KEY), environment: Number(CLIENTS_PER_ENVIRONMENT) };
  }

  #report(): Report {
    const place = this.#place();
    const { connected, keys } = this.#children.sum();
    const own = this.#sockets.byKey();
    addKeys(own, Object.entries(keys));
    this.#reported = connected + this.#sockets.openCount;
    const { region } = place;
    const revision = this.#storage.revision ?? 0;
    return { name: relayName(place), region, revision, connected: this.#reported, keys: mostUsed(own) };
  }

  /** The hub makes room before there is none. */
  #reportGrowth(): void {
    if (this.#hasGrown()) this.ctx.waitUntil(this.#tell());
  }

  /** Until those above know how many there are now: what came while they were told is told as well. */
  #tell(): Promise<void> {
    this.#telling ??= this.#tellAll();
    return this.#telling;
  }

  async #tellAll(): Promise<void> {
    try {
      do await this.#attach();
      while (this.#hasGrown());
    } catch {
      // Then the next round tells.
    } finally {
      this.#telling = null;
    }
  }

  #hasGrown(): boolean {
    const connected = this.#children.sum().connected + this.#sockets.openCount;
    return worthReporting(this.#reported, connected, Number(this.env.RELAY_CAP));
  }

  // Deliveries.

  /** Passes on what fits on top of what every socket has. Whether the relay has it now. */
  #take(delivery: Delivery, standing: Standing): boolean {
    const { revision } = this.#storage;
    if (delivery.previous === revision) this.#pass([{ delivery, standing, sentTo: undefined }]);
    return this.#storage.revision !== null && this.#storage.revision >= delivery.revision;
  }

  /** Children come first, in a step of their own: the runtime sends what leaves in one step with thousands of sockets after them. */
  async #passQueued(): Promise<void> {
    if (!this.#children.isEmpty) await scheduler.wait(0);
    const run = await this.#queue.next(() => this.#storage.revision);
    if (run.length > 0) this.#pass(run);
  }

  /** Sends to the children that are not in `sentTo`, and to all sockets; ends the sockets of keys that ended. */
  #pass(run: QueuedDelivery[]): void {
    for (const { delivery, standing, sentTo } of run) this.#children.deliver(delivery, standing, sentTo);
    let connected = 0;
    const messages = mergeMessages(run.map(({ delivery }) => delivery));
    for (const message of messages) connected = this.#sockets.sendToAll(message);
    for (const { delivery } of run) {
      this.#crowd.take(delivery.keys);
      this.#storage.log(delivery);
      this.#tallies.begin(delivery.revision, delivery.publishedAt, connected, Date.now());
    }
    this.#queue.setSocketCount(connected);
    this.#crowd.sent(run.at(-1)!, Date.now());
    this.#cutSlow();
  }

  #cutSlow(): void {
    const againInMs = this.#crowd.cutSlow(Date.now());
    if (againInMs !== null) this.#alarm.wake(againInMs);
  }

  /** What lies between cannot be told: every socket fetches the ruleset, if its key is still good. */
  #leapTo(revision: number, keys: KeyEnds): void {
    if (this.#storage.revision !== null && revision <= this.#storage.revision) return;
    this.#storage.leapTo(revision, keys);
    this.#crowd.cutAllBut(keys);
    this.#sockets.sendToAll(JSON.stringify(resync(revision, spreadMs(this.#sockets.open().length))));
    this.ctx.waitUntil(this.#children.refresh(revision));
  }

  // Upwards.

  /** Whether this relay knows where its environment stands; false where there is none. `known` is what the asker has. */
  async #current(known: number): Promise<boolean> {
    const { revision } = this.#storage;
    const trusted = Date.now() - this.#above.heardAt < TRUSTED_MS;
    if (trusted && revision !== null && revision >= known) return true;
    if (revision === null) return this.#attach();
    // Nobody above who answers is no reason to turn clients away.
    return within(this.#attach(), RELAY_CHECK_MS, "upstream").catch(() => true);
  }

  async #attach(): Promise<boolean> {
    return this.#above.attach(
      this.#place(),
      () => this.#report(),
      ({ revision, deliveries, keys, standing }) => {
        // A delivery may have passed meanwhile: only what still fits on top is taken.
        if (deliveries === null) this.#leapTo(revision, keys ?? {});
        else for (const delivery of deliveries) this.#take(delivery, standing);
        this.#storage.stand(standing);
        this.#alarm.wake(ROUND_MS);
      },
    );
  }

  async #lackedBy(revision: number): Promise<Since> {
    await this.#above.fill(this.#place(), revision);
    const deliveries = this.#storage.runAfter(revision);
    const latest = this.#storage.revision as number;
    return deliveries === null
      ? { revision: latest, deliveries, keys: this.#storage.keyEnds() }
      : { revision: latest, deliveries };
  }

  #place(): Place {
    const { name } = this.ctx.id;
    if (name === undefined) throw new Error("A relay is addressed by name");
    return placeOf(name);
  }
}
