/** One server to a folder: two would write the same database files, and each other's `.bunting/dev.json`. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

export type Holder = { pid: number; url: string };

/**
 * Takes the lock until this process ends, or answers who has it. One whose process is gone is taken over: a machine may
 * have lost its power.
 */
export function takeLock(file: string, url: string): Holder | null {
  mkdirSync(dirname(file), { recursive: true });
  for (;;) {
    try {
      writeFileSync(file, JSON.stringify({ pid: process.pid, url } satisfies Holder), { flag: "wx" });
    } catch {
      const holder = readHolder(file);
      if (holder !== null && isRunning(holder.pid)) return holder;
      rmSync(file, { force: true });
      continue;
    }
    process.on("exit", () => {
      if (readHolder(file)?.pid === process.pid) rmSync(file, { force: true });
    });
    return null;
  }
}

/** Null where there is none, or one that was cut short. */
function readHolder(file: string): Holder | null {
  try {
    const { pid, url } = JSON.parse(readFileSync(file, "utf8")) as Partial<Holder>;
    return Number.isInteger(pid) ? { pid: pid!, url: String(url) } : null;
  } catch {
    return null;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It runs as somebody else.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
