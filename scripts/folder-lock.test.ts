import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { takeLock } from "./folder-lock.ts";

const newFile = () => {
  const folder = mkdtempSync(join(tmpdir(), "bunting-lock-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return join(folder, "below", "lock");
};
const url = "http://localhost:8787";

test("a lock that is held is not given to another, who learns by whom and where", () => {
  const file = newFile();
  expect(takeLock(file, url)).toBeNull();
  expect(takeLock(file, "http://localhost:9999")).toEqual({ pid: process.pid, url });
});

test("a lock of a process that is gone, or one that was cut short, is taken over", () => {
  const file = newFile();
  const gone = spawnSync(process.execPath, ["-e", ""]).pid;
  expect(takeLock(file, url)).toBeNull();
  for (const left of [JSON.stringify({ pid: gone, url }), "", "{", "null"]) {
    writeFileSync(file, left);
    expect([left, takeLock(file, url)]).toEqual([left, null]);
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({ pid: process.pid, url });
  }
});

test("the lock ends with its process", async () => {
  const file = newFile();
  const code = `import { takeLock } from ${JSON.stringify(new URL("./folder-lock.ts", import.meta.url).href)};
    console.log(takeLock(${JSON.stringify(file)}, "x")); process.stdin.once("data", () => process.exit(0));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code]);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  expect(takeLock(file, url)).toEqual({ pid: child.pid, url: "x" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.stdin.end("end");
  await ended;
  expect(existsSync(file)).toBe(false);
});
