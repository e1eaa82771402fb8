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
import { filtersReady } from "./filters.ts";
import { type IsolateRuleset, isolateRuleset, type Visit } from "./isolate-ruleset.ts";
import { MAX_LIFE_MS, MIN_LIFE_MS } from "./stream.ts";

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

export class RelayFeed {
  readonly #upstream: WebSocket;
  readonly #visit: Visit;
  readonly #environmentId: string;
  readonly #outlet: Outlet;
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  #wanted = 0;
  #looks = 0;
  #busy = false;
  #ended = false;

  constructor(upstream: WebSocket, visit: Visit, environmentId: string, outlet: Outlet) {
    this.#upstream = upstream;
    this.#visit = visit;
    this.#environmentId = environmentId;
    this.#outlet = outlet;
  }

  /** `gone` is the client's request: it may have ended while the relay was asked. */
  start(gone: AbortSignal): void {
    const upstream = this.#upstream;
    const outlet = this.#outlet;
    upstream.addEventListener("message", ({ data }) => {
      if (typeof data === "string" && data !== PONG) this.#hear(headOf(data), data);
    });
    upstream.addEventListener("close", ({ code, reason }) => this.end(code, reason));
    upstream.addEventListener("error", () => this.end(1011, "relay"));
    gone.addEventListener("abort", () => this.end(1001, "client gone"));
    upstream.accept();
    // An event that has happened is not told again.
    if (gone.aborted) {
      this.end(1001, "client gone");
      return;
    }
    const renew = () => {
      outlet.goodbye({ type: "goodbye", withinMs: RENEW_WITHIN_MS, reason: "renew" });
      this.end(1000, "renew");
    };
    this.#timers.push(
      setInterval(() => {
        upstream.send(PING);
        outlet.heartbeat();
      }, HEARTBEAT_SECONDS * 1_000),
      setTimeout(renew, MIN_LIFE_MS + Math.random() * (MAX_LIFE_MS - MIN_LIFE_MS)),
    );
  }

  /** Asks for `advance`, though the ruleset may not have moved. What the relay says first asks for it anyway. */
  look(): void {
    this.#looks++;
    if (this.#wanted > 0) void this.#catchUp();
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

  #hear({ type, revision }: Head, data: string): void {
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
    this.#wanted = revision;
    this.look();
  }

  /** One at a time. What is wanted meanwhile is done in the same or in one more round. */
  async #catchUp(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    let pauseMs = FIRST_RETRY_MS;
    for (let done = 0; done < this.#looks && !this.#ended; ) {
      const looks = this.#looks;
      try {
        const ruleset = await isolateRuleset(this.#visit, this.#environmentId, (held) =>
          held.evaluator.revision < this.#wanted ? -1 : Number.POSITIVE_INFINITY,
        );
        if (ruleset === null) return this.end(1001, "no such environment");
        if (ruleset.evaluator.revision >= this.#wanted) {
          await filtersReady(this.#visit, ruleset);
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
