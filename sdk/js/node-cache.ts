/** The last ruleset in a file, for processes that start while everything else is down. Any number of processes may share it. */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Ruleset } from "@bunting/core";
import { type Clock, pause } from "./clock.ts";
import { readRuleset } from "./ruleset-dialect.ts";

/** Several times the largest ruleset that a deployment serves. */
const MAX_BYTES = 64 * 1_048_576;
const PIECE_CHARACTERS = 65_536;
/** Changes that come sooner are written together. */
const WRITE_EVERY_MS = 1_000;
/** A temporary file of this age belongs to a process that died in the middle. */
const LEFT_BEHIND_MS = 3_600_000;
const CHECKSUM_BYTES = 65;

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
  #settling = false;
  #failing = false;

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
      return this.#parse(readWhole(path));
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT")
        this.#warn(`the cache ${path} was ignored: ${reasonOf(error)}`);
      return null;
    }
  }

  /** Writes soon and in the background; what `current` answers is asked for then. */
  changed(current: () => Ruleset): void {
    this.#current = current;
    this.#writing ??= this.#write();
  }

  /** Once what is known now has been written. */
  async settle(): Promise<void> {
    this.#settling = true;
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
      if (this.#settling) continue;
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
    if ((await this.#revisionIn(path)) >= revision) return;
    const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
    const file = await open(temporary, "wx", 0o600);
    try {
      try {
        await this.#fill(file, still);
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await this.#tidy((await stat(path)).mtimeMs);
  }

  /** Piece by piece: a large ruleset must not hold the process up. */
  async #fill(file: FileHandle, ruleset: Ruleset): Promise<void> {
    const hash = createHash("sha256");
    const write = async (text: string) => {
      hash.update(text);
      await file.writeFile(text);
    };
    await write(`${this.#title}${ruleset.revision}\n`);
    for (const piece of pieces(ruleset)) await write(piece);
    await file.writeFile(`\n${hash.digest("hex")}`);
    await file.datasync();
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

  #parse(bytes: Buffer): Ruleset {
    const body = bytes.subarray(0, -CHECKSUM_BYTES);
    const checksum = bytes.subarray(-CHECKSUM_BYTES).toString("latin1");
    if (checksum !== `\n${createHash("sha256").update(body).digest("hex")}`)
      throw new Error("it was cut off or changed");
    const text = body.toString();
    if (this.#revisionOf(text.slice(0, 256)) < 0) throw new Error("it is of another environment or version");
    const read = readRuleset(text.slice(text.indexOf("\n")));
    if (typeof read === "string") throw new Error(read);
    return read.ruleset;
  }

  async #tidy(now: number): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!name.startsWith(`${this.#name}.`) || !name.endsWith(".tmp")) continue;
      const path = join(this.#directory, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: now }));
      if (now - mtimeMs > LEFT_BEHIND_MS) await rm(path, { force: true });
    }
  }
}

function readWhole(path: string): Buffer {
  // A pipe in the file's place would be waited for, but for O_NONBLOCK.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const about = fstatSync(file);
    const { size, uid } = about;
    if (!about.isFile()) throw new Error("it is no file");
    // In a directory that anybody may write to, anybody could decide what the flags say.
    if (uid !== 0 && process.getuid !== undefined && uid !== process.getuid())
      throw new Error("it belongs to another user");
    if (size > MAX_BYTES) throw new Error(`it is larger than ${MAX_BYTES} bytes`);
    const bytes = Buffer.alloc(size);
    let length = 0;
    for (let read = -1; read !== 0 && length < size; length += read)
      read = readSync(file, bytes, length, size - length, length);
    return bytes.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/** The JSON of a ruleset in pieces of about 64 KB, of which none is longer by more than one document. */
function* pieces({ flags, segments, ...rest }: Ruleset): Generator<string> {
  let piece = JSON.stringify(rest).slice(0, -1);
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
