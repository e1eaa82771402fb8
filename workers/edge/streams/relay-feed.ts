/**
 * One stream of a client that is bridged here: its socket at the relay tells that there is something new, the isolate's
 * ruleset tells what. Holds that socket, the timers that keep it, and lets go of all of them at the end.
 */
import {
  type GoodbyeMessage,
  HEARTBEAT_SECONDS,
  type HelloMessage,
  PING,
  PONG,
  type ServerMessage,
} from "@bunting/core/wire";
import { KEY_REVOKED } from "../../../durable-objects/fan-out/handshake.ts";
import type { Caller } from "../authenticate.ts";
import { allowsOrigin } from "../cors.ts";
import { EARLY_MS, isolateRuleset } from "../ruleset/cache.ts";
import type { IsolateRuleset } from "../ruleset/isolate-ruleset.ts";
import { filtersReady } from "../ruleset/segment-filters.ts";
import { MAX_LIFE_MS, MIN_LIFE_MS, sinceOf } from "./ruleset-stream.ts";

/** What becomes of it. None of these may throw. */
export type Outlet = {
  hello(message: HelloMessage): void;
  /** The ruleset has moved, or `look()` was called. It is at least at the revision that the relay told last. */
  advance(ruleset: IsolateRuleset): void | Promise<void>;
  heartbeat(): void;
  goodbye(message: GoodbyeMessage): void;
  /** Called once, with the close code of whichever side ended it. */
  end(code: number, reason: string): void;
};

/** A relay that this isolate asks may be a hop behind the one that spoke. */
const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 1_000;
const RENEW_WITHIN_MS = 5_000;
/**
 * A client that comes back may have heard more than the relay here, which is told all in about 2 s: it is not told what is
 * older than that. What nobody can have heard yet is not waited for.
 */
const AHEAD = { atMost: 1_000, waitMs: 2_000 };

export class RelayFeed {
  readonly #upstream: WebSocket;
  readonly #caller: Caller;
  readonly #request: Request;
  readonly #outlet: Outlet;
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  #wanted = 0;
  /** What the client says that it has, and until when the ruleset is to reach it first. */
  #ahead = { revision: 0, until: 0 };
  #looks = 0;
  #busy = false;
  #ended = false;

  /** Of `request`: the client's revision, its origin, and when it has gone. */
  constructor(upstream: WebSocket, caller: Caller, request: Request, outlet: Outlet) {
    this.#upstream = upstream;
    this.#caller = caller;
    this.#request = request;
    this.#outlet = outlet;
  }

  start(): void {
    const upstream = this.#upstream;
    const gone = this.#request.signal;
    upstream.addEventListener("message", ({ data }) => {
      if (typeof data === "string" && data !== PONG) this.#receive(headOf(data), data);
    });
    upstream.addEventListener("close", ({ code, reason }) => this.end(code, reason));
    upstream.addEventListener("error", () => this.end(1011, "relay"));
    gone.addEventListener("abort", () => this.end(1001, "client gone"));
    upstream.accept();
    // Gone while the relay was asked: an event that has happened is not told again.
    if (gone.aborted) {
      this.end(1001, "client gone");
      return;
    }
    this.#timers.push(
      setInterval(() => {
        upstream.send(PING);
        this.#outlet.heartbeat();
      }, HEARTBEAT_SECONDS * 1_000),
      setTimeout(() => this.renew(), MIN_LIFE_MS + Math.random() * (MAX_LIFE_MS - MIN_LIFE_MS)),
    );
  }

  /** Asks for `advance`, though the ruleset may not have moved. What the relay says first asks for it anyway. */
  look(): void {
    this.#looks++;
    if (this.#wanted > 0) void this.#catchUp();
  }

  /** The client is to come back. */
  renew(): void {
    if (this.#ended) return;
    this.#outlet.goodbye({ type: "goodbye", withinMs: RENEW_WITHIN_MS, reason: "renew" });
    this.end(1000, "renew");
  }

  end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
    try {
      this.#upstream.close(1000, "client gone");
    } catch {
      // Already closed.
    }
    this.#outlet.end(code, reason);
  }

  #receive({ type, revision }: Head, data: string): void {
    if (this.#ended) return;
    if (type === "hello") this.#outlet.hello(JSON.parse(data) as HelloMessage);
    if (type === "goodbye") this.#outlet.goodbye(JSON.parse(data) as GoodbyeMessage);
    if (type === "resync") {
      // All of a large change costs each stream an evaluation of everything: not all of them at once.
      const { withinMs } = JSON.parse(data) as Extract<ServerMessage, { type: "resync" }>;
      this.#timers.push(setTimeout(() => this.#want(revision), Math.random() * withinMs));
    } else this.#want(revision);
  }

  #want(revision: number): void {
    if (revision <= this.#wanted) return;
    if (this.#wanted === 0) {
      const since = sinceOf(this.#request) ?? 0;
      if (since <= revision + AHEAD.atMost) this.#ahead = { revision: since, until: Date.now() + AHEAD.waitMs };
    }
    this.#wanted = revision;
    this.look();
  }

  /** One at a time. What is wanted meanwhile is done in the same or in one more round. */
  async #catchUp(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    const { visit, environmentId, keyHash } = this.#caller;
    let pauseMs = FIRST_RETRY_MS;
    for (let done = 0; done < this.#looks && !this.#ended; ) {
      const looks = this.#looks;
      try {
        const ahead = Date.now() < this.#ahead.until ? this.#ahead.revision : 0;
        const ruleset = await isolateRuleset(visit, environmentId, ({ evaluator: { revision } }) => {
          if (revision < this.#wanted) return -1;
          return revision < ahead ? EARLY_MS : Number.POSITIVE_INFINITY;
        });
        if (ruleset === null) return this.end(1001, "no such environment");
        const grant = ruleset.keys[keyHash];
        if (grant !== undefined && !allowsOrigin(grant, this.#request.headers.get("origin"))) {
          return this.end(KEY_REVOKED, "origin");
        }
        if (ruleset.evaluator.revision >= Math.max(this.#wanted, ahead)) {
          await filtersReady(visit, ruleset);
          if (!this.#ended) await this.#outlet.advance(ruleset);
          done = looks;
          continue;
        }
      } catch (error) {
        const message = "a stream cannot catch up";
        console.warn(JSON.stringify({ level: "warn", message, error: String(error) }));
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      pauseMs = Math.min(pauseMs * 2, LAST_RETRY_MS);
    }
    this.#busy = false;
  }
}

type Head = { type: string; revision: number };

/** Messages begin with their type and revision: reading those spares parsing 64 KB for every stream. */
function headOf(message: string): Head {
  const [, type, revision] = /^\{"type":"(\w+)"(?:,"revision":(\d+))?/.exec(message) ?? [];
  return { type: type ?? "message", revision: Number(revision ?? 0) };
}
