/** The last ruleset outside the isolate, for isolates that start while Bunting is slow or away. */
import type { Ruleset } from "@bunting/core";
import { type Clock, pause } from "../sync/clock.ts";
import type { Fetch } from "../transports/protocol.ts";
import { readRuleset } from "../transports/ruleset-protocol.ts";
import type { RequestContext, Take } from "./revalidator.ts";

/** What is used of a KV namespace. */
export type KVBinding = {
  getWithMetadata(key: string, type: "text"): Promise<{ value: string | null; metadata: unknown }>;
  put(key: string, value: string, options: { metadata: Label }): Promise<void>;
};

type Label = { revision: number; etag: string | null };
/** `label` alone where the rest would be thrown away. */
type Place = {
  label(): Promise<Label | null>;
  read(): Promise<{ text: string; label: Label } | null>;
  write(text: string, label: Label): Promise<void>;
};

/** A write costs money in KV, where a key also takes no more than one a second, from everywhere together. */
const WRITE_EVERY_MS = 60_000;
/** All isolates receive a change at about the same time: most of them shall find it written. */
const SPREAD_MS = 5_000;
const YEAR_SECONDS = 31_536_000;

/** Keeps the text of what the server answered, as it answered it, with its ETag: an isolate that starts costs a 304. */
export class RulesetCache {
  readonly #place: Place;
  readonly #clock: Clock;
  readonly #random: () => number;
  /** The ETag of what was restored, until the server has answered. */
  #restored: string | null = null;
  #answered: { text: string; etag: string | null } | null = null;
  #unwritten: { text: string; label: Label } | null = null;
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(place: Place, clock: Clock, random: () => number) {
    this.#place = place;
    this.#clock = clock;
    this.#random = random;
  }

  /** Gives what there is to `take`, which says whether it is evaluated with. Never rejects. */
  async read(take: Take): Promise<void> {
    try {
      const kept = await this.#place.read();
      const read = kept === null ? null : readRuleset(kept.text);
      if (kept === null || read === null || typeof read === "string") return;
      if (read.ruleset.revision === kept.label.revision && take(read.ruleset)) this.#restored = kept.label.etag;
    } catch {
      // A cache that cannot be used is none.
    }
  }

  /** `fetch`, by which the first answer may be that what was restored is still right, and the others are remembered. */
  remembering(fetch: Fetch): Fetch {
    return async (url, init) => {
      if (!url.includes("/sdk/v1/ruleset")) return fetch(url, init);
      const headers = this.#restored === null ? init.headers : { "If-None-Match": this.#restored, ...init.headers };
      const response = await fetch(url, { ...init, headers });
      const read = response.text.bind(response);
      response.text = async () => {
        const text = await read();
        this.#answered = { text, etag: response.headers.get("ETag") };
        this.#restored = null;
        return text;
      };
      return response;
    };
  }

  /** The last answer is what is evaluated with now. */
  changed(current: () => Ruleset): void {
    if (this.#answered === null) return;
    const { text, etag } = this.#answered;
    this.#answered = null;
    this.#unwritten = { text, label: { revision: current().revision, etag } };
  }

  /** With a request that has the time: writes what is new, if it is time and nobody else has. */
  keep(ctx: RequestContext): void {
    const now = this.#clock.elapsed();
    if (this.#unwritten === null || now < this.#notBefore) return;
    this.#notBefore = now + WRITE_EVERY_MS;
    ctx.waitUntil(this.#write());
  }

  async #write(): Promise<void> {
    await pause(this.#clock, SPREAD_MS * this.#random());
    const kept = this.#unwritten;
    if (kept === null) return;
    this.#unwritten = null;
    try {
      const there = await this.#place.label();
      if (there === null || there.revision < kept.label.revision) await this.#place.write(kept.text, kept.label);
    } catch {
      // Nothing is lost but a cache: the next revision is another attempt.
    }
  }
}

/** In a namespace of the customer's, for all places: written by whoever is first, read everywhere within a minute. */
export function inKV(kv: KVBinding, environment: string): Place {
  const key = `bunting:${environment}`;
  const read = async () => {
    const { value, metadata } = await kv.getWithMetadata(key, "text");
    return value === null || !isLabel(metadata) ? null : { text: value, label: metadata };
  };
  return {
    read,
    label: async () => (await read())?.label ?? null,
    write: (text, label) => kv.put(key, text, { metadata: label }),
  };
}

/** In the data centre, by the Cache API: free, and apart from what the zone caches, so that no visitor can request it. */
export function inDataCentre(storage: Pick<CacheStorage, "open">, environment: string): Place {
  const url = `https://bunting.invalid/${environment}`;
  const match = async () => {
    const response = await (await storage.open("bunting")).match(url);
    const label = {
      revision: Number(response?.headers.get("X-Revision") ?? "none"),
      etag: response?.headers.get("ETag"),
    };
    return response !== undefined && isLabel(label) ? { response, label } : null;
  };
  return {
    async label() {
      const found = await match();
      await found?.response.body?.cancel();
      return found?.label ?? null;
    },
    async read() {
      const found = await match();
      return found === null ? null : { text: await found.response.text(), label: found.label };
    },
    async write(text, { revision, etag }) {
      const headers = new Headers({ "Cache-Control": `max-age=${YEAR_SECONDS}`, "X-Revision": String(revision) });
      if (etag !== null) headers.set("ETag", etag);
      await (await storage.open("bunting")).put(url, new Response(text, { headers }));
    },
  };
}

function isLabel(value: unknown): value is Label {
  if (typeof value !== "object" || value === null) return false;
  const { revision, etag } = value as Partial<Label>;
  return Number.isSafeInteger(revision) && (typeof etag === "string" || etag === null);
}
