/** Flags over plain HTTP, without an SDK, as a mobile app would ask for them: docs/polling.md says why each step is there. */
import { readFile, rename, writeFile } from "node:fs/promises";

type Flag = { value: unknown; variation: string | null };
type Kept = { body: string; etag: string; flags: Record<string, Flag> };
type Options = { url: string; clientKey: string; context: { targetingKey: string }; file: string };

const POLL_MS = 30_000;
const LONGEST_MS = 600_000;

export class PolledFlags {
  readonly #options: Options;
  readonly #body: string;
  #kept: Kept | null = null;
  #failures = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#body = JSON.stringify({ context: options.context });
  }

  /** At the start, before the first answer: what was known when the app ran last, if it was for the same user. */
  async restore(): Promise<void> {
    const kept = await readFile(this.#options.file, "utf8").then(JSON.parse, () => null);
    if (kept?.body === this.#body) this.#kept = kept;
  }

  value<Value>(key: string, defaultValue: Value): Value {
    const { flags = {} } = this.#kept ?? {};
    const flag = Object.hasOwn(flags, key) ? flags[key] : undefined;
    const usable = flag && flag.variation !== null && typeof flag.value === typeof defaultValue;
    return usable ? (flag.value as Value) : defaultValue;
  }

  /** Asks once, and answers the milliseconds until it should be asked again. Whatever happens, the last values stay. */
  async poll(): Promise<number> {
    const { url, clientKey } = this.#options;
    const headers = new Headers({ Authorization: `Bearer ${clientKey}`, "Content-Type": "application/json" });
    if (this.#kept !== null) headers.set("If-None-Match", this.#kept.etag);
    const request = { method: "POST", headers, body: this.#body, signal: AbortSignal.timeout(10_000) };
    const answer = await fetch(`${url}/client/v1/flags`, request).catch(() => null);
    const answered = answer?.status === 200 ? ((await answer.json().catch(() => null)) as Pick<Kept, "flags">) : null;
    const etag = answer?.headers.get("ETag") ?? "";
    if (answered) await this.#keep({ body: this.#body, etag, flags: answered.flags });
    const fine = answered || answer?.status === 304;
    this.#failures = fine ? 0 : this.#failures + 1;
    const wait = Math.min(LONGEST_MS, POLL_MS * 2 ** this.#failures) * (0.8 + 0.4 * Math.random());
    return Math.max(wait, 1_000 * Number(answer?.headers.get("Retry-After") ?? 0));
  }

  async #keep(kept: Kept): Promise<void> {
    this.#kept = kept;
    await writeFile(`${this.#options.file}.new`, JSON.stringify(kept))
      .then(() => rename(`${this.#options.file}.new`, this.#options.file))
      .catch(() => {});
  }
}
