/** Writes kills and restores to D1, in order. Writing one late or twice changes nothing there. */
import { Circuit, D1_BREAKING, D1_FIRST_MS, within } from "../../../workers/platform/deadline.ts";
import type { Database } from "../../../workers/store/database.ts";
import { mirrorKill } from "../../../workers/store/kills.ts";
import { toMirror } from "./kill.ts";
import type { KillLog } from "./log.ts";

export class KillMirror {
  readonly #db: Database;
  readonly #log: KillLog;
  readonly #d1 = new Circuit("D1", D1_BREAKING);
  #mirroring: Promise<void> | null = null;

  constructor(db: Database, log: KillLog) {
    this.#db = db;
    this.#log = log;
  }

  /** Mirrors everything that D1 lacks. Concurrent calls share one run, which includes what is decided meanwhile. */
  mirror(environmentId: string): Promise<void> {
    this.#mirroring ??= this.#mirrorAll(environmentId).finally(() => {
      this.#mirroring = null;
    });
    return this.#mirroring;
  }

  /** The same, for a kill's response: it fails fast while D1 keeps failing, and after D1_FIRST_MS. */
  mirrorSoon(environmentId: string): Promise<void> {
    return this.#d1.through(() => within(this.mirror(environmentId), D1_FIRST_MS, "D1"));
  }

  async #mirrorAll(environmentId: string): Promise<void> {
    for (let records = this.#log.unmirrored(); records.length > 0; records = this.#log.unmirrored()) {
      for (const record of records) {
        const { kill, audit } = toMirror(environmentId, record);
        await mirrorKill(this.#db, kill, audit);
        this.#log.markMirrored(record.seq);
      }
    }
  }
}
