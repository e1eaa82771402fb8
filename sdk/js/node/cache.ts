/** The last ruleset in a file, for processes that start while everything else is down. Any number of processes may share it. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { MissingFilter, Ruleset } from "@bunting/core";
import { type Clock, pause } from "../sync/clock.ts";
import { readRuleset } from "../transports/ruleset-protocol.ts";
import { readShared, replaceShared } from "./files.ts";

const PIECE_CHARACTERS = 65_536;
/** Changes that come sooner are written together. */
const WRITE_EVERY_MS = 1_000;

/**
 * `bunting-<environment>.ruleset` in a directory: a line that says what it is, the ruleset, and a checksum of both.
 * It is replaced by renaming, so that readers see the old one or the new one. Mode 0600, because it holds rules.
 */
export class RulesetFile {
  readonly #directory: string;
  readonly #name: string;
  readonly #environment: string;
  readonly #clock: Clock;
  readonly #warn: (message: string) => void;
  #current: (() => Ruleset) | null = null;
  #writing: Promise<void> | null = null;
  #hurry: (() => void) | null = null;
  #flushing = false;
  #failing = false;
  /** What is there cannot be used, whatever its first line says. */
  #isDamaged = false;

  constructor(directory: string, environment: string, clock: Clock, warn: (message: string) => void) {
    this.#directory = directory;
    this.#environment = environment;
    this.#name = `bunting-${environment}.ruleset`;
    this.#clock = clock;
    this.#warn = warn;
  }

  /** Null where there is none that can be used: one warning says why, unless there simply is none. */
  read(): Ruleset | null {
    const path = join(this.#directory, this.#name);
    try {
      return this.#parse(readShared(path));
    } catch (error) {
      if ((error as { code?: string }).code === "ENOENT") return null;
      this.#isDamaged = true;
      this.#warn(`the cache ${path} was ignored: ${reasonOf(error)}`);
      return null;
    }
  }

  /** Writes soon and in the background; `current` is called when the write begins. */
  changed(current: () => Ruleset): void {
    this.#current = current;
    this.#writing ??= this.#write();
  }

  /** Resolves once the newest ruleset has been written. */
  async flush(): Promise<void> {
    this.#flushing = true;
    this.#hurry?.();
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#current !== null) {
      const ruleset = this.#current();
      this.#current = null;
      try {
        await this.#replace(ruleset);
        this.#failing = false;
      } catch (error) {
        if (!this.#failing)
          this.#warn(`the cache ${join(this.#directory, this.#name)} could not be written: ${reasonOf(error)}`);
        this.#failing = true;
      }
      if (this.#flushing) continue;
      // Spread, so that of many processes one writes and the others find it written.
      const patience = pause(this.#clock, WRITE_EVERY_MS * (1 + Math.random()));
      await Promise.race([patience, new Promise<void>((resolve) => (this.#hurry = resolve))]);
      this.#hurry = null;
    }
    this.#writing = null;
  }

  async #replace(ruleset: Ruleset): Promise<void> {
    // Before anything is awaited: the dictionaries go on changing, the documents in them do not.
    const { revision } = ruleset;
    const still = { ...ruleset, flags: { ...ruleset.flags }, segments: { ...ruleset.segments } };
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, this.#name);
    if (!this.#isDamaged && (await this.#revisionIn(path)) >= revision) return;
    await replaceShared(path, pieces(`${this.#title}${revision}\n`, still));
    this.#isDamaged = false;
  }

  get #title(): string {
    return `bunting-ruleset 1 ${this.#environment} `;
  }

  /** As the first line says; -1 where there is no such file. */
  async #revisionIn(path: string): Promise<number> {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => null);
    if (file === null) return -1;
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0);
      return this.#revisionOf(buffer.toString("latin1", 0, bytesRead));
    } catch {
      return -1;
    } finally {
      await file.close();
    }
  }

  #revisionOf(text: string): number {
    const [, title = "", revision = "-1"] = /^(bunting-ruleset 1 \S+ )(\d+)\n/.exec(text) ?? [];
    return title === this.#title ? Number(revision) : -1;
  }

  #parse(content: Buffer): Ruleset {
    const text = content.toString();
    if (this.#revisionOf(text.slice(0, 256)) < 0) throw new Error("it is of another environment or version");
    const read = readRuleset(text.slice(text.indexOf("\n")));
    if (typeof read === "string") throw new Error(read);
    return read.ruleset;
  }
}

/** The filters of big segments (EV-20), the latest of each: without them a cached ruleset could not say who is in. */
export class FilterFiles {
  readonly #directory: string;
  readonly #environment: string;
  readonly #warn: (message: string) => void;

  constructor(directory: string, environment: string, warn: (message: string) => void) {
    this.#directory = directory;
    this.#environment = environment;
    this.#warn = warn;
  }

  /** Null where that generation is not there whole. */
  read(missing: MissingFilter): Uint8Array | null {
    try {
      const content = readShared(this.#path(missing));
      const title = this.#title(missing);
      const isIt = content.subarray(0, title.length).equals(title);
      return isIt && content.length === title.length + missing.bytes ? content.subarray(title.length) : null;
    } catch {
      return null;
    }
  }

  /** In the background; never rejects. */
  async write(missing: MissingFilter, filter: Uint8Array): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await replaceShared(this.#path(missing), [this.#title(missing), filter]);
    } catch (error) {
      this.#warn(`the filter of segment ${missing.segment} could not be kept: ${reasonOf(error)}`);
    }
  }

  #path({ segment }: MissingFilter): string {
    const name = createHash("sha256").update(segment).digest("hex").slice(0, 32);
    return join(this.#directory, `bunting-${this.#environment}.${name}.filter`);
  }

  #title({ url }: MissingFilter): Buffer {
    return Buffer.from(`bunting-filter 1 ${this.#environment} ${url}\n`);
  }
}

/** The JSON of a ruleset in pieces of about 64 KB, of which none is longer by more than one document. */
function* pieces(title: string, { flags, segments, ...rest }: Ruleset): Generator<string> {
  let piece = `${title}${JSON.stringify(rest).slice(0, -1)}`;
  for (const [name, documents] of Object.entries({ flags, segments })) {
    piece += `,"${name}":{`;
    let comma = "";
    for (const [key, document] of Object.entries(documents)) {
      piece += `${comma}${JSON.stringify(key)}:${JSON.stringify(document)}`;
      comma = ",";
      if (piece.length < PIECE_CHARACTERS) continue;
      yield piece;
      piece = "";
    }
    piece += "}";
  }
  yield `${piece}}`;
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
