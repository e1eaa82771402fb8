/** A process whose output a test waits for. */
import { type ChildProcess, spawn } from "node:child_process";

export class Watched {
  output = "";
  readonly process: ChildProcess;
  #waiting: { pattern: RegExp; from: number; resolve: (line: string) => void }[] = [];

  constructor(args: string[], options: { cwd: string; env?: Record<string, string> }) {
    this.process = spawn(process.execPath, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on("data", (chunk) => {
        this.output += chunk;
        this.#look();
      });
    }
  }

  /** The first line after `from` that matches. Rejects with everything that was printed when time is up. */
  line(pattern: RegExp, { from = 0, withinMs = 60_000 } = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`No line ${pattern} in:\n${this.output.slice(from)}`)), withinMs);
      this.#waiting.push({
        pattern,
        from,
        resolve: (line) => {
          clearTimeout(timer);
          resolve(line);
        },
      });
      this.#look();
    });
  }

  /** The exit code, once the process has ended by itself. */
  ended(): Promise<number | null> {
    const { exitCode, signalCode } = this.process;
    if (exitCode !== null || signalCode !== null) return Promise.resolve(exitCode);
    return new Promise((resolve) => this.process.on("exit", resolve));
  }

  end(signal: NodeJS.Signals = "SIGINT"): Promise<number | null> {
    const ended = this.ended();
    this.process.kill(signal);
    return ended;
  }

  #look(): void {
    this.#waiting = this.#waiting.filter(({ pattern, from, resolve }) => {
      const line = this.output
        .slice(from)
        .split("\n")
        .find((candidate) => pattern.test(candidate));
      if (line !== undefined) resolve(line);
      return line === undefined;
    });
  }
}
