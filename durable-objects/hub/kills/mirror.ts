/** Tells D1 of kills and restores, in order, each until it has it. Late or twice changes nothing there. */
import { Circuit, D1_BREAKING, D1_FIRST_MS, within } from "../../../workers/platform/deadline.ts";
import type { Database } from "../../../workers/store/database.ts";
import { mirrorKill } from "../../../workers/store/kills.ts";
import { mirrorOf } from "./kill.ts";
import type { KillLog } from "./log.ts";

export class KillMirror {
  readonly #db: Database;
  readonly #log: KillLog;
  readonly #d1 = new Circuit("D1", D1_BREAKING);
  #telling: Promise<void> | null = null;

  constructor(db: Database, log: KillLog) {
    this.#db = db;
    this.#log = log;
  }

  /** All that D1 has not been told. One at a time, for all who ask: what is decided meanwhile is told as well. */
  tell(environmentId: string): Promise<void> {
    this.#telling ??= this.#tellAll(environmentId).finally(() => {
      this.#telling = null;
    });
    return this.#telling;
  }

  /** For a kill's own answer: not awaited while D1 is known to be away, and never for long. */
  tellSoon(environmentId: string): Promise<void> {
    return this.#d1.through(() => within(this.tell(environmentId), D1_FIRST_MS, "D1"));
  }

  async #tellAll(environmentId: string): Promise<void> {
    for (let records = this.#log.unmirrored(); records.length > 0; records = this.#log.unmirrored()) {
      for (const record of records) {
        const { kill, audit } = mirrorOf(environmentId, record);
        await mirrorKill(this.#db, kill, audit);
        this.#log.markMirrored(record.seq);
      }
    }
  }
}
