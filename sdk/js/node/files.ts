/** Files that many processes share: whole or not there, and only their owner's. */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Several times the largest ruleset or filter that a deployment serves. */
const MAX_BYTES = 64 * 1_048_576;
/** A line break and SHA-256 of what is before it. */
const CHECKSUM_BYTES = 65;
/** A temporary file of this age belongs to a process that died in the middle. */
const LEFT_BEHIND_MS = 3_600_000;

const checksumOf = (hash: ReturnType<typeof createHash>): string => `\n${hash.digest("hex")}`;

/** @throws Error that says why it cannot be used; its `code` is ENOENT where there is none. */
export function readShared(path: string): Buffer {
  const bytes = readWhole(path);
  const content = bytes.subarray(0, -CHECKSUM_BYTES);
  if (bytes.subarray(-CHECKSUM_BYTES).toString("latin1") !== checksumOf(createHash("sha256").update(content)))
    throw new Error("it is truncated or was modified");
  return content;
}

function readWhole(path: string): Buffer {
  // A pipe in the file's place would be waited for, but for O_NONBLOCK.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const about = fstatSync(file);
    const { size, uid } = about;
    if (!about.isFile()) throw new Error("it is not a regular file");
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

/** Puts a new file in place of the old one, piece by piece, so that a large one does not hold the process up. Mode 0600. */
export async function replaceShared(path: string, pieces: Iterable<string | Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
  const file = await open(temporary, "wx", 0o600);
  try {
    try {
      const hash = createHash("sha256");
      for (const piece of pieces) {
        hash.update(piece);
        await file.writeFile(piece);
      }
      await file.writeFile(checksumOf(hash));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await removeLeftBehind(path);
}

async function removeLeftBehind(path: string): Promise<void> {
  const directory = dirname(path);
  const now = (await stat(path)).mtimeMs;
  for (const name of await readdir(directory)) {
    if (!name.startsWith(`${basename(path)}.`) || !name.endsWith(".tmp")) continue;
    const { mtimeMs } = await stat(join(directory, name)).catch(() => ({ mtimeMs: now }));
    if (now - mtimeMs > LEFT_BEHIND_MS) await rm(join(directory, name), { force: true });
  }
}
